import { setTimeout as sleep } from "node:timers/promises";

/**
 * Does work again and again until the signal is aborted. The next begins some time after the last
 * has ended. It does not keep the process alive.
 *
 * @param everyMs - the pause between two of them
 * @param work - never rejects
 * @param begin - `later`: with a pause
 */
export async function repeat(
  everyMs: number,
  signal: AbortSignal,
  work: () => Promise<void>,
  begin: "now" | "later" = "now",
): Promise<void> {
  const pause = async (): Promise<void> =>
    sleep(everyMs, undefined, { signal, ref: false }).catch(() => undefined);
  if (begin === "later") await pause();
  while (!signal.aborted) {
    await work();
    await pause();
  }
}
