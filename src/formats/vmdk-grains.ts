import { DataEnd } from "./data-end.ts";
import { BrokenImage, type ImageBytes } from "./image-bytes.ts";

/** The tables of a sparse VMDK by its header or footer, in bytes. */
export interface VmdkLayout {
  /** The size of the disk. */
  readonly sizeBytes: number;
  readonly grainBytes: number;
  readonly entriesPerTable: number;
  /** The place of its grain directory. */
  readonly directoryAt: number;
  /** The place of the copy of the directory, which has tables of its own. */
  readonly redundantDirectoryAt?: number | undefined;
  /** True if an entry of 1 means zeros. */
  readonly hasZeroGrains: boolean;
  readonly isCompressed: boolean;
  /** True if a compressed grain begins with its length. */
  readonly hasMarkers: boolean;
}

const SECTOR_BYTES = 512;
const ZERO_GRAIN = 1;
// A marker before the data of a compressed grain: its place on the disk, 8 bytes, and its length.
const MARKER_BYTES = 12;
const MARKER_LENGTH_AT = 8;

// Programs write the tables one after the other: up to this many bytes of them are read at once.
const RUN_BYTES = 256 * 1024;

/**
 * Walks through the grain directory and its tables, and finds the farthest byte that they refer to.
 * It reads every table once: one byte in 16384 of a full disk with grains of 64 KiB.
 *
 * @throws BrokenImage when the tables overlap
 */
export async function walkGrains(image: ImageBytes, layout: VmdkLayout): Promise<DataEnd> {
  const walk = new GrainWalk(image, layout);
  await walk.directory(layout.directoryAt, { looksInside: true });
  if (layout.redundantDirectoryAt !== undefined) {
    await walk.directory(layout.redundantDirectoryAt, { looksInside: false });
  }
  await walk.lastGrain();
  return walk.end;
}

/** Grain tables one after the other. */
interface Run {
  readonly position: number;
  /** The index of the first table in the directory. */
  readonly first: number;
  readonly tables: number;
}

class GrainWalk {
  readonly end: DataEnd;
  readonly #image: ImageBytes;
  readonly #layout: VmdkLayout;
  readonly #tableBytes: number;
  readonly #tables: number;
  #readBytes = 0;
  /** The start of the last compressed grain. */
  #lastGrainAt = 0;

  constructor(image: ImageBytes, layout: VmdkLayout) {
    this.end = new DataEnd(image);
    this.#image = image;
    this.#layout = layout;
    this.#tableBytes = layout.entriesPerTable * 4;
    this.#tables = Math.ceil(layout.sizeBytes / (layout.entriesPerTable * layout.grainBytes));
  }

  /** Notes the ends of the tables and, if `looksInside`, also those of the grains. */
  async directory(position: number, { looksInside }: { looksInside: boolean }): Promise<void> {
    if (!this.end.reach("vmdk grain directory", position + this.#tables * 4)) return;
    const pieces = this.#image.pieces("vmdk grain directory", position, this.#tables * 4);
    for await (const { piece, at } of pieces) {
      for (const run of this.#runs(piece, at / 4)) {
        if (looksInside) await this.#grains(run);
      }
    }
  }

  *#runs(piece: Buffer, first: number): Generator<Run> {
    let run: Run | undefined;
    for (let at = 0; at < piece.length; at += 4) {
      const position = piece.readUInt32LE(at) * SECTOR_BYTES;
      if (position === 0) continue;
      if (!this.end.reach("vmdk grain table", position + this.#tableBytes)) continue;
      const index = first + at / 4;
      if (run !== undefined && this.#continues(run, position, index)) {
        run = { ...run, tables: run.tables + 1 };
        continue;
      }
      if (run !== undefined) yield run;
      run = { position, first: index, tables: 1 };
    }
    if (run !== undefined) yield run;
  }

  #continues({ position, first, tables }: Run, next: number, index: number): boolean {
    return (
      next === position + tables * this.#tableBytes &&
      index === first + tables &&
      (tables + 1) * this.#tableBytes <= RUN_BYTES
    );
  }

  async #grains({ position, first, tables }: Run): Promise<void> {
    const { sizeBytes, grainBytes, entriesPerTable, hasZeroGrains, isCompressed } = this.#layout;
    this.#readBytes += tables * this.#tableBytes;
    // A hostile directory could refer to the same table again and again.
    if (this.#readBytes > this.#image.sizeBytes)
      throw new BrokenImage("its vmdk grain tables overlap");
    const entries = await this.#image.read("vmdk grain table", position, tables * this.#tableBytes);
    const firstGrain = first * entriesPerTable;
    for (let at = 0; at < entries.length; at += 4) {
      const sector = entries.readUInt32LE(at);
      if (sector === 0 || (hasZeroGrains && sector === ZERO_GRAIN)) continue;
      const grainAt = sector * SECTOR_BYTES;
      if (isCompressed) {
        this.#lastGrainAt = Math.max(this.#lastGrainAt, grainAt);
        continue;
      }
      const leftBytes = sizeBytes - (firstGrain + at / 4) * grainBytes;
      // The last grain of a disk may be cut where the disk ends.
      if (leftBytes > 0) this.end.reach("vmdk grain", grainAt + Math.min(leftBytes, grainBytes));
    }
  }

  /** Reads the length of the last compressed grain: each has its own length. */
  async lastGrain(): Promise<void> {
    if (this.#lastGrainAt === 0) return;
    const what = "compressed vmdk grain";
    if (!this.end.reach(what, this.#lastGrainAt + MARKER_BYTES) || !this.#layout.hasMarkers) return;
    const marker = await this.#image.read(what, this.#lastGrainAt, MARKER_BYTES);
    this.end.reach(what, this.#lastGrainAt + MARKER_BYTES + marker.readUInt32LE(MARKER_LENGTH_AT));
  }
}
