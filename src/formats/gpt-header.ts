import { crc32 } from "node:zlib";
import type { ImageBytes } from "./image-bytes.ts";

// UEFI specification, 5.3: the header, little-endian, and its entries.
const SIGNATURE = "EFI PART";
const HEADER_BYTES_AT = 12;
const CHECKSUM_AT = 16;
const OTHER_HEADER_AT = 32;
const ENTRIES_AT = 72;
const ENTRY_COUNT_AT = 80;
const ENTRY_BYTES_AT = 84;
const ENTRIES_CHECKSUM_AT = 88;
const HEADER_BYTES = { least: 92, most: 512 };

// An entry: its type, which is zero if it is unused, and its place.
const FIRST_SECTOR_AT = 32;
const LAST_SECTOR_AT = 40;
const ENTRY_BYTES = { least: 128, most: 4096 };
const MOST_ENTRIES_BYTES = 128 * 1024;

/** The sizes of sectors that disks have. */
const SECTOR_SIZES = [512, 4096];

/** A header of a GPT, and the last of its partitions. */
export interface Gpt {
  readonly sectorBytes: number;
  /** The place of its other header, in bytes. */
  readonly otherAt: bigint;
  /** The reason why it is invalid. Its partitions are not read then. */
  readonly problem: string | undefined;
  /** The start and end of the last partition, in bytes; 0 without one. */
  readonly startBytes: bigint;
  readonly endBytes: bigint;
}

/** The GPT at the start of an image; undefined without one. */
export async function gptAtStart(image: ImageBytes): Promise<Gpt | undefined> {
  for (const sectorBytes of SECTOR_SIZES) {
    if (isHeader(image.first.subarray(sectorBytes))) {
      return readGpt(image, BigInt(sectorBytes), sectorBytes);
    }
  }
  return undefined;
}

/** The GPT whose header is in this place; undefined without one. */
export async function gptAt(
  image: ImageBytes,
  position: bigint,
  sectorBytes: number,
): Promise<Gpt | undefined> {
  return (await hasGptAt(image, position)) ? readGpt(image, position, sectorBytes) : undefined;
}

/** True if a header of a GPT is in this place. */
export async function hasGptAt(image: ImageBytes, position: bigint): Promise<boolean> {
  if (position <= 0n || !image.holds(position, HEADER_BYTES.most)) return false;
  return isHeader(await image.read("gpt header", position, HEADER_BYTES.most));
}

/** True if an image has the mark of a GPT in its second sector. */
export function hasGptMark({ first }: ImageBytes): boolean {
  return SECTOR_SIZES.some((sectorBytes) => isHeader(first.subarray(sectorBytes)));
}

function isHeader(sector: Buffer): boolean {
  return sector.toString("latin1", 0, SIGNATURE.length) === SIGNATURE;
}

async function readGpt(image: ImageBytes, position: bigint, sectorBytes: number): Promise<Gpt> {
  const header = await image.read("gpt header", position, HEADER_BYTES.most);
  const otherAt = header.readBigUInt64LE(OTHER_HEADER_AT) * BigInt(sectorBytes);
  const problem = headerProblem(header);
  if (problem !== undefined) return { sectorBytes, otherAt, problem, startBytes: 0n, endBytes: 0n };
  const entryBytes = header.readUInt32LE(ENTRY_BYTES_AT);
  const allBytes = header.readUInt32LE(ENTRY_COUNT_AT) * entryBytes;
  const readBytes = Math.min(allBytes, MOST_ENTRIES_BYTES);
  const entriesAt = header.readBigUInt64LE(ENTRIES_AT) * BigInt(sectorBytes);
  const entries = await image.read("gpt", entriesAt, readBytes);
  const isDamaged =
    readBytes === allBytes && crc32(entries) !== header.readUInt32LE(ENTRIES_CHECKSUM_AT);
  const last = isDamaged ? { start: 0n, end: 0n } : lastPartition(entries, entryBytes);
  return {
    sectorBytes,
    otherAt,
    problem: isDamaged ? "the checksum of its gpt is wrong" : undefined,
    startBytes: last.start * BigInt(sectorBytes),
    endBytes: last.end * BigInt(sectorBytes),
  };
}

function headerProblem(header: Buffer): string | undefined {
  const headerBytes = header.readUInt32LE(HEADER_BYTES_AT);
  const entryBytes = header.readUInt32LE(ENTRY_BYTES_AT);
  const isEntry =
    entryBytes >= ENTRY_BYTES.least && entryBytes <= ENTRY_BYTES.most && entryBytes % 8 === 0;
  if (headerBytes < HEADER_BYTES.least || headerBytes > HEADER_BYTES.most || !isEntry) {
    return "its gpt header is invalid";
  }
  const summed = Buffer.from(header.subarray(0, headerBytes));
  summed.fill(0, CHECKSUM_AT, CHECKSUM_AT + 4);
  const isRight = crc32(summed) === header.readUInt32LE(CHECKSUM_AT);
  return isRight ? undefined : "the checksum of its gpt header is wrong";
}

/** The first sector of the partition that ends last, and the sector after its last. */
function lastPartition(entries: Buffer, entryBytes: number) {
  let last = { start: 0n, end: 0n };
  for (let at = 0; at + ENTRY_BYTES.least <= entries.length; at += entryBytes) {
    const entry = entries.subarray(at, at + ENTRY_BYTES.least);
    if (entry.subarray(0, 16).every((byte) => byte === 0)) continue;
    const end = entry.readBigUInt64LE(LAST_SECTOR_AT) + 1n;
    if (end > last.end) last = { start: entry.readBigUInt64LE(FIRST_SECTOR_AT), end };
  }
  return last;
}
