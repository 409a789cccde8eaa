import type { Session } from "./session.ts";

/** What a person is shown while no worker answers. */
export const WAITING_FOR_A_WORKER =
  "waiting for a worker; `image-import doctor` shows whether one runs";

// A worker that runs answers within moments. Below the time after which a query without an answer
// is given up.
const WORD_AFTER_MS = 2_500;

/** Does what only a worker can answer; while none does, the terminal says so. */
export async function withWordOfWaiting<T>(session: Session, work: () => Promise<T>): Promise<T> {
  const word = setTimeout(() => {
    session.progress.note(WAITING_FOR_A_WORKER);
  }, WORD_AFTER_MS);
  try {
    return await work();
  } finally {
    clearTimeout(word);
  }
}
