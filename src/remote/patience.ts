import { setTimeout as sleep } from "node:timers/promises";
import { ImportError } from "../domain/import-failure.ts";
import { isUnavailable } from "./api-connection.ts";

const FIRST_PAUSE_MS = 250;
const LONGEST_PAUSE_MS = 15_000;
// About six minutes. An earlier request for this upload that is still open ends within seconds.
const MOST_REFUSALS = 30;

/** The waits between the attempts of a transfer: each is longer, until bytes move again. */
export class Patience {
  readonly #promise: string;
  readonly #note: (text: string) => void;
  readonly #signal: AbortSignal | undefined;
  #failures = 0;
  #refusals = 0;
  #isAway = false;

  /** @param promise - the end of the note, such as `the upload continues when the API answers` */
  constructor(
    promise: string,
    to: { readonly note: (text: string) => void; readonly signal?: AbortSignal | undefined },
  ) {
    this.#promise = promise;
    this.#note = to.note;
    this.#signal = to.signal;
  }

  /** Begins with the shortest wait again: bytes have moved. */
  renew(): void {
    this.#failures = 0;
    this.#refusals = 0;
    this.#isAway = false;
  }

  /**
   * Waits until the next attempt. While the API is unreachable, the number of attempts has no
   * limit.
   *
   * @throws the failure, if another attempt would fail, too, or if it is the 31st refusal in a row;
   *   the reason of the signal
   */
  async wait(failure: unknown): Promise<void> {
    this.#signal?.throwIfAborted();
    if (isUnavailable(failure)) {
      if (!this.#isAway) this.#note(`${(failure as ImportError).message}; ${this.#promise}`);
      this.#isAway = true;
      // An API that starts again may refuse until its database has started, too.
      this.#refusals = 0;
    } else {
      if (!mayPass(failure) || this.#refusals >= MOST_REFUSALS) throw failure;
      this.#refusals += 1;
    }
    const pauseMs = Math.min(FIRST_PAUSE_MS * 2 ** this.#failures, LONGEST_PAUSE_MS);
    this.#failures += 1;
    await sleep(pauseMs, undefined, { signal: this.#signal });
  }
}

/** True for a refusal after which another attempt may succeed, because the state has changed. */
function mayPass(failure: unknown): boolean {
  if (!(failure instanceof ImportError)) return false;
  return failure.retryable || failure.code === "StagingBusy";
}
