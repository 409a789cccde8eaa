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

  /** The farthest end so far, in bytes from the start of the file. */
  get bytes(): number {
    return this.#endBytes;
  }

  /**
   * Notes that something must be in the file.
   *
   * @param what - for the message: "qcow2 L2 table"
   * @param endBytes - its end; rounded beyond 2^53, which is after the end of any file
   * @returns true if the file has it
   */
  reach(what: string, endBytes: number): boolean {
    if (endBytes > this.#endBytes) {
      this.#endBytes = endBytes;
      this.#what = what;
    }
    return endBytes <= this.#image.sizeBytes;
  }

  /**
   * The reason why the image is incomplete; undefined when the file has everything that was noted.
   */
  get problem(): Finding | undefined {
    const { sizeBytes } = this.#image;
    if (this.#endBytes <= sizeBytes) return undefined;
    return cutOff(
      `it is cut off: its last ${this.#what} ends at byte ${this.#endBytes}, but the file ends at byte ${sizeBytes}`,
    );
  }
}
