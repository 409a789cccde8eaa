import type { Answering } from "./session.ts";

/**
 * The line that the user sees while no worker answers.
 *
 * @param purpose - the work after which the worker answers, such as "finish the undo". Default:
 *   none
 */
export function waitingForAWorker(purpose?: string): string {
  const worker = purpose === undefined ? "a worker" : `a worker to ${purpose}`;
  return `waiting for ${worker}; \`image-import doctor\` shows whether one runs`;
}

// A running worker answers within moments. Shorter than the limit of a query.
const WORD_AFTER_MS = 2_500;

/**
 * Runs a request to a worker; while none answers, the terminal says so.
 *
 * @param purpose - as in {@link waitingForAWorker}
 */
export async function withWordOfWaiting<T>(
  session: Pick<Answering, "progress">,
  work: () => Promise<T>,
  purpose?: string,
): Promise<T> {
  const word = setTimeout(() => {
    session.progress.note(waitingForAWorker(purpose));
  }, WORD_AFTER_MS);
  try {
    return await work();
  } finally {
    clearTimeout(word);
  }
}
