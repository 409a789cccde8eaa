interface Sample {
  readonly atMs: number;
  readonly doneBytes: number;
}

// Long enough that one slow block does not show, short enough that a store that slows down does.
const WINDOW_MS = 10_000;
// A rate over less would be a guess.
const SHORTEST_MS = 2_000;

/** The rate of a piece of work over the last ten seconds. */
export class Pace {
  #samples: Sample[] = [];

  /** Adds a sample. With fewer bytes than before the work has restarted, and so does the pace. */
  observe(doneBytes: number, atMs: number): void {
    const last = this.#samples.at(-1);
    if (last !== undefined && doneBytes < last.doneBytes) this.#samples = [];
    this.#samples.push({ atMs, doneBytes });
    while (this.#samples.length > 2 && (this.#samples[1]?.atMs ?? atMs) <= atMs - WINDOW_MS) {
      this.#samples.shift();
    }
  }

  /** A whole number; undefined until there are enough samples. */
  get bytesPerSecond(): number | undefined {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (first === undefined || last === undefined) return undefined;
    const tookMs = last.atMs - first.atMs;
    if (tookMs < SHORTEST_MS) return undefined;
    return Math.round(((last.doneBytes - first.doneBytes) * 1000) / tookMs);
  }
}

/**
 * The time that is left at this rate, in ms.
 *
 * @returns undefined if it is unknown, or if nothing moves
 */
export function remainingMs(
  doneBytes: number,
  totalBytes: number | undefined,
  bytesPerSecond: number | undefined,
): number | undefined {
  if (totalBytes === undefined || bytesPerSecond === undefined || bytesPerSecond < 1) {
    return undefined;
  }
  return totalBytes <= doneBytes ? undefined : ((totalBytes - doneBytes) / bytesPerSecond) * 1000;
}
