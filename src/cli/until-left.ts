import { sleep } from "../client/sleep.ts";

// A service that answers does so within moments.
const LAST_ANSWER_MS = 1_500;

/**
 * Waits for work, and for a moment only once the user wants to leave: an unreachable service may
 * keep it waiting much longer.
 *
 * @returns undefined if the user has left before its end, or it failed after that
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
