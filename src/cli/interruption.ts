const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Settings of an {@link Interruption}. */
interface InterruptionOptions {
  /**
   * True for a command that changes nothing: without a reader of its output it may end at once.
   * Default: false
   */
  readonly onlyShows?: boolean;
}

/** Turns Ctrl-C and the signals that ask a process to end into an abort. */
export class Interruption implements Disposable {
  /** The interruptions that are not disposed of, and whose work must not end halfway. */
  static readonly #working = new Set<Interruption>();

  readonly #controller = new AbortController();
  readonly #listener = (): void => {
    // At the second signal the process ends at once. The sweeper removes what it leaves behind.
    if (this.#controller.signal.aborted) process.exit(1);
    this.#controller.abort();
  };

  /**
   * Aborts all work that must not end halfway, as a signal does.
   *
   * @returns false if there is none
   */
  static abortWork(): boolean {
    for (const each of Interruption.#working) each.#controller.abort();
    return Interruption.#working.size > 0;
  }

  constructor({ onlyShows = false }: InterruptionOptions = {}) {
    if (!onlyShows) Interruption.#working.add(this);
    for (const signal of SIGNALS) process.on(signal, this.#listener);
  }

  /** Aborts at the first signal. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Gives the signals their ordinary effect again. */
  [Symbol.dispose](): void {
    Interruption.#working.delete(this);
    for (const signal of SIGNALS) process.off(signal, this.#listener);
  }
}
