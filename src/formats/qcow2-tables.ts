import { promisify } from "node:util";
import { constants, inflateRaw } from "node:zlib";
import { DataEnd } from "./data-end.ts";
import type { Finding } from "./detector.ts";
import type { ImageBytes } from "./image-bytes.ts";

/**
 * The tables of a qcow2 by its header. Places and lengths in bytes; L1, refcounts and snapshots
 * begin at clusters.
 */
export interface Qcow2Layout {
  readonly clusterBits: number;
  /** The size of the disk. */
  readonly sizeBytes: number;
  /** True if an entry of an L2 table has 16 bytes, and describes the subclusters. */
  readonly extendsL2: boolean;
  /** The compression of its compressed clusters. */
  readonly compression: "deflate" | "zstd";
  readonly l1: Table;
  readonly refcountTable: { readonly position: number; readonly lengthBytes: number };
  readonly snapshots: Table;
  /** The header of LUKS inside the qcow2. */
  readonly cryptoHeader?: { readonly position: number; readonly lengthBytes: number } | undefined;
  /** The directory of its bitmaps. */
  readonly bitmaps?: (Table & { readonly lengthBytes: number }) | undefined;
}

interface Table {
  readonly position: number;
  readonly entries: number;
}

/** The findings of a walk through all tables. */
export interface Qcow2Walk {
  readonly tables: string | undefined;
  readonly complete: Finding | undefined;
}

const inflate = promisify(inflateRaw);

const COMPRESSED_CLUSTER = "compressed qcow2 cluster";
const SECTOR_BYTES = 512;
const TWO_TO_32 = 2 ** 32;

// The bits of an entry that make an offset: 9 to 55.
const OFFSET_HIGH = 0x00ffffff;
const OFFSET_LOW = 0xfffffe00;
const COMPRESSED_HIGH = 0x40000000;
const SUBCLUSTERS = 32;

// A snapshot has an L1 table of its own, but shares most L2 tables. This many are remembered, in at
// most 64 MiB of memory.
const MOST_REMEMBERED = 1024 * 1024;

// QEMU's own bounds (block/qcow2.h).
const MOST_SNAPSHOT_TABLE_BYTES = 64 * 1024 * 1024;
const MOST_SNAPSHOT_EXTRA_BYTES = 1024;
const MOST_L1_BYTES = 32 * 1024 * 1024;

/** The failure of tables that are invalid. */
class BrokenTables extends Error {}

/**
 * Walks through all tables of a qcow2, and finds the farthest byte that they refer to. It reads
 * every table once: one byte in 8192 of a full disk with clusters of 64 KiB.
 */
export async function walkTables(image: ImageBytes, layout: Qcow2Layout): Promise<Qcow2Walk> {
  const walk = new TableWalk(image, layout);
  try {
    await walk.all();
    return { tables: undefined, complete: walk.end.problem };
  } catch (error) {
    if (!(error instanceof BrokenTables)) throw error;
    return { tables: error.message, complete: walk.end.problem };
  }
}

class TableWalk {
  readonly end: DataEnd;
  readonly #image: ImageBytes;
  readonly #layout: Qcow2Layout;
  readonly #clusterBytes: number;
  readonly #seen = new Set<number>();
  #tableBytes = 0;
  /** The start of a compressed cluster in whose last sector the file ends. */
  #unsure: number | undefined;

  constructor(image: ImageBytes, layout: Qcow2Layout) {
    this.end = new DataEnd(image);
    this.#image = image;
    this.#layout = layout;
    this.#clusterBytes = 2 ** layout.clusterBits;
  }

  async all(): Promise<void> {
    const { l1, sizeBytes, cryptoHeader } = this.#layout;
    if (cryptoHeader !== undefined) {
      this.end.reach("LUKS header", cryptoHeader.position + cryptoHeader.lengthBytes);
    }
    await this.#refcounts();
    if (!this.end.reach("qcow2 L1 table", l1.position + l1.entries * 8)) return;
    await this.#disk(l1, sizeBytes);
    await this.#snapshots();
    await this.#bitmaps();
    await this.#unsureCluster();
  }

  async #refcounts(): Promise<void> {
    const { position, lengthBytes } = this.#layout.refcountTable;
    if (!this.end.reach("qcow2 refcount table", position + lengthBytes)) return;
    for await (const { piece } of this.#image.pieces(
      "qcow2 refcount table",
      position,
      lengthBytes,
    )) {
      for (let at = 0; at < piece.length; at += 8) {
        const block = offsetAt(piece, at, 0xffffffff);
        if (block === 0) continue;
        this.#requireAligned("a refcount block", block);
        this.end.reach("qcow2 refcount block", block + this.#clusterBytes);
      }
    }
  }

  /** The disk of the image itself, or of a snapshot. */
  async #disk(l1: Table, diskBytes: number): Promise<void> {
    const { extendsL2 } = this.#layout;
    const bytesPerTable = (this.#clusterBytes / (extendsL2 ? 16 : 8)) * this.#clusterBytes;
    this.#count(l1.entries * 8);
    const pieces = this.#image.pieces("qcow2 L1 table", l1.position, l1.entries * 8);
    for await (const { piece, at: position } of pieces) {
      for (let at = 0; at < piece.length; at += 8) {
        const table = offsetAt(piece, at);
        if (table === 0) continue;
        this.#requireAligned("an L2 table", table);
        await this.#l2(table, ((position + at) / 8) * bytesPerTable, diskBytes);
      }
    }
  }

  /** @param diskAt - the place on the disk of its first entry */
  async #l2(position: number, diskAt: number, diskBytes: number): Promise<void> {
    if (this.#seen.has(position)) return;
    if (this.#seen.size < MOST_REMEMBERED) this.#seen.add(position);
    if (!this.end.reach("qcow2 L2 table", position + this.#clusterBytes)) return;
    this.#count(this.#clusterBytes);
    const entryBytes = this.#layout.extendsL2 ? 16 : 8;
    const pieces = this.#image.pieces("qcow2 L2 table", position, this.#clusterBytes);
    for await (const { piece, at: positionOfPiece } of pieces) {
      for (let at = 0; at < piece.length; at += entryBytes) {
        const high = piece.readUInt32BE(at);
        const low = piece.readUInt32BE(at + 4);
        // No cluster, or, if the lowest bit is set, zeros.
        if (high === 0 && low <= 1) continue;
        if ((high & COMPRESSED_HIGH) !== 0) {
          this.#compressed(high, low);
          continue;
        }
        const cluster = offsetAt(piece, at);
        if (cluster === 0) continue;
        this.#requireAligned("a cluster", cluster);
        const place = diskAt + ((positionOfPiece + at) / entryBytes) * this.#clusterBytes;
        const needed = Math.min(diskBytes - place, this.#neededBytes(piece, at, low));
        // A part that no guest sees may be missing, as in QEMU's own check.
        this.end.reach("qcow2 cluster", cluster + Math.max(needed, 1));
      }
    }
  }

  /** The number of bytes of a cluster that hold data. */
  #neededBytes(piece: Buffer, at: number, low: number): number {
    if (!this.#layout.extendsL2) return (low & 1) === 0 ? this.#clusterBytes : 0;
    const allocated = piece.readUInt32BE(at + 12);
    return ((SUBCLUSTERS - Math.clz32(allocated)) * this.#clusterBytes) / SUBCLUSTERS;
  }

  #compressed(high: number, low: number): void {
    const offsetBits = 62 - (this.#layout.clusterBits - 8) - 32;
    const position = (high & (2 ** offsetBits - 1)) * TWO_TO_32 + low;
    const sectors = ((high & (COMPRESSED_HIGH - 1)) >>> offsetBits) + 1;
    const endBytes = (Math.floor(position / SECTOR_BYTES) + sectors) * SECTOR_BYTES;
    // The cluster ends somewhere in its last sector, and the file may end there, too.
    const missingBytes = endBytes - this.#image.sizeBytes;
    const isWithinSector = missingBytes > 0 && missingBytes < SECTOR_BYTES;
    if (isWithinSector) this.#unsure = position;
    this.end.reach(COMPRESSED_CLUSTER, isWithinSector ? this.#image.sizeBytes : endBytes);
  }

  /**
   * Decompresses the cluster in which the file may end: nothing else shows if it is complete.
   */
  async #unsureCluster(): Promise<void> {
    const { sizeBytes } = this.#image;
    if (this.#unsure === undefined || this.#layout.compression !== "deflate") return;
    const cluster = await this.#image.read(
      COMPRESSED_CLUSTER,
      this.#unsure,
      sizeBytes - this.#unsure,
    );
    const data = await inflate(cluster, {
      finishFlush: constants.Z_SYNC_FLUSH,
      maxOutputLength: this.#clusterBytes,
    }).catch(() => Buffer.alloc(0));
    if (data.length < this.#clusterBytes) this.end.reach(COMPRESSED_CLUSTER, sizeBytes + 1);
  }

  async #snapshots(): Promise<void> {
    const { snapshots, sizeBytes } = this.#layout;
    let { position } = snapshots;
    for (let index = 0; index < snapshots.entries; index += 1) {
      if (!this.end.reach("qcow2 snapshot", position + 40)) return;
      const fixed = await this.#image.read("qcow2 snapshot", position, 40);
      const extraBytes = fixed.readUInt32BE(36);
      const textBytes = fixed.readUInt16BE(12) + fixed.readUInt16BE(14);
      if (extraBytes > MOST_SNAPSHOT_EXTRA_BYTES) {
        throw new BrokenTables(`a snapshot of its qcow2 has ${extraBytes} bytes of extra data`);
      }
      const endBytes = position + 40 + extraBytes + textBytes;
      if (!this.end.reach("qcow2 snapshot", endBytes)) return;
      if (endBytes - snapshots.position > MOST_SNAPSHOT_TABLE_BYTES) {
        throw new BrokenTables("the snapshot table of its qcow2 is too large");
      }
      const extra = await this.#image.read("qcow2 snapshot", position + 40, extraBytes);
      const diskBytes = extraBytes >= 16 ? Number(extra.readBigUInt64BE(8)) : sizeBytes;
      await this.#snapshot(
        { position: Number(fixed.readBigUInt64BE(0)), entries: fixed.readUInt32BE(8) },
        diskBytes,
      );
      position += Math.ceil((40 + extraBytes + textBytes) / 8) * 8;
    }
  }

  async #snapshot(l1: Table, diskBytes: number): Promise<void> {
    this.#requireAligned("the L1 table of a snapshot", l1.position);
    if (l1.entries * 8 > MOST_L1_BYTES) {
      throw new BrokenTables(`a snapshot of its qcow2 has an L1 table of ${l1.entries} entries`);
    }
    if (!this.end.reach("qcow2 snapshot's L1 table", l1.position + l1.entries * 8)) return;
    await this.#disk(l1, diskBytes);
  }

  async #bitmaps(): Promise<void> {
    const { bitmaps } = this.#layout;
    if (bitmaps === undefined) return;
    this.#requireAligned("the bitmap directory", bitmaps.position);
    const directoryEnd = bitmaps.position + bitmaps.lengthBytes;
    if (!this.end.reach("qcow2 bitmap directory", directoryEnd)) return;
    let { position } = bitmaps;
    for (let index = 0; index < bitmaps.entries; index += 1) {
      if (position + 24 > directoryEnd) {
        throw new BrokenTables("the bitmap directory of its qcow2 is too short");
      }
      const entry = await this.#image.read("qcow2 bitmap", position, 24);
      const table = { position: Number(entry.readBigUInt64BE(0)), entries: entry.readUInt32BE(8) };
      this.#requireAligned("a bitmap table", table.position);
      await this.#bitmap(table);
      position += Math.ceil((24 + entry.readUInt32BE(20) + entry.readUInt16BE(18)) / 8) * 8;
    }
  }

  async #bitmap({ position, entries }: Table): Promise<void> {
    if (!this.end.reach("qcow2 bitmap table", position + entries * 8)) return;
    this.#count(entries * 8);
    for await (const { piece } of this.#image.pieces("qcow2 bitmap table", position, entries * 8)) {
      for (let at = 0; at < piece.length; at += 8) {
        const cluster = offsetAt(piece, at);
        if (cluster !== 0) this.end.reach("qcow2 bitmap", cluster + this.#clusterBytes);
      }
    }
  }

  /**
   * Counts the bytes of tables. A hostile image could refer to the same table again and again, and
   * keep the verdict busy for years.
   */
  #count(tableBytes: number): void {
    this.#tableBytes += tableBytes;
    if (this.#tableBytes > 2 * this.#image.sizeBytes) {
      throw new BrokenTables("the tables of its qcow2 are larger than its file: they overlap");
    }
  }

  #requireAligned(what: string, position: number): void {
    if (position % this.#clusterBytes === 0) return;
    throw new BrokenTables(`${what} of its qcow2 does not begin at a cluster`);
  }
}

/** The offset in an entry of 8 bytes, without its flags. */
function offsetAt(piece: Buffer, at: number, highBits = OFFSET_HIGH): number {
  const high = (piece.readUInt32BE(at) & highBits) >>> 0;
  const low = (piece.readUInt32BE(at + 4) & OFFSET_LOW) >>> 0;
  return high * TWO_TO_32 + low;
}
