// Large enough to ask the database rarely, and small enough to leave quota to other images of the
// owner.
const LONGEST_STEP_BYTES = 64 * 1024 * 1024;

/**
 * Reserves quota ahead of a write whose final size is unknown: each time for the bytes so far and
 * as many again, at most 64 MiB more.
 */
export class RoomAhead {
  readonly #grow: (growth: { imageBytes: number; welcomeBytes: number }) => Promise<number>;
  #grantedBytes: number;

  /**
   * @param grow - grants room for `imageBytes` in all or throws, and for up to `welcomeBytes` where
   *   the quota allows it; returns the number of bytes that it granted
   * @param grantedBytes - the number of bytes that are granted already
   */
  constructor(
    grow: (growth: { imageBytes: number; welcomeBytes: number }) => Promise<number>,
    grantedBytes: number,
  ) {
    this.#grow = grow;
    this.#grantedBytes = grantedBytes;
  }

  /** Waits until room for this many bytes in all is granted. @throws what `grow` throws */
  async reach(imageBytes: number): Promise<void> {
    if (imageBytes <= this.#grantedBytes) return;
    const aheadBytes = Math.min(imageBytes, LONGEST_STEP_BYTES);
    this.#grantedBytes = await this.#grow({ imageBytes, welcomeBytes: imageBytes + aheadBytes });
  }
}
