import type { FormatPolicy } from "../domain/format-policy.ts";
import { DataEnd } from "./data-end.ts";
import { cutOff, type Detector, type Examination, type Finding } from "./detector.ts";
import { BrokenImage, type ImageBytes } from "./image-bytes.ts";
import {
  descriptorChecks,
  isDescriptor,
  QEMU_DESCRIPTOR_BYTES,
  type DescriptorBytes,
} from "./vmdk-descriptor.ts";
import { walkGrains } from "./vmdk-grains.ts";

const MAGIC = Buffer.from("KDMV", "latin1");
const SECTOR_BYTES = 512;

// Offsets of VMware's "Virtual Disk Format 5.0", SparseExtentHeader; little-endian, in sectors.
const VERSION_AT = 4;
const FLAGS_AT = 8;
const CAPACITY_AT = 12;
const GRAIN_SIZE_AT = 20;
const DESCRIPTOR_OFFSET_AT = 28;
const DESCRIPTOR_SIZE_AT = 36;
const ENTRIES_PER_TABLE_AT = 44;
const REDUNDANT_DIRECTORY_AT = 48;
const DIRECTORY_AT = 56;
const OVERHEAD_AT = 64;
const UNCLEAN_SHUTDOWN_AT = 72;
const LINE_ENDS_AT = 73;
const COMPRESSION_AT = 77;
const HEADER_BYTES = 79;

const FLAG = { lineEnds: 1, redundantDirectory: 2, zeroGrains: 4, markers: 0x20000 };
const DEFLATE = 1;
// A copy in text mode changes these bytes.
const LINE_ENDS = "\n \r\n";

const VERSIONS = [1, 2, 3];
// The sector after the header. QEMU and VMware write the descriptor nowhere else.
const DESCRIPTOR_AT = 1n;
const MOST_DESCRIPTOR_BYTES = 1024 * 1024;

// QEMU's bounds.
const MOST_GRAIN_SECTORS = 0x200000n;
const MOST_ENTRIES_PER_TABLE = 512;
const MOST_TABLES = 32n * 1024n * 1024n;

// This value as the place of the grain directory means: the footer, a copy of the header at the end
// of the file, states the place.
const DIRECTORY_AT_END = 2n ** 64n - 1n;
const FOOTER_MARKER = 3;

/** VMware's format: sparse, with its descriptor inside the file. */
export const vmdk: Detector = {
  format: "vmdk",
  matches: ({ first }) => hasMagic(first) || isDescriptor(first),
  examine: async (image, policy) => {
    if (!hasMagic(image.first)) {
      throw new BrokenImage("it is only a vmdk descriptor; its data is in other files");
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
  // With capacity 0, QEMU opens the file that the descriptor names as the data.
  if (capacity === 0n) throw new BrokenImage("its vmdk header states a capacity of 0");
  const descriptor = await readDescriptor(image, header);
  const isAtEnd = header.readBigUInt64LE(DIRECTORY_AT) === DIRECTORY_AT_END;
  const footer = isAtEnd ? footerProblem(image, header) : undefined;
  const tables = footer === undefined ? (isAtEnd ? footerOf(image) : header) : undefined;
  const grainTables = tables === undefined ? undefined : grainTablesProblem(tables);
  const isReadable = tables !== undefined && grainTables === undefined;
  return {
    virtualSizeBytes: capacity * BigInt(SECTOR_BYTES),
    checks: {
      version: versionProblem(header.readUInt32LE(VERSION_AT)),
      line_ends: lineEndsProblem(header),
      ...descriptorChecks(descriptor, capacity, policy),
      footer,
      grain_tables: grainTables,
      complete: isReadable ? await missingGrains(image, tables) : undefined,
      dirty:
        header[UNCLEAN_SHUTDOWN_AT] === 0
          ? undefined
          : "its vmdk header is marked dirty: its last writer did not close it",
    },
  };
}

function versionProblem(version: number): string | undefined {
  if (VERSIONS.includes(version)) return undefined;
  return `it is a vmdk of version ${version}; only 1 to 3 are supported`;
}

function lineEndsProblem(header: Buffer): string | Finding | undefined {
  const found = header.toString("latin1", LINE_ENDS_AT, LINE_ENDS_AT + LINE_ENDS.length);
  const isChecked = (header.readUInt32LE(FLAGS_AT) & FLAG.lineEnds) !== 0;
  if (!isChecked || found === LINE_ENDS) return undefined;
  return {
    reason: "the line ends in its vmdk header were changed, as by a copy in text mode",
    hint: "Copy or download the image again, as binary data.",
  };
}

async function readDescriptor(image: ImageBytes, header: Buffer): Promise<DescriptorBytes> {
  const declaredBytes = Number(header.readBigUInt64LE(DESCRIPTOR_SIZE_AT)) * SECTOR_BYTES;
  const startSector = header.readBigUInt64LE(DESCRIPTOR_OFFSET_AT);
  if (startSector === 0n || declaredBytes === 0) {
    throw new BrokenImage("its vmdk header names no descriptor");
  }
  if (startSector !== DESCRIPTOR_AT || declaredBytes > MOST_DESCRIPTOR_BYTES) {
    throw new BrokenImage(
      "its vmdk descriptor does not begin in the second sector, or is larger than 1 MiB",
    );
  }
  const region = await image.read("vmdk descriptor", SECTOR_BYTES, declaredBytes);
  if (declaredBytes >= QEMU_DESCRIPTOR_BYTES) return { region, declaredBytes };
  const qemuBytes = Math.min(QEMU_DESCRIPTOR_BYTES, image.sizeBytes - SECTOR_BYTES);
  return { region: await image.read("vmdk descriptor", SECTOR_BYTES, qemuBytes), declaredBytes };
}

function grainTablesProblem(header: Buffer): string | undefined {
  const grainSectors = header.readBigUInt64LE(GRAIN_SIZE_AT);
  const entriesPerTable = header.readUInt32LE(ENTRIES_PER_TABLE_AT);
  const compression = header.readUInt16LE(COMPRESSION_AT);
  const isPowerOf2 = (grainSectors & (grainSectors - 1n)) === 0n;
  if (grainSectors === 0n || grainSectors > MOST_GRAIN_SECTORS || !isPowerOf2) {
    return `its vmdk header states grains of ${String(grainSectors)} sectors`;
  }
  if (entriesPerTable === 0 || entriesPerTable > MOST_ENTRIES_PER_TABLE) {
    return `its vmdk header states grain tables of ${entriesPerTable} entries`;
  }
  if (compression !== 0 && compression !== DEFLATE) {
    return `its vmdk header states a compression of type ${compression}`;
  }
  const sectorsPerTable = grainSectors * BigInt(entriesPerTable);
  const tables = (header.readBigUInt64LE(CAPACITY_AT) + sectorsPerTable - 1n) / sectorsPerTable;
  if (tables <= MOST_TABLES) return undefined;
  return `its vmdk header requires ${String(tables)} grain tables`;
}

/** @param header - the footer, if there is one */
async function missingGrains(image: ImageBytes, header: Buffer): Promise<Finding | undefined> {
  const bytesAt = (at: number): number => Number(header.readBigUInt64LE(at)) * SECTOR_BYTES;
  const flags = header.readUInt32LE(FLAGS_AT);
  const overhead = new DataEnd(image);
  if (!overhead.reach("vmdk table", bytesAt(OVERHEAD_AT))) return overhead.problem;
  const redundantAt = (flags & FLAG.redundantDirectory) === 0 ? 0 : bytesAt(REDUNDANT_DIRECTORY_AT);
  const end = await walkGrains(image, {
    sizeBytes: bytesAt(CAPACITY_AT),
    grainBytes: bytesAt(GRAIN_SIZE_AT),
    entriesPerTable: header.readUInt32LE(ENTRIES_PER_TABLE_AT),
    directoryAt: bytesAt(DIRECTORY_AT),
    redundantDirectoryAt: redundantAt === 0 ? undefined : redundantAt,
    hasZeroGrains: (flags & FLAG.zeroGrains) !== 0,
    isCompressed: header.readUInt16LE(COMPRESSION_AT) === DEFLATE,
    hasMarkers: (flags & FLAG.markers) !== 0,
  });
  return end.problem;
}

function footerOf({ last }: ImageBytes): Buffer {
  return last.subarray(SECTOR_BYTES, 2 * SECTOR_BYTES);
}

/** The finding of a footer that differs from the header: some programs use it in its place. */
function footerProblem(image: ImageBytes, header: Buffer): string | Finding | undefined {
  const footer = footerOf(image);
  if (footer.length < SECTOR_BYTES) return cutOff("its vmdk footer is cut off");
  if (!hasMagic(footer)) {
    return cutOff(
      `it is cut off: its header states a vmdk footer at the end of the file, but there is none before byte ${image.sizeBytes}`,
    );
  }
  // All but the places of the directories and of the data.
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

/** True for a sector with a number of sectors, 4 bytes of size, which are 0, a type, and zeros. */
function isMarker(sector: Buffer, type: number): boolean {
  return (
    sector.readUInt32LE(8) === 0 &&
    sector.readUInt32LE(12) === type &&
    sector.subarray(16).every((byte) => byte === 0)
  );
}
