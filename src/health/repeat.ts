import { setTimeout as sleep } from "node:timers/promises";

/**
 * Does work again and again until the signal is aborted. The next begins some time after the last
 * has ended. It does not keep the process alive.
 *
 * @param everyMs - the pause between two of them
 * @param work - never rejects
 */
export async function repeat(
  everyMs: number,
  signal: AbortSignal,
  work: () => Promise<void>,
): Promise<void> {
  while (!signal.aborted) {
    await work();
    await sleep(everyMs, undefined, { signal, ref: false }).catch(() => undefined);
  }
}
