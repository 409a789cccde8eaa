import { formatBytes } from "../domain/byte-size.ts";
import { formatDuration } from "../domain/duration.ts";

interface Sample {
  readonly atMs: number;
  readonly doneBytes: number;
}

// Long enough that one slow block does not show, short enough that a store that slows down does.
const WINDOW_MS = 10_000;
// Before that a rate would be a guess.
const SHORTEST_MS = 2_000;

/**
 * How fast a piece of work goes, by what it did in the last ten seconds, and how long it will take
 * at that rate.
 */
export class Pace {
  #samples: Sample[] = [];

  /** So many bytes are done now. Fewer than before: it began again, and so does the pace. */
  observe(doneBytes: number, atMs: number): void {
    const last = this.#samples.at(-1);
    if (last !== undefined && doneBytes < last.doneBytes) this.#samples = [];
    this.#samples.push({ atMs, doneBytes });
    while (this.#samples.length > 2 && (this.#samples[1]?.atMs ?? atMs) <= atMs - WINDOW_MS) {
      this.#samples.shift();
    }
  }

  /** `, 250 MiB/s, 11.2 s left`; empty as long as nobody can tell. */
  describe(totalBytes: number | undefined): string {
    const [first, last] = [this.#samples[0], this.#samples.at(-1)];
    if (first === undefined || last === undefined) return "";
    const tookMs = last.atMs - first.atMs;
    const bytesPerSecond = ((last.doneBytes - first.doneBytes) * 1000) / tookMs;
    if (tookMs < SHORTEST_MS || bytesPerSecond < 1) return "";
    const rate = `, ${formatBytes(Math.round(bytesPerSecond))}/s`;
    if (totalBytes === undefined || totalBytes <= last.doneBytes) return rate;
    const leftMs = ((totalBytes - last.doneBytes) / bytesPerSecond) * 1000;
    return `${rate}, ${formatDuration(leftMs)} left`;
  }
}
