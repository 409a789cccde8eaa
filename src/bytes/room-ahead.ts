// Rarely enough for a database, and never for so much that others of the same owner miss it for
// long.
const LONGEST_STEP_BYTES = 64 * 1024 * 1024;

/**
 * Asks for the room of bytes whose number nobody knows, before they are written: for a few at
 * first, then for as many again as there are, 64 MiB at most.
 */
export class RoomAhead {
  readonly #grow: (growth: { imageBytes: number; welcomeBytes: number }) => Promise<number>;
  #grantedBytes: number;

  /**
   * @param grow - grants room for `imageBytes` in all or throws, and up to `welcomeBytes` where
   *   there is that much; says for how many
   * @param grantedBytes - for how many there is room already
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
