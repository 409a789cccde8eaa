import { statSync } from "node:fs";

// Longer than a tick of any clock that file systems take times from: two changes within a tick have
// the same time.
const SETTLED_AFTER_MS = 2_000;

/** A file that is checked for changes again and again, with one system call and without a read. */
export class ChangingFile {
  readonly #path: string;
  #last = "";

  /** Does not look at the file yet. */
  constructor(path: string) {
    this.#path = path;
  }

  /** False if the file is certainly the same as at the last call. */
  mayHaveChanged(): boolean {
    const last = this.#last;
    this.#last = this.#state();
    return this.#last === "" || this.#last !== last;
  }

  /**
   * The state of the file. Empty if the file cannot be looked at, or has changed a moment ago: a
   * later change may look the same.
   */
  #state(): string {
    try {
      const { dev, ino, size, ctimeMs, mtimeNs, ctimeNs } = statSync(this.#path, { bigint: true });
      const isSettled = Date.now() - Number(ctimeMs) > SETTLED_AFTER_MS;
      return isSettled ? [dev, ino, size, mtimeNs, ctimeNs].join(" ") : "";
    } catch {
      return "";
    }
  }
}
