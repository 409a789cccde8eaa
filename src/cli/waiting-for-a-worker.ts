import type { Answering } from "./session.ts";

/**
 * The line that the user sees while no worker answers.
 *
 * @param task - the work after which the worker answers, such as "finish the undo". Default: none
 */
export function waitingForAWorker(task?: string): string {
  const worker = task === undefined ? "a worker" : `a worker to ${task}`;
  return `waiting for ${worker}; \`image-import doctor\` shows whether one runs`;
}

// A running worker answers within moments. Shorter than the limit of a query.
const WORD_AFTER_MS = 2_500;

/**
 * Runs a request to a worker; while none answers, the terminal says so.
 *
 * @param task - as in {@link waitingForAWorker}
 */
export async function withWordOfWaiting<T>(
  session: Pick<Answering, "progress">,
  work: () => Promise<T>,
  task?: string,
): Promise<T> {
  const word = setTimeout(() => {
    session.progress.note(waitingForAWorker(task));
  }, WORD_AFTER_MS);
  try {
    return await work();
  } finally {
    clearTimeout(word);
  }
}
