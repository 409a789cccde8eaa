const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Turns the wish of a person to stop (Ctrl-C, or a signal that asks to end) into an abort. */
export class Interruption implements Disposable {
  readonly #controller = new AbortController();
  readonly #listener = (): void => {
    // A second wish: whoever is asked twice has been too slow. What is left behind is found and
    // removed later.
    if (this.#controller.signal.aborted) process.exit(1);
    this.#controller.abort();
  };

  constructor() {
    for (const signal of SIGNALS) process.on(signal, this.#listener);
  }

  /** Aborts at the first wish. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Signals have their ordinary effect again. */
  [Symbol.dispose](): void {
    for (const signal of SIGNALS) process.off(signal, this.#listener);
  }
}
