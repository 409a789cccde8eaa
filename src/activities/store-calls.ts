import { formatDuration } from "../domain/duration.ts";
import { ImportError } from "../domain/import-failure.ts";

/** Settings of {@link StoreCalls}. */
export interface StoreCallsOptions {
  /** Time limit of a call, in ms. The call itself continues in the background. */
  readonly limitMs: number;
  /** Limit of unanswered calls of one store; further calls are rejected. */
  readonly atOnce: number;
}

// Removing takes milliseconds, and seconds of the largest files; four are half of the slots of a
// worker's clean-up, so that one store which does not answer leaves the other half to the rest.
const REMOVALS: StoreCallsOptions = { limitMs: 20_000, atOnce: 4 };
// Time that a call of a store may take before the limit of unanswered calls applies, in ms.
const SLOW_MS = 2_000;
// Time after which a call counts as lost, with its connection or mount, in ms.
const FORGOTTEN_MS = 300_000;
// The wait before a retry, in ms: short, because the store may only be busy.
const RETRY_AFTER_MS = 2_000;

/**
 * Calls of stores that may hang: a mount whose server is unreachable, a bucket that accepts the
 * connection and never responds. Each call has a time limit, and calls of a store that does not
 * answer are rejected at once. So the steps that wait for one store leave slots of this worker to
 * the steps of other stores.
 */
export class StoreCalls {
  readonly #options: StoreCallsOptions;
  readonly #begun = new Map<string, Set<number>>();
  readonly #silent = new Set<string>();

  /** @param options - default: those of removals, 20 s and four at once */
  constructor(options: StoreCallsOptions = REMOVALS) {
    this.#options = options;
  }

  /**
   * Makes a call of a store.
   *
   * @throws ImportError `StoreUnavailable`, retried, when the store does not answer in time or has
   *   not answered calls before; what the call throws
   */
  async run<T>(store: string, call: () => Promise<T>): Promise<T> {
    this.#requireAnswering(store);
    const begun = this.#begun.get(store) ?? new Set();
    this.#begun.set(store, begun);
    // Distinguishes calls that begin at the same time.
    const sinceMs = performance.now() + begun.size / 1_000_000;
    begun.add(sinceMs);
    const called = call().finally(() => {
      begun.delete(sinceMs);
      this.#silent.delete(store);
    });
    let timer: NodeJS.Timeout | undefined;
    const limit = new Promise<never>((_resolve, reject) => {
      timer = setTimeout(() => {
        this.#silent.add(store);
        const { limitMs } = this.#options;
        reject(unavailable(store, `it did not answer within ${formatDuration(limitMs)}`));
      }, this.#options.limitMs);
    });
    try {
      return await Promise.race([called, limit]);
    } finally {
      clearTimeout(timer);
    }
  }

  #requireAnswering(store: string): void {
    const nowMs = performance.now();
    const ages = [...(this.#begun.get(store) ?? [])].map((sinceMs) => nowMs - sinceMs);
    const waiting = ages.filter((ageMs) => ageMs < FORGOTTEN_MS);
    const most = this.#silent.has(store) ? 1 : this.#options.atOnce;
    const isSlow = this.#silent.has(store) || waiting.some((ageMs) => ageMs > SLOW_MS);
    if (waiting.length < most || !isSlow) return;
    throw unavailable(store, `it has not answered earlier calls (${String(waiting.length)})`);
  }
}

function unavailable(store: string, reason: string): ImportError {
  return new ImportError("StoreUnavailable", `Cannot use store "${store}": ${reason}`, {
    retryAfterMs: RETRY_AFTER_MS,
  });
}
