import type { FormatPolicy } from "../domain/format-policy.ts";
import type { Detector, Examination } from "./detector.ts";
import { BrokenImage, type ImageBytes } from "./image-bytes.ts";
import { descriptorChecks, isDescriptor } from "./vmdk-descriptor.ts";

const MAGIC = Buffer.from("KDMV", "latin1");
const SECTOR_BYTES = 512;

// Offsets of VMware's "Virtual Disk Format 5.0", SparseExtentHeader; little-endian, in sectors.
const VERSION_AT = 4;
const CAPACITY_AT = 12;
const GRAIN_SIZE_AT = 20;
const DESCRIPTOR_OFFSET_AT = 28;
const DESCRIPTOR_SIZE_AT = 36;
const ENTRIES_PER_TABLE_AT = 44;
const REDUNDANT_DIRECTORY_AT = 48;
const DIRECTORY_AT = 56;
const UNCLEAN_SHUTDOWN_AT = 72;
const HEADER_BYTES = 79;

const VERSIONS = [1, 2, 3];
// Right behind the header; QEMU and VMware put it there, and nowhere else.
const DESCRIPTOR_AT = 1n;
const MOST_DESCRIPTOR_BYTES = 1024 * 1024;

// In place of the grain directory: "a copy of this header at the end of the file says where it is".
const DIRECTORY_AT_END = 2n ** 64n - 1n;
const FOOTER_MARKER = 3;

/** VMware's format: sparse, with its descriptor inside. */
export const vmdk: Detector = {
  format: "vmdk",
  matches: ({ first }) => hasMagic(first) || isDescriptor(first),
  examine: async (image, policy) => {
    if (!hasMagic(image.first)) {
      throw new BrokenImage("it is a vmdk descriptor only, and its data would lie in other files");
    }
    return examineSparse(image, policy);
  },
};

function hasMagic(first: Buffer): boolean {
  return first.subarray(0, MAGIC.length).equals(MAGIC);
}

async function examineSparse(image: ImageBytes, policy: FormatPolicy): Promise<Examination> {
  const header = await image.read("vmdk header", 0, HEADER_BYTES);
  const capacity = header.readBigUInt64LE(CAPACITY_AT);
  // QEMU takes capacity 0 as "the descriptor says where the data is", which then may be any file.
  if (capacity === 0n) throw new BrokenImage("its vmdk header states a capacity of 0");
  const descriptor = await readDescriptor(image, header);
  const isAtEnd = header.readBigUInt64LE(DIRECTORY_AT) === DIRECTORY_AT_END;
  return {
    virtualSizeBytes: capacity * BigInt(SECTOR_BYTES),
    checks: {
      version: versionProblem(header.readUInt32LE(VERSION_AT)),
      ...descriptorChecks(descriptor, capacity, policy),
      grain_tables: grainTablesProblem(isAtEnd ? footerOf(image) : header, image),
      footer: isAtEnd ? footerProblem(image, header) : undefined,
      dirty:
        header[UNCLEAN_SHUTDOWN_AT] === 0
          ? undefined
          : "its vmdk header is marked dirty: its last writer did not close it",
    },
  };
}

function versionProblem(version: number): string | undefined {
  if (VERSIONS.includes(version)) return undefined;
  return `it is a vmdk of version ${version}, and only 1 to 3 are known`;
}

async function readDescriptor(image: ImageBytes, header: Buffer): Promise<Buffer> {
  const lengthBytes = Number(header.readBigUInt64LE(DESCRIPTOR_SIZE_AT)) * SECTOR_BYTES;
  const startSector = header.readBigUInt64LE(DESCRIPTOR_OFFSET_AT);
  if (startSector === 0n || lengthBytes === 0) {
    throw new BrokenImage("its vmdk header names no descriptor");
  }
  if (startSector !== DESCRIPTOR_AT || lengthBytes > MOST_DESCRIPTOR_BYTES) {
    throw new BrokenImage(
      "its vmdk descriptor does not lie in the second sector, in at most 1 MiB",
    );
  }
  return image.read("vmdk descriptor", SECTOR_BYTES, lengthBytes);
}

/** Bounds of QEMU's block/vmdk.c, and the directory inside of the file. */
function grainTablesProblem(header: Buffer, image: ImageBytes): string | undefined {
  if (header.length < HEADER_BYTES) return undefined;
  const grainSectors = header.readBigUInt64LE(GRAIN_SIZE_AT);
  const entriesPerTable = header.readUInt32LE(ENTRIES_PER_TABLE_AT);
  const isPowerOf2 = (grainSectors & (grainSectors - 1n)) === 0n;
  if (grainSectors === 0n || grainSectors > 0x200000n || !isPowerOf2) {
    return `its vmdk header states grains of ${String(grainSectors)} sectors`;
  }
  if (entriesPerTable === 0 || entriesPerTable > 512) {
    return `its vmdk header states grain tables of ${entriesPerTable} entries`;
  }
  const sectorsPerTable = grainSectors * BigInt(entriesPerTable);
  const tables = (header.readBigUInt64LE(CAPACITY_AT) + sectorsPerTable - 1n) / sectorsPerTable;
  const directory = header.readBigUInt64LE(DIRECTORY_AT) * BigInt(SECTOR_BYTES);
  return image.holds(directory, tables * 4n) ? undefined : "its vmdk grain directory is cut off";
}

function footerOf({ last }: ImageBytes): Buffer {
  return last.subarray(SECTOR_BYTES, 2 * SECTOR_BYTES);
}

/** The footer replaces the header for whoever reads it, and so it may say nothing else. */
function footerProblem(image: ImageBytes, header: Buffer): string | undefined {
  const footer = footerOf(image);
  if (footer.length < SECTOR_BYTES) return "its vmdk footer is cut off";
  // But for where the directories are, and how much stands before the data.
  const isSame = [
    [0, REDUNDANT_DIRECTORY_AT] as const,
    [UNCLEAN_SHUTDOWN_AT, HEADER_BYTES] as const,
  ].every(([start, end]) => footer.subarray(start, end).equals(header.subarray(start, end)));
  if (!isSame) return "its vmdk footer and its header differ";
  if (footer.readBigUInt64LE(DIRECTORY_AT) === DIRECTORY_AT_END) {
    return "its vmdk footer refers to another footer";
  }
  if (!isMarker(image.last.subarray(0, SECTOR_BYTES), FOOTER_MARKER)) {
    return "the marker before its vmdk footer is wrong";
  }
  const isEnded = image.last.subarray(2 * SECTOR_BYTES).every((byte) => byte === 0);
  return isEnded ? undefined : "the marker at the end of its vmdk is wrong";
}

/** A sector with a number of sectors, 4 bytes of size, which are 0, a type, and zeros. */
function isMarker(sector: Buffer, type: number): boolean {
  return (
    sector.readUInt32LE(8) === 0 &&
    sector.readUInt32LE(12) === type &&
    sector.subarray(16).every((byte) => byte === 0)
  );
}
