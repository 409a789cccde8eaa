import { DataEnd } from "./data-end.ts";
import type { Detector, Finding } from "./detector.ts";
import type { ImageBytes } from "./image-bytes.ts";

const MAGIC = 0xbeda107f;

// Offsets of QEMU's block/vdi.c; little-endian.
const MAGIC_AT = 0x40;
const VERSION_AT = 0x44;
const IMAGE_TYPE_AT = 0x4c;
const BLOCK_MAP_OFFSET_AT = 0x154;
const DATA_OFFSET_AT = 0x158;
const SECTOR_SIZE_AT = 0x168;
const DISK_SIZE_AT = 0x170;
const BLOCK_SIZE_AT = 0x178;
const BLOCK_EXTRA_AT = 0x17c;
const BLOCKS_AT = 0x180;
// The identities of the image that this one was made from, and of its parent.
const LINK_UUIDS_AT = 0x1a8;
const LINK_UUIDS_BYTES = 32;
const HEADER_BYTES = 0x200;

const VERSION = { major: 1, minor: 1 };
const SELF_CONTAINED_TYPES = [1, 2];

const SECTOR_BYTES = 512;
// QEMU reads only blocks of this size. VirtualBox makes others only if the user asks for them.
const BLOCK_BYTES = 1024 * 1024;
const MOST_BLOCKS = 0x3fffffff;
/** An entry of the block map from here on: a block that is absent, or has zeros (`0xfffffffe`). */
const LEAST_UNALLOCATED = 0xfffffffe;

/** VirtualBox's format. */
export const vdi: Detector = {
  format: "vdi",
  matches: ({ first }) => first.length >= MAGIC_AT + 4 && first.readUInt32LE(MAGIC_AT) === MAGIC,
  examine: async (image) => {
    const header = await image.read("vdi header", 0, HEADER_BYTES);
    const diskBytes = header.readBigUInt64LE(DISK_SIZE_AT);
    const layout = layoutProblem(header);
    const blockMap = blockMapProblem(header);
    const isReadable = layout === undefined && blockMap === undefined;
    return {
      // A guest sees whole sectors.
      virtualSizeBytes: ((diskBytes + 511n) / 512n) * 512n,
      checks: {
        version: versionProblem(header),
        parent: parentProblem(header),
        layout,
        block_map: blockMap,
        complete: isReadable ? await missingBlocks(image, header) : undefined,
      },
    };
  },
};

function versionProblem(header: Buffer): string | undefined {
  const minor = header.readUInt16LE(VERSION_AT);
  const major = header.readUInt16LE(VERSION_AT + 2);
  if (major === VERSION.major && minor === VERSION.minor) return undefined;
  return `it is a vdi of version ${major}.${minor}; only 1.1 is supported`;
}

function parentProblem(header: Buffer): string | undefined {
  const uuids = header.subarray(LINK_UUIDS_AT, LINK_UUIDS_AT + LINK_UUIDS_BYTES);
  const isLinked = uuids.some((byte) => byte !== 0);
  const isSelfContained = SELF_CONTAINED_TYPES.includes(header.readUInt32LE(IMAGE_TYPE_AT));
  return isLinked || !isSelfContained ? "it is a vdi that refers to a parent" : undefined;
}

function layoutProblem(header: Buffer): string | undefined {
  const sectorBytes = header.readUInt32LE(SECTOR_SIZE_AT);
  if (sectorBytes !== SECTOR_BYTES) {
    return `its vdi header states sectors of ${sectorBytes} bytes; only 512 bytes are supported`;
  }
  const blockBytes = header.readUInt32LE(BLOCK_SIZE_AT);
  if (blockBytes !== BLOCK_BYTES || header.readUInt32LE(BLOCK_EXTRA_AT) !== 0) {
    return `its vdi header states blocks of ${blockBytes} bytes; only blocks of 1 MiB with nothing between them are supported`;
  }
  const isAligned = [BLOCK_MAP_OFFSET_AT, DATA_OFFSET_AT].every(
    (at) => header.readUInt32LE(at) % SECTOR_BYTES === 0,
  );
  return isAligned ? undefined : "its vdi block map or its data does not begin at a sector";
}

function blockMapProblem(header: Buffer): string | undefined {
  const blocks = header.readUInt32LE(BLOCKS_AT);
  if (blocks > MOST_BLOCKS) return `its vdi block map has ${blocks} entries`;
  if (BigInt(blocks) * BigInt(BLOCK_BYTES) >= header.readBigUInt64LE(DISK_SIZE_AT))
    return undefined;
  return "its vdi header states fewer blocks than its disk size needs";
}

/** Walks through the block map, of a dynamic or a static image. */
async function missingBlocks(image: ImageBytes, header: Buffer): Promise<Finding | undefined> {
  const mapAt = header.readUInt32LE(BLOCK_MAP_OFFSET_AT);
  const dataAt = header.readUInt32LE(DATA_OFFSET_AT);
  const diskBytes = Number(header.readBigUInt64LE(DISK_SIZE_AT));
  const mapBytes = header.readUInt32LE(BLOCKS_AT) * 4;
  const end = new DataEnd(image);
  if (!end.reach("vdi block map", mapAt + mapBytes)) return end.problem;
  for await (const { piece, at: position } of image.pieces("vdi block map", mapAt, mapBytes)) {
    for (let at = 0; at < piece.length; at += 4) {
      const block = piece.readUInt32LE(at);
      if (block >= LEAST_UNALLOCATED) continue;
      const leftBytes = diskBytes - ((position + at) / 4) * BLOCK_BYTES;
      // The last block may be cut where the disk ends.
      const neededBytes = Math.min(BLOCK_BYTES, leftBytes);
      if (neededBytes > 0) end.reach("vdi block", dataAt + block * BLOCK_BYTES + neededBytes);
    }
  }
  return end.problem;
}
