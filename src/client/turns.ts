import { sleep } from "./sleep.ts";

/** Turns of several callers, one after another, with a least distance in time. */
export class Turns {
  readonly #everyMs: number;
  #nextAtMs = 0;

  constructor(everyMs: number) {
    this.#everyMs = everyMs;
  }

  /** Waits for the turn of the caller, or until the signal is aborted. */
  async next(signal: AbortSignal): Promise<void> {
    const nowMs = Date.now();
    const atMs = Math.max(nowMs, this.#nextAtMs);
    this.#nextAtMs = atMs + this.#everyMs;
    if (atMs > nowMs) await sleep(atMs - nowMs, signal);
  }
}
