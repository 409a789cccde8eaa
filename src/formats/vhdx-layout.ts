import { crc32c } from "./crc32c.ts";
import { BrokenImage, type ImageBytes } from "./image-bytes.ts";
import type { LogPlace } from "./vhdx-log.ts";

// Microsoft's "Virtual Hard Disk v2 (VHDX) File Format", MS-VHDX; little-endian. Two headers and
// two region tables:
const KiB = 1024;
const MiB = 1024 * KiB;
const HEADERS_AT = [64 * KiB, 128 * KiB] as const;
const HEADER_BYTES = 4 * KiB;
/** The part of a header that is used. */
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
/** More than any program writes. Each block is compared with each region. */
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

/** The text of a GUID as its 16 bytes in hexadecimal, as MS-VHDX stores them. */
function guid(text: string): string {
  const [a = "", b = "", c = "", ...rest] = text.split("-");
  const reversed = [a, b, c].map((part) => Buffer.from(part, "hex").reverse().toString("hex"));
  return [...reversed, ...rest].join("");
}

/** The structures of a VHDX that lead to its blocks. */
export interface VhdxLayout {
  readonly log: LogPlace & { readonly version: number };
  /** All regions, the metadata and the block table among them. */
  readonly regions: readonly Extent[];
  readonly metadata: Extent;
  /** Undefined when no region is named as the block table. */
  readonly blockTable: Extent | undefined;
  readonly disk: Disk;
  /** The reason why the metadata is invalid. */
  readonly problem: string | undefined;
}

/** A range of the file. */
export interface Extent {
  readonly position: bigint;
  readonly lengthBytes: bigint;
  readonly isRequired: boolean;
}

/**
 * Reads the headers, the region tables and the metadata.
 *
 * @throws BrokenImage when they cannot be read
 */
export async function readLayout(image: ImageBytes): Promise<VhdxLayout> {
  const header = await readHeader(image);
  const regions = await readRegions(image);
  const metadata = regions.get(REGION.metadata);
  if (metadata === undefined) throw new BrokenImage("its vhdx region table lists no metadata");
  const items = await readItems(image, metadata);
  const disk = await readDisk(image, items);
  return {
    log: {
      version: header.readUInt16LE(LOG_VERSION_AT),
      position: Number(header.readBigUInt64LE(LOG_OFFSET_AT)),
      lengthBytes: header.readUInt32LE(LOG_LENGTH_AT),
      guid: header.subarray(LOG_GUID_AT, LOG_GUID_AT + 16),
    },
    regions: [...regions.values()],
    metadata,
    blockTable: regions.get(REGION.blockTable),
    disk,
    problem: diskProblem(disk) ?? unknownItemProblem(items),
  };
}

/** True if a structure has the CRC-32C that it states. */
function isIntact(structure: Buffer): boolean {
  const zeros = Buffer.alloc(4);
  const rest = structure.subarray(CHECKSUM_AT + 4);
  const sum = crc32c(structure.subarray(0, CHECKSUM_AT), zeros, rest);
  return sum === structure.readUInt32LE(CHECKSUM_AT);
}

/** The current header: of two intact headers, the one with the higher number. */
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
  throw new BrokenImage("its two vhdx headers differ, but have the same number");
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
  // QEMU reads the first table, and Hyper-V the second if the first is damaged: two that differ are
  // two images.
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
    throw new BrokenImage("its vhdx region table requires an unknown region");
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
    if (extents.has(name)) throw new BrokenImage("its vhdx tables list an entry twice");
    extents.set(name, extentOf(entry));
  }
  return extents;
}

/** The disk that the metadata describes, in bytes. */
export interface Disk {
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
    hasParent: (parameters.readUInt32LE(4) & HAS_PARENT) !== 0 || items.has(ITEM.parentLocator),
  };
}

function diskProblem({ sizeBytes, blockBytes, sectorBytes }: Disk): string | undefined {
  const isPowerOf2 = (blockBytes & (blockBytes - 1)) === 0;
  if (blockBytes < MiB || blockBytes > 256 * MiB || !isPowerOf2) {
    return `its vhdx blocks have ${blockBytes} bytes, not a power of 2 from 1 MiB to 256 MiB`;
  }
  if (sectorBytes !== 512 && sectorBytes !== 4096) {
    return `its vhdx sectors have ${sectorBytes} bytes, not 512 or 4096`;
  }
  if (sizeBytes === 0n || sizeBytes % BigInt(sectorBytes) !== 0n) {
    return `its vhdx virtual size of ${String(sizeBytes)} bytes is not a whole number of sectors`;
  }
  // MS-VHDX, 2.6.2.4.
  return sizeBytes > 64n * 1024n ** 4n ? "its vhdx virtual size is more than 64 TiB" : undefined;
}

function unknownItemProblem(items: ReadonlyMap<string, Extent>): string | undefined {
  const known: readonly string[] = Object.values(ITEM);
  const isUnknown = [...items].some(
    ([name, { isRequired }]) => isRequired && !known.includes(name),
  );
  return isUnknown ? "its vhdx metadata requires an unknown item" : undefined;
}
