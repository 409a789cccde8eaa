import { formatDuration } from "../domain/duration.ts";
import type { CheckDocument } from "./health-document.ts";
import { repeat } from "./repeat.ts";

/** Settings of a {@link RepeatedCheck}. */
export interface RepeatedCheckOptions {
  /** The check. It rejects if the checked part does not work; the message is the reason. */
  readonly work: () => Promise<void>;
  /** The pause between two checks, in ms. Default: 2 s. */
  readonly everyMs?: number;
  /** A check that takes longer has failed, in ms. Default: 2 s. */
  readonly limitMs?: number;
  /** Called with the reason of each failure. */
  readonly onFailure?: (reason: string) => void;
}

/**
 * A regular check of one thing that a program needs. The last result is always available. A check
 * that hangs has failed, and no second one begins before it ends.
 */
export class RepeatedCheck {
  readonly #work: () => Promise<void>;
  readonly #everyMs: number;
  readonly #limitMs: number;
  readonly #onFailure: (reason: string) => void;
  readonly #stopping = new AbortController();
  #result: CheckDocument = {
    ok: false,
    since: new Date().toISOString(),
    reason: "It is checked for the first time",
  };

  /** A check that has not started yet. */
  constructor({
    work,
    everyMs = 2_000,
    limitMs = 2_000,
    onFailure = () => undefined,
  }: RepeatedCheckOptions) {
    this.#work = work;
    this.#everyMs = everyMs;
    this.#limitMs = limitMs;
    this.#onFailure = onFailure;
  }

  /** The result of the last check, and the time of its last change. */
  get result(): CheckDocument {
    return this.#result;
  }

  /** Checks until {@link RepeatedCheck.stop}. */
  start(): void {
    void repeat(this.#everyMs, this.#stopping.signal, () => this.#checkOnce());
  }

  /** Begins no further check. */
  stop(): void {
    this.#stopping.abort();
  }

  async #checkOnce(): Promise<void> {
    const limit = setTimeout(() => {
      this.#set(`It did not answer within ${formatDuration(this.#limitMs)}`);
    }, this.#limitMs);
    try {
      await this.#work();
      this.#set(null);
    } catch (error) {
      this.#set(error instanceof Error ? error.message : String(error));
    } finally {
      clearTimeout(limit);
    }
  }

  #set(reason: string | null): void {
    const ok = reason === null;
    const since = ok === this.#result.ok ? this.#result.since : new Date().toISOString();
    this.#result = { ok, since, reason };
    if (reason !== null) this.#onFailure(reason);
  }
}
