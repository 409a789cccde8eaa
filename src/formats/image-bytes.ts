import { readFully, type PositionalReader } from "../bytes/positional-io.ts";

// The farthest mark is ISO 9660's at 32 KiB. The header extensions of a qcow2 are in its first
// cluster, which usually has 64 KiB.
const FIRST_BYTES = 64 * 1024;

// Tables are read piece by piece, so that they never take more memory than this.
const PIECE_BYTES = 256 * 1024;

// The end of a VMDK stream is three sectors: a marker, the footer, a marker. A fixed VHD and a DMG
// carry their mark in the last.
const LAST_BYTES = 3 * 512;

/**
 * The size of a disk of raw bytes, as a guest sees it: whole sectors, the last one filled up with
 * zeros.
 */
export function wholeSectors(sizeBytes: number): number {
  return Math.ceil(sizeBytes / 512) * 512;
}

/**
 * The failure of an image whose structures cannot be read. Its message is a clause such as "its vdi
 * header is cut off".
 */
export class BrokenImage extends Error {
  /** True if bytes are missing; false if the bytes that are there are invalid. */
  readonly isCutOff: boolean;

  constructor(reason: string, { isCutOff = false } = {}) {
    super(reason);
    this.name = "BrokenImage";
    this.isCutOff = isCutOff;
  }
}

/** The bytes of an image. It reads only the requested ones, and counts them. */
export class ImageBytes {
  readonly sizeBytes: number;
  /** Up to 64 KiB from the start. */
  readonly first: Buffer;
  /** Up to three sectors at the end. */
  readonly last: Buffer;
  readonly #reader: PositionalReader;
  #bytesRead: number;

  private constructor(reader: PositionalReader, sizeBytes: number, first: Buffer, last: Buffer) {
    this.#reader = reader;
    this.sizeBytes = sizeBytes;
    this.first = first;
    this.last = last;
    this.#bytesRead = first.length + last.length;
  }

  /** Reads both ends of an image. */
  static async open(reader: PositionalReader, sizeBytes: number): Promise<ImageBytes> {
    const first = await readAt(reader, 0, Math.min(FIRST_BYTES, sizeBytes));
    const lastBytes = Math.min(LAST_BYTES, sizeBytes);
    const last = await readAt(reader, sizeBytes - lastBytes, lastBytes);
    return new ImageBytes(reader, sizeBytes, first, last);
  }

  /** The number of bytes that were read so far. */
  get bytesRead(): number {
    return this.#bytesRead;
  }

  /** The last sector of 512 bytes; shorter when the image is. */
  get lastSector(): Buffer {
    return this.last.subarray(Math.max(0, this.last.length - 512));
  }

  /**
   * Reads exactly `lengthBytes`.
   *
   * @param what - for the error: "vdi header"
   * @param position - as a header states it: it may be outside of the image
   * @throws BrokenImage when the image ends earlier
   */
  async read(what: string, position: bigint | number, lengthBytes: number): Promise<Buffer> {
    const end = BigInt(position) + BigInt(lengthBytes);
    if (end > BigInt(this.sizeBytes)) {
      throw new BrokenImage(
        `its ${what} is cut off: it ends at byte ${String(end)}, but the file ends at byte ${String(this.sizeBytes)}`,
        { isCutOff: true },
      );
    }
    if (end <= BigInt(this.first.length)) return this.first.subarray(Number(position), Number(end));
    const buffer = await readAt(this.#reader, Number(position), lengthBytes);
    this.#bytesRead += buffer.length;
    if (buffer.length === lengthBytes) return buffer;
    throw new BrokenImage(`its ${what} is cut off: the image became shorter`, { isCutOff: true });
  }

  /**
   * Reads a table of any length, piece by piece.
   *
   * @returns pieces of up to 256 KiB, with their places in the table
   * @throws BrokenImage when the image ends earlier
   */
  async *pieces(
    what: string,
    position: number,
    lengthBytes: number,
  ): AsyncGenerator<{ readonly piece: Buffer; readonly at: number }> {
    for (let at = 0; at < lengthBytes; at += PIECE_BYTES) {
      const piece = await this.read(what, position + at, Math.min(PIECE_BYTES, lengthBytes - at));
      yield { piece, at };
    }
  }

  /** True if this many bytes at this place are inside the image. */
  holds(position: bigint | number, lengthBytes: bigint | number): boolean {
    return BigInt(position) + BigInt(lengthBytes) <= BigInt(this.sizeBytes);
  }
}

async function readAt(
  reader: PositionalReader,
  position: number,
  lengthBytes: number,
): Promise<Buffer> {
  const buffer = Buffer.alloc(lengthBytes);
  return buffer.subarray(0, await readFully(reader, buffer, position));
}
