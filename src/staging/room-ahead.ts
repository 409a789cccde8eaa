// Rarely enough for a database, and never so much that other images of the same owner miss it for
// long.
const LONGEST_STEP_BYTES = 64 * 1024 * 1024;

/**
 * Reserves quota ahead of a write whose final size is unknown: for a few bytes at first, then for
 * as many again as there are, 64 MiB at most.
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

  /** Waits until there is room for so many bytes in all. @throws what `grow` throws */
  async reach(imageBytes: number): Promise<void> {
    if (imageBytes <= this.#grantedBytes) return;
    const aheadBytes = Math.min(imageBytes, LONGEST_STEP_BYTES);
    this.#grantedBytes = await this.#grow({ imageBytes, welcomeBytes: imageBytes + aheadBytes });
  }
}
