import type { Detector, Examination } from "./detector.ts";
import { BrokenImage, type ImageBytes } from "./image-bytes.ts";

const COOKIE = Buffer.from("conectix", "latin1");
const DYNAMIC_COOKIE = Buffer.from("cxsparse", "latin1");

// Offsets of Microsoft's "Virtual Hard Disk Image Format Specification"; big-endian. Hard disk footer:
const FOOTER_BYTES = 512;
const DATA_OFFSET_AT = 16;
const CURRENT_SIZE_AT = 48;
const DISK_TYPE_AT = 60;
const FIXED = 2;
const DYNAMIC = 3;
const DIFFERENCING = 4;

// Dynamic disk header:
const DYNAMIC_HEADER_BYTES = 1024;
const TABLE_OFFSET_AT = 16;
const TABLE_ENTRIES_AT = 28;
const BLOCK_SIZE_AT = 32;
const PARENT_UUID = [40, 56] as const;
const PARENT_NAME_AND_LOCATORS = [64, 768] as const;

/** Microsoft's older format: dynamic (a footer at both ends) or fixed (raw data, then a footer). */
export const vhd: Detector = {
  format: "vhd",
  matches: ({ first, lastSector }) => hasCookie(first) || hasCookie(lastSector),
  // A fixed one is a raw disk with a sector behind it, and a raw disk may be partitioned.
  covers: ({ first }) => (hasCookie(first) ? [] : ["gpt", "mbr"]),
  examine: async (image) => {
    if (!hasCookie(image.first)) return examineFixed(image);
    return examineDynamic(image);
  },
};

function hasCookie(sector: Buffer): boolean {
  return sector.subarray(0, COOKIE.length).equals(COOKIE);
}

function examineFixed({ lastSector: footer, sizeBytes }: ImageBytes): Examination {
  if (footer.length < FOOTER_BYTES) throw new BrokenImage("its vhd footer is cut off");
  const type = footer.readUInt32BE(DISK_TYPE_AT);
  const currentBytes = footer.readBigUInt64BE(CURRENT_SIZE_AT);
  const heldBytes = sizeBytes - FOOTER_BYTES;
  return {
    virtualSizeBytes: currentBytes,
    checks: {
      parent: parentProblem(type),
      disk_type: type === FIXED ? undefined : `it is a vhd of type ${type} without a header`,
      complete:
        currentBytes > heldBytes
          ? `its vhd footer states ${String(currentBytes)} bytes, and ${heldBytes} are there`
          : undefined,
    },
  };
}

async function examineDynamic(image: ImageBytes): Promise<Examination> {
  const footer = await image.read("vhd header", 0, FOOTER_BYTES);
  const virtualSizeBytes = footer.readBigUInt64BE(CURRENT_SIZE_AT);
  const type = footer.readUInt32BE(DISK_TYPE_AT);
  const typeChecks = {
    parent: parentProblem(type),
    disk_type: type === DYNAMIC ? undefined : `it is a vhd of type ${type} with a header`,
  };
  // A parent is told even where the rest of the header can't be read.
  if (type !== DYNAMIC) return { virtualSizeBytes, checks: typeChecks };
  const position = footer.readBigUInt64BE(DATA_OFFSET_AT);
  const header = await image.read("vhd dynamic header", position, DYNAMIC_HEADER_BYTES);
  const refersToParent = [PARENT_UUID, PARENT_NAME_AND_LOCATORS].some(([start, end]) =>
    header.subarray(start, end).some((byte) => byte !== 0),
  );
  return {
    virtualSizeBytes,
    checks: {
      ...typeChecks,
      parent: refersToParent ? PARENT_REASON : undefined,
      block_table: blockTableProblem(header, virtualSizeBytes, image),
      complete: completenessProblem(image, footer),
    },
  };
}

const PARENT_REASON = "it is a differencing vhd that refers to a parent";

function parentProblem(type: number): string | undefined {
  return type === DIFFERENCING ? PARENT_REASON : undefined;
}

function blockTableProblem(
  header: Buffer,
  virtualSizeBytes: bigint,
  image: ImageBytes,
): string | undefined {
  if (!header.subarray(0, DYNAMIC_COOKIE.length).equals(DYNAMIC_COOKIE)) {
    return "its vhd dynamic header has no cookie";
  }
  const entries = BigInt(header.readUInt32BE(TABLE_ENTRIES_AT));
  const heldBytes = entries * BigInt(header.readUInt32BE(BLOCK_SIZE_AT));
  if (heldBytes < virtualSizeBytes) return "the blocks of its vhd header make less than its size";
  if (image.holds(header.readBigUInt64BE(TABLE_OFFSET_AT), entries * 4n)) return undefined;
  return "its vhd block table is cut off";
}

/** The header is a copy of the footer; programs go by either. */
function completenessProblem({ lastSector }: ImageBytes, header: Buffer): string | undefined {
  if (!hasCookie(lastSector)) return "its vhd footer is missing";
  const isSame = [DATA_OFFSET_AT, CURRENT_SIZE_AT].every(
    (offset) => header.readBigUInt64BE(offset) === lastSector.readBigUInt64BE(offset),
  );
  const hasSameType = header.readUInt32BE(DISK_TYPE_AT) === lastSector.readUInt32BE(DISK_TYPE_AT);
  return isSame && hasSameType ? undefined : "its vhd footer and the copy at its start differ";
}
