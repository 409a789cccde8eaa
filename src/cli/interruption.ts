const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Turns Ctrl-C and the signals that ask a process to end into an abort. */
export class Interruption implements Disposable {
  readonly #controller = new AbortController();
  readonly #listener = (): void => {
    // At the second signal the process ends at once. The sweeper removes what it leaves behind.
    if (this.#controller.signal.aborted) process.exit(1);
    this.#controller.abort();
  };

  constructor() {
    for (const signal of SIGNALS) process.on(signal, this.#listener);
  }

  /** Aborts at the first signal. */
  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** Gives the signals their ordinary effect again. */
  [Symbol.dispose](): void {
    for (const signal of SIGNALS) process.off(signal, this.#listener);
  }
}
