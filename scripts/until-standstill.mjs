import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";

// A network that refuses is noticed at once; one that swallows packets must not hold up a start, and one that is only
// slow must not be given up.
const STANDSTILL_MS = 30_000;

/**
 * Runs a download for as long as what lies below `directory` grows; ends it when nothing has changed there for 30 s.
 *
 * @param directory - where the download writes
 * @param signal - ends the download, too
 * @param work - called with the signal of both; must end when it aborts
 * @returns what `work` returned, and whether a standstill ended it
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

function sizeBelow(directory) {
  try {
    const names = readdirSync(directory, { recursive: true, encoding: "utf8" });
    const sizes = names.map((name) => statSync(join(directory, name), { throwIfNoEntry: false }));
    return sizes.reduce((sum, each) => sum + (each?.size ?? 0), 0);
  } catch {
    // A directory went while it was read: asked again in a moment.
    return undefined;
  }
}
