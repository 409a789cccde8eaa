import { crc32c } from "./crc32c.ts";
import { DataEnd } from "./data-end.ts";
import type { Detector, Examination } from "./detector.ts";
import { BrokenImage, type ImageBytes } from "./image-bytes.ts";
import { readLog, type LogReplay } from "./vhdx-log.ts";

const MAGIC = Buffer.from("vhdxfile", "latin1");

// Microsoft's "Virtual Hard Disk v2 (VHDX) File Format", MS-VHDX; little-endian. Two headers and
// two region tables:
const KiB = 1024;
const MiB = 1024 * KiB;
const HEADERS_AT = [64 * KiB, 128 * KiB] as const;
const HEADER_BYTES = 4 * KiB;
/** Of a header, as far as it is used. */
const HEADER_FIELDS_BYTES = 80;
const REGION_TABLES_AT = [192 * KiB, 256 * KiB] as const;
const REGION_TABLE_BYTES = 64 * KiB;
const CHECKSUM_AT = 4;
const SEQUENCE_AT = 8;
const LOG_GUID_AT = 48;
const LOG_VERSION_AT = 64;
const VERSION_AT = 66;
const LOG_LENGTH_AT = 68;
const LOG_OFFSET_AT = 72;
const METADATA_HEADER_BYTES = 32;
const ENTRY_BYTES = 32;
const MOST_ENTRIES = 2047;
/** What no program makes; each region is held against each block. */
const MOST_REGIONS = 16;
const REQUIRED_REGION = 1;
const REQUIRED_ITEM = 4;

const REGION = {
  blockTable: guid("2dc27766-f623-4200-9d64-115e9bfd4a08"),
  metadata: guid("8b7ca206-4790-4b9a-b8fe-575f050f886e"),
};

const ITEM = {
  fileParameters: guid("caa16737-fa36-4d43-b3b6-33f0aa44e76b"),
  virtualDiskSize: guid("2fa54224-cd1b-4876-b211-5dbed83bf4b8"),
  page83: guid("beca12ab-b2e6-4523-93ef-c309e000c746"),
  logicalSector: guid("8141bf1d-a96f-4709-ba47-f233a8faab5f"),
  physicalSector: guid("cda348c7-445d-4471-9cc9-e9885251c556"),
  parentLocator: guid("a8d35f2d-b30b-454d-abf7-d3d84834ab0c"),
};
const HAS_PARENT = 2;

// Entries of the block table: the state of a block, and where it lies. A chunk of blocks is
// followed by an entry for its bitmap.
const STATE_MASK = 7;
const FULLY_PRESENT = 6;
const PARTIALLY_PRESENT = 7;
const SECTORS_PER_CHUNK = 2 ** 23;

/** Microsoft's newer format. */
export const vhdx: Detector = {
  format: "vhdx",
  matches: ({ first }) => first.subarray(0, MAGIC.length).equals(MAGIC),
  examine: async (image) => {
    const header = await readHeader(image);
    const regions = await readRegions(image);
    const metadata = regionAt(regions, REGION.metadata);
    const items = await readItems(image, metadata);
    const disk = await readDisk(image, items);
    const hasParent = disk.hasParent || items.has(ITEM.parentLocator);
    // A parent is reported even where the rest makes no sense.
    const parent = hasParent ? "it is a differencing vhdx that refers to a parent" : undefined;
    const problem = diskProblem(disk) ?? unknownItemProblem(items);
    if (hasParent || problem !== undefined) {
      return { virtualSizeBytes: disk.sizeBytes, checks: { parent, metadata: problem } };
    }
    const layout = { header, regions, metadata, disk };
    return {
      virtualSizeBytes: disk.sizeBytes,
      checks: { parent, ...(await examineBlocks(image, layout)) },
    };
  },
};

/** The text of a GUID as its 16 bytes in hexadecimal, as MS-VHDX stores them. */
function guid(text: string): string {
  const [a = "", b = "", c = "", ...rest] = text.split("-");
  const reversed = [a, b, c].map((part) => Buffer.from(part, "hex").reverse().toString("hex"));
  return [...reversed, ...rest].join("");
}

interface Extent {
  readonly position: bigint;
  readonly lengthBytes: bigint;
  readonly isRequired: boolean;
}

/** Whether a structure has the CRC-32C that stands in it. */
function isIntact(structure: Buffer): boolean {
  const zeros = Buffer.alloc(4);
  const rest = structure.subarray(CHECKSUM_AT + 4);
  const sum = crc32c(structure.subarray(0, CHECKSUM_AT), zeros, rest);
  return sum === structure.readUInt32LE(CHECKSUM_AT);
}

/** The header that counts: of two that are intact, the one with the higher number. */
async function readHeader(image: ImageBytes): Promise<Buffer> {
  const [one, other] = [
    await image.read("vhdx header", HEADERS_AT[0], HEADER_BYTES),
    await image.read("vhdx header", HEADERS_AT[1], HEADER_BYTES),
  ];
  const [first, second] = [one, other].filter(isHeader);
  if (first === undefined) throw new BrokenImage("neither of its two vhdx headers is intact");
  if (second === undefined) return first;
  const [number, otherNumber] = [first, second].map((header) =>
    header.readBigUInt64LE(SEQUENCE_AT),
  );
  if (number !== otherNumber) return (number ?? 0n) > (otherNumber ?? 0n) ? first : second;
  const isSame = first
    .subarray(0, HEADER_FIELDS_BYTES)
    .equals(second.subarray(0, HEADER_FIELDS_BYTES));
  if (isSame) return first;
  throw new BrokenImage("its two vhdx headers differ, and have the same number");
}

function isHeader(header: Buffer): boolean {
  const isKnown =
    header.toString("latin1", 0, 4) === "head" && header.readUInt16LE(VERSION_AT) === 1;
  return isKnown && isIntact(header);
}

async function readRegions(image: ImageBytes): Promise<ReadonlyMap<string, Extent>> {
  const what = "vhdx region table";
  const one = await image.read(what, REGION_TABLES_AT[0], REGION_TABLE_BYTES);
  const other = await image.read(what, REGION_TABLES_AT[1], REGION_TABLE_BYTES);
  // QEMU reads the first, and Hyper-V takes the second when the first is damaged: two that differ
  // are two images.
  if (!isIntact(one) || one.toString("latin1", 0, 4) !== "regi") {
    throw new BrokenImage(`its first ${what} has a wrong signature or checksum`);
  }
  if (isIntact(other) && !other.equals(one))
    throw new BrokenImage("its two vhdx region tables differ");
  const count = one.readUInt32LE(8);
  if (count > MOST_REGIONS) throw new BrokenImage(`its ${what} has ${count} entries`);
  const regions = extentsOf(one.subarray(16, 16 + count * ENTRY_BYTES), (entry) => ({
    position: entry.readBigUInt64LE(16),
    lengthBytes: BigInt(entry.readUInt32LE(24)),
    isRequired: (entry.readUInt32LE(28) & REQUIRED_REGION) !== 0,
  }));
  const known: readonly string[] = Object.values(REGION);
  if ([...regions].some(([name, { isRequired }]) => isRequired && !known.includes(name))) {
    throw new BrokenImage("its vhdx region table requires a region that is unknown");
  }
  return regions;
}

async function readItems(
  image: ImageBytes,
  metadata: Extent,
): Promise<ReadonlyMap<string, Extent>> {
  const what = "vhdx metadata table";
  const head = await image.read(what, metadata.position, METADATA_HEADER_BYTES);
  if (head.toString("latin1", 0, 8) !== "metadata") {
    throw new BrokenImage(`its ${what} has no signature`);
  }
  const count = head.readUInt16LE(10);
  if (count > MOST_ENTRIES) throw new BrokenImage(`its ${what} has ${count} entries`);
  const start = metadata.position + BigInt(METADATA_HEADER_BYTES);
  return extentsOf(await image.read(what, start, count * ENTRY_BYTES), (entry) => ({
    position: metadata.position + BigInt(entry.readUInt32LE(16)),
    lengthBytes: BigInt(entry.readUInt32LE(20)),
    isRequired: (entry.readUInt32LE(24) & REQUIRED_ITEM) !== 0,
  }));
}

function extentsOf(
  entries: Buffer,
  extentOf: (entry: Buffer) => Extent,
): ReadonlyMap<string, Extent> {
  const extents = new Map<string, Extent>();
  for (let at = 0; at < entries.length; at += ENTRY_BYTES) {
    const entry = entries.subarray(at, at + ENTRY_BYTES);
    const name = entry.toString("hex", 0, 16);
    if (extents.has(name)) throw new BrokenImage("its vhdx tables name a thing twice");
    extents.set(name, extentOf(entry));
  }
  return extents;
}

function regionAt(regions: ReadonlyMap<string, Extent>, name: string): Extent {
  const region = regions.get(name);
  if (region !== undefined) return region;
  throw new BrokenImage("its vhdx region table names no metadata, or no block table");
}

/** The disk as the metadata describe it, in bytes. */
interface Disk {
  readonly sizeBytes: bigint;
  readonly blockBytes: number;
  readonly sectorBytes: number;
  readonly hasParent: boolean;
}

async function readDisk(image: ImageBytes, items: ReadonlyMap<string, Extent>): Promise<Disk> {
  const item = async (name: string, lengthBytes: number, what: string): Promise<Buffer> => {
    const found = items.get(name);
    if (found?.lengthBytes !== BigInt(lengthBytes)) throw new BrokenImage(`its ${what} is missing`);
    return image.read(what, found.position, lengthBytes);
  };
  const size = await item(ITEM.virtualDiskSize, 8, "vhdx virtual size");
  const parameters = await item(ITEM.fileParameters, 8, "vhdx file parameters");
  const sector = await item(ITEM.logicalSector, 4, "vhdx logical sector size");
  // QEMU does not open an image without them.
  await item(ITEM.physicalSector, 4, "vhdx physical sector size");
  await item(ITEM.page83, 16, "vhdx page 83 data");
  return {
    sizeBytes: size.readBigUInt64LE(),
    blockBytes: parameters.readUInt32LE(0),
    sectorBytes: sector.readUInt32LE(),
    hasParent: (parameters.readUInt32LE(4) & HAS_PARENT) !== 0,
  };
}

function diskProblem({ sizeBytes, blockBytes, sectorBytes }: Disk): string | undefined {
  const isPowerOf2 = (blockBytes & (blockBytes - 1)) === 0;
  if (blockBytes < MiB || blockBytes > 256 * MiB || !isPowerOf2) {
    return `its vhdx blocks have ${blockBytes} bytes, which must be a power of 2 from 1 MiB to 256 MiB`;
  }
  if (sectorBytes !== 512 && sectorBytes !== 4096) {
    return `its vhdx sectors have ${sectorBytes} bytes, and must have 512 or 4096`;
  }
  if (sizeBytes === 0n || sizeBytes % BigInt(sectorBytes) !== 0n) {
    return `its vhdx virtual size of ${String(sizeBytes)} bytes is not a number of sectors`;
  }
  // MS-VHDX, 2.6.2.4.
  return sizeBytes > 64n * 1024n ** 4n ? "its vhdx virtual size is more than 64 TiB" : undefined;
}

function unknownItemProblem(items: ReadonlyMap<string, Extent>): string | undefined {
  const known: readonly string[] = Object.values(ITEM);
  const isUnknown = [...items].some(
    ([name, { isRequired }]) => isRequired && !known.includes(name),
  );
  return isUnknown ? "its vhdx metadata require an item that is unknown" : undefined;
}

interface Layout {
  readonly header: Buffer;
  readonly regions: ReadonlyMap<string, Extent>;
  readonly metadata: Extent;
  readonly disk: Disk;
}

/** A range of the file that is no place for a block. */
interface Taken {
  readonly start: number;
  readonly end: number;
}

async function examineBlocks(image: ImageBytes, layout: Layout): Promise<Examination["checks"]> {
  const { header, regions } = layout;
  const logAt = Number(header.readBigUInt64LE(LOG_OFFSET_AT));
  const logBytes = header.readUInt32LE(LOG_LENGTH_AT);
  if (header.readUInt16LE(LOG_VERSION_AT) !== 0 || logAt < MiB || logAt % MiB !== 0) {
    return { log: "its vhdx log has an unknown version, or a place where no log may be" };
  }
  const taken = [
    { start: logAt, end: logAt + logBytes },
    ...[...regions.values()].map(({ position, lengthBytes }) => ({
      start: Number(position),
      end: Number(position + lengthBytes),
    })),
  ];
  const overlaps = taken.some((one, index) =>
    taken.some((other, at) => at > index && isOverlap(one, other)),
  );
  if (overlaps) return { block_table: "the regions of its vhdx overlap" };
  const replay = await replayOf(image, header, { position: logAt, lengthBytes: logBytes });
  const end = new DataEnd(image);
  const walk = new BlockWalk(layout, taken, { end, grownBytes: replay?.lastBytes ?? 0 });
  const problem = walk.tableProblem ?? (await walk.all(image)) ?? walk.logged(replay);
  end.reach("byte that its vhdx log counts on", replay?.flushedBytes ?? 0);
  return {
    log: replay === undefined ? undefined : logProblem(replay, layout),
    dirty:
      replay === undefined
        ? undefined
        : "its vhdx log was not replayed: its last writer did not close it",
    block_table: problem,
    complete: end.problem,
  };
}

/** Undefined when there is nothing to replay. */
async function replayOf(
  image: ImageBytes,
  header: Buffer,
  { position, lengthBytes }: { readonly position: number; readonly lengthBytes: number },
): Promise<LogReplay | undefined> {
  const guidOfLog = header.subarray(LOG_GUID_AT, LOG_GUID_AT + 16);
  if (lengthBytes === 0 || guidOfLog.every((byte) => byte === 0)) return undefined;
  if (lengthBytes % MiB !== 0) throw new BrokenImage(`its vhdx log has ${lengthBytes} bytes`);
  const replay = await readLog(image, { position, lengthBytes, guid: guidOfLog });
  return replay.entries === 0 ? undefined : replay;
}

/**
 * The log is written over the rest when the image is opened: it must not make another image of it
 * than the judged one.
 */
function logProblem({ writes }: LogReplay, { metadata, header }: Layout): string | undefined {
  const judged = [
    { start: 0, end: MiB },
    { start: Number(metadata.position), end: Number(metadata.position + metadata.lengthBytes) },
    {
      start: Number(header.readBigUInt64LE(LOG_OFFSET_AT)),
      end: Number(header.readBigUInt64LE(LOG_OFFSET_AT)) + header.readUInt32LE(LOG_LENGTH_AT),
    },
  ];
  const isRewritten = writes.some(({ position, lengthBytes }) =>
    judged.some((range) => isOverlap(range, { start: position, end: position + lengthBytes })),
  );
  return isRewritten
    ? "its vhdx log would write another header, or other metadata, when it is replayed"
    : undefined;
}

function isOverlap(one: Taken, other: Taken): boolean {
  return one.start < other.end && other.start < one.end;
}

/** A walk through the block table. */
class BlockWalk {
  readonly #taken: readonly Taken[];
  readonly #end: DataEnd;
  readonly #grownBytes: number;
  readonly #tableAt: number;
  readonly #tableBytes: number;
  readonly #sizeBytes: number;
  readonly #blockBytes: number;
  readonly #chunk: number;
  readonly #entries: number;

  /** `grownBytes` is how long the file becomes when its log is replayed. */
  constructor(
    { regions, disk }: Layout,
    taken: readonly Taken[],
    { end, grownBytes }: { readonly end: DataEnd; readonly grownBytes: number },
  ) {
    const table = regionAt(regions, REGION.blockTable);
    this.#taken = taken;
    this.#end = end;
    this.#grownBytes = grownBytes;
    this.#tableAt = Number(table.position);
    this.#tableBytes = Number(table.lengthBytes);
    this.#sizeBytes = Number(disk.sizeBytes);
    this.#blockBytes = disk.blockBytes;
    this.#chunk = (SECTORS_PER_CHUNK * disk.sectorBytes) / disk.blockBytes;
    const blocks = Math.ceil(this.#sizeBytes / disk.blockBytes);
    this.#entries = blocks + Math.floor((blocks - 1) / this.#chunk);
  }

  get tableProblem(): string | undefined {
    if (this.#entries * 8 > this.#tableBytes)
      return "its vhdx block table is too small for its size";
    this.#end.reach("vhdx block table", this.#tableAt + this.#tableBytes);
    return undefined;
  }

  async all(image: ImageBytes): Promise<string | undefined> {
    if (this.#end.problem !== undefined) return undefined;
    const pieces = image.pieces("vhdx block table", this.#tableAt, this.#entries * 8);
    for await (const { piece, at } of pieces) {
      const problem = this.#entriesProblem(piece, at / 8);
      if (problem !== undefined) return problem;
    }
    return undefined;
  }

  /** What the log would write into the table. */
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
      // The entry of a bitmap, which only a differencing image has.
      if (index % (this.#chunk + 1) === this.#chunk) continue;
      if (state === PARTIALLY_PRESENT) return "a block of its vhdx is in a parent";
      const start = entries.readUInt32LE(at + 4) * 2 ** 32 + (low - (low % MiB));
      const end = start + this.#blockBytes;
      if (start < MiB || this.#taken.some((range) => isOverlap(range, { start, end }))) {
        return "a block of its vhdx lies where its tables are";
      }
      // The last one may be cut where the disk ends: QEMU once made such.
      const leftBytes = this.#sizeBytes - (index - chunk) * this.#blockBytes;
      const neededAt = start + Math.min(this.#blockBytes, leftBytes);
      if (neededAt > this.#grownBytes) this.#end.reach("vhdx block", neededAt);
    }
    return undefined;
  }
}
