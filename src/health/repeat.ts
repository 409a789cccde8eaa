import { setTimeout as sleep } from "node:timers/promises";

/**
 * Repeats work until the signal is aborted, with a pause after each time. The pauses do not keep
 * this process alive.
 *
 * @param everyMs - the pause, in ms
 * @param work - must not reject
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
