import type { DataEnd } from "./data-end.ts";
import type { ImageBytes } from "./image-bytes.ts";
import type { Extent, VhdxLayout } from "./vhdx-layout.ts";
import type { LogReplay } from "./vhdx-log.ts";

const MiB = 1024 * 1024;

// An entry of the block table has the state and the place of a block. After each chunk of blocks
// there is an entry for its bitmap.
const STATE_MASK = 7;
const FULLY_PRESENT = 6;
const PARTIALLY_PRESENT = 7;
const SECTORS_PER_CHUNK = 2 ** 23;

/** A range of the file in which no block may be. */
export interface Taken {
  readonly start: number;
  readonly end: number;
}

/** True if two ranges have a byte in common. */
export function isOverlap(one: Taken, other: Taken): boolean {
  return one.start < other.end && other.start < one.end;
}

/** A walk through the block table. */
export class BlockWalk {
  readonly #taken: readonly Taken[];
  readonly #end: DataEnd;
  readonly #grownBytes: number;
  readonly #tableAt: number;
  readonly #tableBytes: number;
  readonly #sizeBytes: number;
  readonly #blockBytes: number;
  readonly #chunk: number;
  readonly #entries: number;

  /** Takes as `grownBytes` the length of the file after a replay of its log. */
  constructor(
    blockTable: Extent,
    { disk }: VhdxLayout,
    taken: readonly Taken[],
    { end, grownBytes }: { readonly end: DataEnd; readonly grownBytes: number },
  ) {
    this.#taken = taken;
    this.#end = end;
    this.#grownBytes = grownBytes;
    this.#tableAt = Number(blockTable.position);
    this.#tableBytes = Number(blockTable.lengthBytes);
    this.#sizeBytes = Number(disk.sizeBytes);
    this.#blockBytes = disk.blockBytes;
    this.#chunk = (SECTORS_PER_CHUNK * disk.sectorBytes) / disk.blockBytes;
    const blocks = Math.ceil(this.#sizeBytes / disk.blockBytes);
    this.#entries = blocks + Math.floor((blocks - 1) / this.#chunk);
  }

  /** The finding of a table that is too small. Else notes its end. */
  get tableProblem(): string | undefined {
    if (this.#entries * 8 > this.#tableBytes)
      return "its vhdx block table is too small for its size";
    this.#end.reach("vhdx block table", this.#tableAt + this.#tableBytes);
    return undefined;
  }

  /** Walks through the table in the file. */
  async all(image: ImageBytes): Promise<string | undefined> {
    if (this.#end.problem !== undefined) return undefined;
    const pieces = image.pieces("vhdx block table", this.#tableAt, this.#entries * 8);
    for await (const { piece, at } of pieces) {
      const problem = this.#entriesProblem(piece, at / 8);
      if (problem !== undefined) return problem;
    }
    return undefined;
  }

  /** Walks through the entries that the log would write into the table. */
  logged(replay: LogReplay | undefined): string | undefined {
    for (const { position, data } of replay?.writes ?? []) {
      const from = Math.max(position, this.#tableAt);
      const to = Math.min(position + (data?.length ?? 0), this.#tableAt + this.#entries * 8);
      if (data === undefined || from >= to) continue;
      const problem = this.#entriesProblem(
        data.subarray(from - position, to - position),
        (from - this.#tableAt) / 8,
      );
      if (problem !== undefined) return problem;
    }
    return undefined;
  }

  #entriesProblem(entries: Buffer, first: number): string | undefined {
    for (let at = 0; at + 8 <= entries.length; at += 8) {
      const low = entries.readUInt32LE(at);
      const state = low & STATE_MASK;
      if (state < FULLY_PRESENT) continue;
      const index = first + at / 8;
      const chunk = Math.floor(index / (this.#chunk + 1));
      // The entry of a bitmap: only a differencing image has bitmaps.
      if (index % (this.#chunk + 1) === this.#chunk) continue;
      if (state === PARTIALLY_PRESENT) return "a block of its vhdx is in a parent";
      const start = entries.readUInt32LE(at + 4) * 2 ** 32 + (low - (low % MiB));
      const end = start + this.#blockBytes;
      if (start < MiB || this.#taken.some((range) => isOverlap(range, { start, end }))) {
        return "a block of its vhdx overlaps its tables";
      }
      // The last block may be cut where the disk ends: an early QEMU wrote such images.
      const leftBytes = this.#sizeBytes - (index - chunk) * this.#blockBytes;
      const neededAt = start + Math.min(this.#blockBytes, leftBytes);
      if (neededAt > this.#grownBytes) this.#end.reach("vhdx block", neededAt);
    }
    return undefined;
  }
}
