import { sleep } from "../client/sleep.ts";

// A service that answers does so within moments.
const LAST_ANSWER_MS = 1_500;

/**
 * Waits for work. Once the user wants to leave, it waits for a moment only: an unreachable service
 * may take much longer.
 *
 * @returns undefined if the user left before the work ended, or if it failed after that
 */
export async function untilLeft<Result>(
  work: Promise<Result>,
  signal: AbortSignal,
): Promise<Result | undefined> {
  const over = new AbortController();
  const left = (async (): Promise<undefined> => {
    await aborted(signal, over.signal);
    await sleep(LAST_ANSWER_MS, over.signal);
  })();
  try {
    return await Promise.race([work, left]);
  } catch (error) {
    if (signal.aborted) return undefined;
    throw error;
  } finally {
    over.abort();
  }
}

async function aborted(signal: AbortSignal, over: AbortSignal): Promise<void> {
  const either = AbortSignal.any([signal, over]);
  if (either.aborted) return;
  await new Promise((resolve) => {
    either.addEventListener("abort", resolve, { once: true });
  });
}
