import { cutOff, type Finding } from "./detector.ts";
import type { ImageBytes } from "./image-bytes.ts";

/** The farthest byte that the tables of an image refer to. */
export class DataEnd {
  readonly #image: ImageBytes;
  #what = "";
  #endBytes = 0;

  constructor(image: ImageBytes) {
    this.#image = image;
  }

  /** Where the farthest thing so far ends, in bytes from the start of the file. */
  get bytes(): number {
    return this.#endBytes;
  }

  /**
   * Notes that something must be in the file.
   *
   * @param what - for the message: "qcow2 L2 table"
   * @param endBytes - where it ends; beyond 2^53 rounded, which is behind the end of any file
   * @returns whether the file has it
   */
  reach(what: string, endBytes: number): boolean {
    if (endBytes > this.#endBytes) {
      this.#endBytes = endBytes;
      this.#what = what;
    }
    return endBytes <= this.#image.sizeBytes;
  }

  /** Why the image is not complete; undefined when the file has everything that was noted. */
  get problem(): Finding | undefined {
    const { sizeBytes } = this.#image;
    if (this.#endBytes <= sizeBytes) return undefined;
    return cutOff(
      `it is cut off: its last ${this.#what} ends at byte ${this.#endBytes}, and the file at byte ${sizeBytes}`,
    );
  }
}
