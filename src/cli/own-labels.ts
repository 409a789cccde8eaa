/**
 * The labels of several pieces of work, each of them another: displays know the pieces by their
 * labels.
 */
export class OwnLabels {
  readonly #taken = new Set<string>();

  /**
   * Takes the first label that no other piece has.
   *
   * @param labels - the best one first; the last one is made longer if it is taken, too
   */
  take(...labels: readonly string[]): string {
    let label = labels.find((each) => !this.#taken.has(each)) ?? labels.at(-1) ?? "";
    for (let count = 2; this.#taken.has(label); count += 1) {
      label = `${labels.at(-1) ?? ""} (${String(count)})`;
    }
    this.#taken.add(label);
    return label;
  }
}
