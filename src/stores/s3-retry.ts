import { setTimeout as sleep } from "node:timers/promises";
import { LONGEST_WAIT_MS, S3Failure } from "./s3-failure.ts";

const TRIES = 5;
const FIRST_WAIT_MS = 500;

/**
 * Does some work up to five times, with growing waits, while its failures are passing ones. It is
 * for requests that send or receive a stream; the SDK repeats all others itself.
 *
 * @throws the signal's reason when it is aborted, else the last failure
 */
export async function retryPassing<T>(
  work: () => Promise<T>,
  signal: AbortSignal | undefined,
): Promise<T> {
  for (let tries = 1; ; tries += 1) {
    try {
      return await work();
    } catch (error) {
      signal?.throwIfAborted();
      if (tries === TRIES || !(error instanceof S3Failure && error.isPassing)) throw error;
      await waitBeforeNext(tries, error.retryAfterMs, signal);
    }
  }
}

/**
 * Waits as long as the server asks, up to 30 s; else about twice as long after each try, with some
 * chance in it, so that many clients do not come back at once.
 *
 * @param tries - number of tries so far
 * @throws the signal's reason when it is aborted
 */
export async function waitBeforeNext(
  tries: number,
  retryAfterMs: number | undefined,
  signal: AbortSignal | undefined,
): Promise<void> {
  const grownMs = FIRST_WAIT_MS * 2 ** (tries - 1) * (0.5 + Math.random() / 2);
  const waitMs = Math.min(retryAfterMs ?? grownMs, LONGEST_WAIT_MS);
  await sleep(waitMs, undefined, signal && { signal }).catch(() => undefined);
  signal?.throwIfAborted();
}
