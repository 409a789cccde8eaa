import { DataEnd } from "./data-end.ts";
import { cutOff, type Detector, type Examination, type Finding } from "./detector.ts";
import { BrokenImage, type ImageBytes } from "./image-bytes.ts";

const COOKIE = Buffer.from("conectix", "latin1");
const DYNAMIC_COOKIE = Buffer.from("cxsparse", "latin1");

// Offsets of Microsoft's "Virtual Hard Disk Image Format Specification"; big-endian. Hard disk
// footer:
const FOOTER_BYTES = 512;
// Before 2004 Virtual PC wrote it without its last byte. QEMU does not read such images.
const OLD_FOOTER_BYTES = 511;
const DATA_OFFSET_AT = 16;
const CREATOR_AT = 28;
const CURRENT_SIZE_AT = 48;
const GEOMETRY_AT = 56;
const DISK_TYPE_AT = 60;
const FOOTER_CHECKSUM_AT = 64;
const FIXED = 2;
const DYNAMIC = 3;
const DIFFERENCING = 4;
/**
 * The ranges in which header and footer must agree: the position of the data, the creator, the size
 * with its geometry, and the type.
 */
const COMPARED = [
  [DATA_OFFSET_AT, DATA_OFFSET_AT + 8],
  [CREATOR_AT, CREATOR_AT + 4],
  [CURRENT_SIZE_AT, FOOTER_CHECKSUM_AT],
] as const;

// Dynamic disk header:
const DYNAMIC_HEADER_BYTES = 1024;
const TABLE_OFFSET_AT = 16;
const TABLE_ENTRIES_AT = 28;
const BLOCK_SIZE_AT = 32;
const HEADER_CHECKSUM_AT = 36;
const PARENT_UUID = [40, 56] as const;
const PARENT_NAME_AND_LOCATORS = [64, 768] as const;

const SECTOR_BYTES = 512;
const UNUSED = 0xffffffff;

// The programs that state the size of the disk. For others QEMU uses the geometry (block/vpc.c).
const CREATORS_OF_SIZES = ["win ", "qem2", "d2v ", "CTXS", "tap", "wa\0\0"];
/** The largest geometry stands for every larger disk. */
const MOST_GEOMETRY_SECTORS = 65535 * 16 * 255;
/** QEMU's bound, and Hyper-V's: 2040 GiB. */
const MOST_SECTORS = 0xff000000n;

/** Microsoft's older format: dynamic (a footer at both ends) or fixed (raw data, then a footer). */
export const vhd: Detector = {
  format: "vhd",
  matches: (image) =>
    hasCookie(image.first) || hasCookie(image.lastSector) || hasCookie(oldFooterOf(image)),
  // A fixed one is a raw disk with a sector after it, and a raw disk may be partitioned.
  covers: ({ first }) => (hasCookie(first) ? [] : ["gpt", "mbr"]),
  examine: async (image) => {
    if (!hasCookie(image.lastSector) && hasCookie(oldFooterOf(image))) {
      throw new BrokenImage(
        "it is a vhd with the footer of 511 bytes that Virtual PC wrote before 2004",
      );
    }
    return hasCookie(image.first) ? examineDynamic(image) : examineFixed(image);
  },
};

function hasCookie(sector: Buffer): boolean {
  return sector.subarray(0, COOKIE.length).equals(COOKIE);
}

function oldFooterOf({ last }: ImageBytes): Buffer {
  return last.subarray(Math.max(0, last.length - OLD_FOOTER_BYTES));
}

function examineFixed({ lastSector: footer, sizeBytes }: ImageBytes): Examination {
  if (footer.length < FOOTER_BYTES) {
    throw new BrokenImage("its vhd footer is cut off", { isCutOff: true });
  }
  const type = footer.readUInt32BE(DISK_TYPE_AT);
  const currentBytes = footer.readBigUInt64BE(CURRENT_SIZE_AT);
  const diskBytes = diskBytesOf(footer);
  const statedBytes = diskBytes > currentBytes ? diskBytes : currentBytes;
  const heldBytes = sizeBytes - FOOTER_BYTES;
  return {
    virtualSizeBytes: diskBytes,
    checks: {
      parent: parentProblem(type),
      disk_type: type === FIXED ? undefined : `it is a vhd of type ${type} without a header`,
      checksum: checksumProblem("footer", footer, FOOTER_CHECKSUM_AT),
      disk_size: diskSizeProblem(diskBytes),
      complete:
        statedBytes > heldBytes
          ? cutOff(
              `its vhd footer states ${String(statedBytes)} bytes, but only ${heldBytes} are there`,
            )
          : undefined,
    },
  };
}

/** The size of the disk that a guest sees. It depends on the program that made the image. */
function diskBytesOf(footer: Buffer): bigint {
  const creator = footer.toString("latin1", CREATOR_AT, CREATOR_AT + 4);
  const cylinders = footer.readUInt16BE(GEOMETRY_AT);
  const [heads = 0, sectors = 0] = footer.subarray(GEOMETRY_AT + 2, GEOMETRY_AT + 4);
  const geometrySectors = cylinders * heads * sectors;
  const statesSize = CREATORS_OF_SIZES.some((each) => creator.startsWith(each));
  if (statesSize || geometrySectors === MOST_GEOMETRY_SECTORS) {
    const currentBytes = footer.readBigUInt64BE(CURRENT_SIZE_AT);
    return currentBytes - (currentBytes % BigInt(SECTOR_BYTES));
  }
  return BigInt(geometrySectors) * BigInt(SECTOR_BYTES);
}

function diskSizeProblem(diskBytes: bigint): string | undefined {
  if (diskBytes <= MOST_SECTORS * BigInt(SECTOR_BYTES)) return undefined;
  return `its vhd footer states ${String(diskBytes)} bytes, more than the 2040 GiB that a vhd can have`;
}

/** The finding of a wrong checksum: the complement of the sum of all bytes but its own. */
function checksumProblem(what: string, structure: Buffer, at: number): string | undefined {
  const stated = structure.readUInt32BE(at);
  const own = structure.subarray(at, at + 4).reduce((sum, byte) => sum + byte, 0);
  const sum = structure.reduce((rest, byte) => rest + byte, 0) - own;
  return ~sum >>> 0 === stated ? undefined : `its vhd ${what} has a wrong checksum`;
}

async function examineDynamic(image: ImageBytes): Promise<Examination> {
  const footer = await image.read("vhd header", 0, FOOTER_BYTES);
  const virtualSizeBytes = diskBytesOf(footer);
  const type = footer.readUInt32BE(DISK_TYPE_AT);
  const typeChecks = {
    parent: parentProblem(type),
    disk_type: type === DYNAMIC ? undefined : `it is a vhd of type ${type} with a header`,
  };
  // A parent is reported even where the rest of the header can't be read.
  if (type !== DYNAMIC) return { virtualSizeBytes, checks: typeChecks };
  const position = footer.readBigUInt64BE(DATA_OFFSET_AT);
  const header = await image.read("vhd dynamic header", position, DYNAMIC_HEADER_BYTES);
  const refersToParent = [PARENT_UUID, PARENT_NAME_AND_LOCATORS].some(([start, end]) =>
    header.subarray(start, end).some((byte) => byte !== 0),
  );
  const tableProblem = blockTableProblem(header, virtualSizeBytes);
  return {
    virtualSizeBytes,
    checks: {
      ...typeChecks,
      parent: refersToParent ? PARENT_REASON : undefined,
      checksum:
        checksumProblem("footer", footer, FOOTER_CHECKSUM_AT) ??
        checksumProblem("dynamic header", header, HEADER_CHECKSUM_AT),
      disk_size: diskSizeProblem(virtualSizeBytes),
      block_table: tableProblem,
      complete:
        (tableProblem === undefined ? await missingBlocks(image, header) : undefined) ??
        footersProblem(image, footer),
    },
  };
}

const PARENT_REASON = "it is a differencing vhd that refers to a parent";

function parentProblem(type: number): string | undefined {
  return type === DIFFERENCING ? PARENT_REASON : undefined;
}

function blockTableProblem(header: Buffer, diskBytes: bigint): string | undefined {
  if (!header.subarray(0, DYNAMIC_COOKIE.length).equals(DYNAMIC_COOKIE)) {
    return "its vhd dynamic header has no cookie";
  }
  const entries = header.readUInt32BE(TABLE_ENTRIES_AT);
  const blockBytes = header.readUInt32BE(BLOCK_SIZE_AT);
  if (blockBytes < SECTOR_BYTES || !Number.isInteger(Math.log2(blockBytes))) {
    return `its vhd blocks have ${blockBytes} bytes, not a power of 2 from 512 on`;
  }
  // QEMU's bound.
  if (entries > 0x7fffffff / 4) return `its vhd block table has ${entries} entries`;
  if (BigInt(entries) * BigInt(blockBytes) >= diskBytes) return undefined;
  return "its vhd header states fewer blocks than its size needs";
}

/**
 * Walks through the block table. A block is a bitmap of its sectors, padded to whole sectors, and
 * the data.
 */
async function missingBlocks(image: ImageBytes, header: Buffer): Promise<Finding | undefined> {
  const entries = header.readUInt32BE(TABLE_ENTRIES_AT);
  const blockBytes = header.readUInt32BE(BLOCK_SIZE_AT);
  const bitmapBytes = Math.ceil(blockBytes / SECTOR_BYTES / 8 / SECTOR_BYTES) * SECTOR_BYTES;
  const tableAt = Number(header.readBigUInt64BE(TABLE_OFFSET_AT));
  const end = new DataEnd(image);
  if (!end.reach("vhd block table", tableAt + entries * 4)) return end.problem;
  for await (const { piece } of image.pieces("vhd block table", tableAt, entries * 4)) {
    for (let at = 0; at < piece.length; at += 4) {
      const sector = piece.readUInt32BE(at);
      if (sector === UNUSED) continue;
      end.reach("vhd block", sector * SECTOR_BYTES + bitmapBytes + blockBytes);
    }
  }
  return end.problem;
}

/**
 * The finding of a header that is not a copy of the footer: programs follow the one or the other.
 */
function footersProblem({ lastSector }: ImageBytes, header: Buffer): Finding | string | undefined {
  if (!hasCookie(lastSector)) return cutOff("its vhd footer is missing at the end of the file");
  const isSame = COMPARED.every(([start, end]) =>
    header.subarray(start, end).equals(lastSector.subarray(start, end)),
  );
  return isSame ? undefined : "its vhd footer and the copy at its start differ";
}
