interface Waiter {
  resolve(): void;
  reject(reason: unknown): void;
}

/** Runs as many calls at once as there are connections; the others wait in their order. */
export class ConnectionQueue {
  readonly #waiting: Waiter[] = [];
  #free: number;

  /** @param atOnce - the largest number of calls that run at once */
  constructor(atOnce: number) {
    this.#free = atOnce;
  }

  /**
   * Runs the work when a connection is free.
   *
   * @throws the reason given to {@link rejectWaiting}; what the work throws
   */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#free > 0) this.#free -= 1;
    else await new Promise<void>((resolve, reject) => this.#waiting.push({ resolve, reject }));
    try {
      return await work();
    } finally {
      const next = this.#waiting.shift();
      if (next === undefined) this.#free += 1;
      else next.resolve();
    }
  }

  /** Rejects the calls that wait; those that run continue. */
  rejectWaiting(reason: unknown): void {
    for (const waiter of this.#waiting.splice(0)) waiter.reject(reason);
  }
}
