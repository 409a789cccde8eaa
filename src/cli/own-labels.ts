/**
 * Gives each of several pieces of work a label of its own: displays know the pieces by their
 * labels.
 */
export class OwnLabels {
  readonly #taken = new Set<string>();

  /**
   * Takes the first label that no other piece has.
   *
   * @param labels - the best one first. If all are taken, a number is added to the last one
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
