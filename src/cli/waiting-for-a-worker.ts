import type { Answering } from "./session.ts";

/** The line that the user sees while no worker answers. */
export const WAITING_FOR_A_WORKER =
  "waiting for a worker; `image-import doctor` shows whether one runs";

// A running worker answers within moments. Shorter than the limit of a query.
const WORD_AFTER_MS = 2_500;

/** Runs a request to a worker; while none answers, the terminal says so. */
export async function withWordOfWaiting<T>(
  session: Pick<Answering, "progress">,
  work: () => Promise<T>,
): Promise<T> {
  const word = setTimeout(() => {
    session.progress.note(WAITING_FOR_A_WORKER);
  }, WORD_AFTER_MS);
  try {
    return await work();
  } finally {
    clearTimeout(word);
  }
}
