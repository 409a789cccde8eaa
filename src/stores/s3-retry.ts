import { setTimeout as sleep } from "node:timers/promises";
import { S3Failure } from "./s3-failure.ts";

const TRIES = 5;
const FIRST_WAIT_MS = 500;
// A server that asks for more is asked again by the next attempt of the step.
const LONGEST_WAIT_MS = 30_000;

/**
 * Does something again that failed in passing, up to five times, with longer and longer waits. The
 * SDK does so by itself, but not for what is sent or received as a stream.
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
 * Waits as long as the server asks, up to 30 s, or else about twice as long after each try, so that
 * many don't come at once.
 *
 * @param tries - how many there were
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
