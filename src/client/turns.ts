/** A caller that waits for its turn. */
type Begin = () => void;

/**
 * The turns of several callers, one after another, with a minimum time between two turns. Callers
 * belong to parties, and the parties take turns: a party with many callers gets no more turns than
 * another one.
 */
export class Turns {
  readonly #everyMs: number;
  /** The parties that wait, the next one first. */
  readonly #waiting = new Map<string, Set<Begin>>();
  // A time of `performance.now()`: the wall clock may be set back.
  #nextAtMs = 0;
  #timer: NodeJS.Timeout | undefined;

  constructor(everyMs: number) {
    this.#everyMs = everyMs;
  }

  /**
   * Waits for the turn of the caller, or until the signal is aborted.
   *
   * @param party - the party of the caller. Default: one for all callers without a party
   */
  async next(signal: AbortSignal, party = ""): Promise<void> {
    if (signal.aborted) return;
    if (this.#waiting.size === 0 && performance.now() >= this.#nextAtMs) {
      this.#nextAtMs = performance.now() + this.#everyMs;
      return;
    }
    await new Promise<void>((resolve) => {
      const begin = (): void => {
        signal.removeEventListener("abort", leave);
        resolve();
      };
      const leave = (): void => {
        this.#remove(party, begin);
        begin();
      };
      signal.addEventListener("abort", leave);
      this.#waiting.set(party, (this.#waiting.get(party) ?? new Set<Begin>()).add(begin));
      this.#schedule();
    });
  }

  #remove(party: string, begin: Begin): void {
    const callers = this.#waiting.get(party);
    callers?.delete(begin);
    if (callers?.size === 0) this.#waiting.delete(party);
    if (this.#waiting.size > 0) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #schedule(): void {
    this.#timer ??= setTimeout(
      () => {
        this.#timer = undefined;
        this.#give();
      },
      Math.max(0, this.#nextAtMs - performance.now()),
    );
  }

  /**
   * Gives the turn to the first caller of the first party. The party is the last one after that.
   */
  #give(): void {
    const [first] = this.#waiting;
    if (first === undefined) return;
    const [party, callers] = first;
    const [begin] = callers;
    this.#waiting.delete(party);
    if (begin !== undefined) callers.delete(begin);
    if (callers.size > 0) this.#waiting.set(party, callers);
    this.#nextAtMs = performance.now() + this.#everyMs;
    begin?.();
    if (this.#waiting.size > 0) this.#schedule();
  }
}
