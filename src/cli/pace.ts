import { formatBytes } from "../domain/byte-size.ts";
import { formatDuration } from "../domain/duration.ts";

interface Sample {
  readonly atMs: number;
  readonly doneBytes: number;
}

// Long enough that one slow block does not show, short enough that a store that slows down does.
const WINDOW_MS = 10_000;
// A rate over less would be a guess.
const SHORTEST_MS = 2_000;

/**
 * The rate of a piece of work over the last ten seconds, and the time that it still needs at that
 * rate.
 */
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

  /** `, 250 MiB/s, 11.2 s left`; empty until there are enough samples. */
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
