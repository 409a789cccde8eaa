import { setTimeout as sleep } from "node:timers/promises";
import { ImportError } from "../domain/import-failure.ts";
import { isUnavailable } from "./api-connection.ts";

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 15_000;
// Another request of this upload that is still open gives way within seconds.
const MOST_REFUSALS = 30;

/** The waits of a transfer that goes on after failures, longer and longer while nothing moves. */
export class Patience {
  readonly #promise: string;
  readonly #note: (text: string) => void;
  readonly #signal: AbortSignal | undefined;
  #failures = 0;

  /** @param promise - what happens when the API answers again */
  constructor(
    promise: string,
    to: { readonly note: (text: string) => void; readonly signal?: AbortSignal | undefined },
  ) {
    this.#promise = promise;
    this.#note = to.note;
    this.#signal = to.signal;
  }

  /** Something has moved. */
  renew(): void {
    this.#failures = 0;
  }

  /**
   * Waits until the next attempt, which has no limit while the API does not answer.
   *
   * @throws the failure, if no attempt mends it; the reason of the signal
   */
  async wait(failure: unknown): Promise<void> {
    this.#signal?.throwIfAborted();
    const isAway = isUnavailable(failure);
    if (!isAway && !(mayPass(failure) && this.#failures < MOST_REFUSALS)) throw failure;
    if (this.#failures === 0 && isAway) {
      const { message } = failure as ImportError;
      this.#note(`${message}; ${this.#promise}`);
    }
    const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** this.#failures, LONGEST_PAUSE_MS);
    this.#failures += 1;
    await sleep(pauseMs, undefined, { signal: this.#signal });
  }
}

/** True for a refusal that may be another one, or none, when the offset is asked for again. */
function mayPass(failure: unknown): boolean {
  if (!(failure instanceof ImportError)) return false;
  return failure.retryable || failure.code === "StagingBusy";
}
