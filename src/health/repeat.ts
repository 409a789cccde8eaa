import { setTimeout as sleep } from "node:timers/promises";

/**
 * Repeats work until the signal is aborted, with a pause after each time. The pauses do not keep
 * this process alive.
 *
 * @param pauseMs - the pause, in ms; a function is asked before each one
 * @param work - must not reject
 * @param begin - `later`: begins with a pause. Default: `now`
 */
export async function repeat(
  pauseMs: number | (() => number),
  signal: AbortSignal,
  work: () => Promise<void>,
  begin: "now" | "later" = "now",
): Promise<void> {
  const pause = async (): Promise<void> => {
    const ms = typeof pauseMs === "number" ? pauseMs : pauseMs();
    await sleep(ms, undefined, { signal, ref: false }).catch(() => undefined);
  };
  if (begin === "later") await pause();
  while (!signal.aborted) {
    await work();
    await pause();
  }
}
