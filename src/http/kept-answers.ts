/** Answers that are kept for a time. If there are too many, the least recently used is dropped. */
export class KeptAnswers<Answer> {
  readonly #most: number;
  // In the order of their last use.
  readonly #answers = new Map<string, { readonly answer: Answer; readonly untilMs: number }>();

  /** @param most - the number of answers that are kept at most */
  constructor(most: number) {
    this.#most = most;
  }

  /** Finds the answer for a key, and marks it as used; undefined: none, or its time is over. */
  find(key: string): Answer | undefined {
    const kept = this.#answers.get(key);
    if (kept === undefined) return undefined;
    this.#answers.delete(key);
    if (kept.untilMs <= performance.now()) return undefined;
    this.#answers.set(key, kept);
    return kept.answer;
  }

  /**
   * Keeps an answer. It replaces an earlier one with its key.
   *
   * @param untilMs - by `performance.now()`: the wall clock may be set back
   */
  keep(key: string, answer: Answer, untilMs: number): void {
    this.#answers.delete(key);
    this.#answers.set(key, { answer, untilMs });
    const [oldest] = this.#answers.keys();
    if (this.#answers.size > this.#most && oldest !== undefined) this.#answers.delete(oldest);
  }
}
