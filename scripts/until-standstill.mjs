import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";

// Long enough for a slow network. A network that drops packets must not hold up a start for longer.
const STANDSTILL_MS = 30_000;

/**
 * Runs a download while the files below `directory` grow; ends it if nothing has changed there for
 * 30 s.
 *
 * @template Result
 * @param {string} directory - the directory of the download's files
 * @param {AbortSignal} signal - ends the download, too
 * @param {(signal: AbortSignal) => Promise<Result>} work - called with a signal that `signal` and a
 *   standstill abort; must end then
 * @returns the result of `work`; `isStalled`: true if a standstill ended it
 */
export async function untilStandstill(directory, signal, work, limitMs = STANDSTILL_MS) {
  const standstill = new AbortController();
  let [size, changedAtMs] = [0, Date.now()];
  const timer = setInterval(() => {
    const now = sizeBelow(directory) ?? size;
    if (now !== size) [size, changedAtMs] = [now, Date.now()];
    else if (Date.now() - changedAtMs >= limitMs) standstill.abort();
  }, limitMs / 30);
  try {
    const result = await work(AbortSignal.any([signal, standstill.signal]));
    return { result, isStalled: standstill.signal.aborted };
  } finally {
    clearInterval(timer);
  }
}

/** @param {string} directory */
function sizeBelow(directory) {
  try {
    const names = readdirSync(directory, { recursive: true, encoding: "utf8" });
    const sizes = names.map((name) => statSync(join(directory, name), { throwIfNoEntry: false }));
    return sizes.reduce((sum, each) => sum + (each?.size ?? 0), 0);
  } catch {
    // A directory was removed while it was read: the next look comes soon.
    return undefined;
  }
}
