import { setTimeout as sleep } from "node:timers/promises";

/**
 * Repeats work until the signal is aborted, with a pause after each time. The pauses do not keep
 * this process alive.
 *
 * @param everyMs - the pause, in ms
 * @param work - must not reject
 * @param begin - `later`: begins with a pause. Default: `now`
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
