import type { BandwidthLimit } from "./bandwidth-limit.ts";
import type { SharedBlock } from "./block-pool.ts";
import { writeFully, type PositionalWriter } from "./positional-io.ts";
import { WriteBehind } from "./write-behind.ts";
import { isZeroBlock } from "./zero-blocks.ts";

/** A file that a {@link SparseWriter} writes; a `FileHandle` open for writing is one. */
export interface SparseTarget extends PositionalWriter {
  truncate(lengthBytes: number): Promise<void>;
}

/** Settings of a {@link SparseWriter}. */
export interface SparseWriterOptions {
  /** Slows the writing down. Zero blocks take nothing from it. Default: no limit */
  readonly limiter?: BandwidthLimit | undefined;
  /**
   * Makes the bytes written so far durable. It is called after every 128 MiB, beside the writing;
   * at that moment every block that {@link SparseWriter.write} accepted is written. Default: no
   * sync
   */
  readonly sync?: (() => Promise<void>) | undefined;
  /** Ends the wait for the bandwidth. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Writes blocks into a file and leaves holes where they are zero. One write runs at a time, beside
 * the caller, who fills the next block meanwhile.
 *
 * The order of use is: {@link write} each block, then {@link end}; and {@link close} in any case,
 * before the file is closed.
 */
export class SparseWriter {
  readonly #target: SparseTarget;
  readonly #options: SparseWriterOptions;
  readonly #behind: WriteBehind;
  #writing: Promise<void> = Promise.resolve();
  #writtenBytes = 0;

  constructor(target: SparseTarget, options: SparseWriterOptions = {}) {
    this.#target = target;
    this.#options = options;
    this.#behind = new WriteBehind(options.sync ?? (() => Promise.resolve()));
  }

  /** Bytes that were really written; holes do not count. */
  get writtenBytes(): number {
    return this.#writtenBytes;
  }

  /**
   * Waits until the block before this one is written, and begins to write this one. The caller must
   * not change the block before the next call, or {@link end}, has returned.
   *
   * @returns true if the block is zero: nothing is written, and no write runs now
   * @throws the failure of the block before this one: the system's own error (`ENOSPC`, `EIO`, …),
   *   the failure of `sync`, the signal's reason
   */
  async write(block: Buffer, position: number): Promise<boolean> {
    return this.#begin(block, position, () => undefined);
  }

  /**
   * Like {@link write}, of the first `lengthBytes` of a lent block, which is held until it is
   * written. The caller may release it at once.
   */
  async writeLent(block: SharedBlock, lengthBytes: number, position: number): Promise<boolean> {
    block.retain();
    return this.#begin(block.bytes.subarray(0, lengthBytes), position, () => {
      block.release();
    });
  }

  /**
   * Waits until every block is written, and gives the file its size: it may end with a hole. The
   * last blocks are not yet synced.
   *
   * @throws as {@link write}
   */
  async end(sizeBytes: number): Promise<void> {
    await this.#writing;
    await this.#behind.end();
    await this.#target.truncate(sizeBytes);
  }

  /**
   * Waits until no write and no sync runs any more.
   *
   * @throws as {@link write}. In a `finally` this failure takes the place of the caller's own: it
   *   says what is wrong with the file that is left.
   */
  async close(): Promise<void> {
    const [written] = await Promise.allSettled([this.#writing]);
    await this.#behind.end();
    if (written.status === "rejected") throw written.reason;
  }

  async #begin(block: Buffer, position: number, release: () => void): Promise<boolean> {
    let isWriting = false;
    try {
      // Looked at while the block before it is still being written.
      const isZero = isZeroBlock(block);
      await this.#writing;
      if (isZero) {
        this.#behind.wrote(block.length);
        return true;
      }
      isWriting = true;
      this.#writing = this.#write(block, position).finally(release);
      // Until the next call awaits it, a failure must not count as an unhandled rejection.
      this.#writing.catch(() => undefined);
      return false;
    } finally {
      if (!isWriting) release();
    }
  }

  async #write(block: Buffer, position: number): Promise<void> {
    await this.#options.limiter?.take(block.length, this.#options.signal);
    await writeFully(this.#target, block, position);
    this.#writtenBytes += block.length;
    this.#behind.wrote(block.length);
  }
}
