import { BLOCK_BYTES } from "./block-size.ts";

const ZERO_BLOCK = Buffer.alloc(BLOCK_BYTES);

/** True if a block, or the shorter one at the end of a file, holds nothing but zeros. */
export function isZeroBlock(block: Buffer): boolean {
  return block.equals(ZERO_BLOCK.subarray(0, block.length));
}

/**
 * The blocks of a file that hold nothing but zeros, by their number from 0: a bit for each, 128 KiB
 * for a TiB.
 */
export class ZeroBlocks {
  #bits: Buffer;

  /** @param text - result of {@link toString}. Default: no block is known to be zero */
  constructor(text = "") {
    this.#bits = Buffer.from(text, "base64");
  }

  /** Records that a block is zero. */
  add(block: number): void {
    const index = block >> 3;
    if (index >= this.#bits.length) {
      // Doubled each time: otherwise n blocks would copy the bits n times.
      this.#bits = Buffer.concat([this.#bits, Buffer.alloc(index + 1)]);
    }
    this.#bits.writeUInt8(this.#byteAt(index) | (1 << (block & 7)), index);
  }

  /** True if a block is known to be zero. */
  has(block: number): boolean {
    return (this.#byteAt(block >> 3) & (1 << (block & 7))) !== 0;
  }

  /** The bits in base64, as the catalogue keeps them; empty if no block is zero. */
  toString(): string {
    const end = this.#bits.findLastIndex((byte) => byte !== 0) + 1;
    return this.#bits.subarray(0, end).toString("base64");
  }

  #byteAt(index: number): number {
    return this.#bits[index] ?? 0;
  }
}
