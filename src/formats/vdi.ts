import type { Detector } from "./detector.ts";
import type { ImageBytes } from "./image-bytes.ts";

const MAGIC = 0xbeda107f;

// Offsets of QEMU's block/vdi.c; little-endian.
const MAGIC_AT = 0x40;
const VERSION_AT = 0x44;
const IMAGE_TYPE_AT = 0x4c;
const BLOCK_MAP_OFFSET_AT = 0x154;
const DISK_SIZE_AT = 0x170;
const BLOCK_SIZE_AT = 0x178;
const BLOCKS_AT = 0x180;
// Of the image that this one was made from, and of its parent.
const LINK_UUIDS_AT = 0x1a8;
const LINK_UUIDS_BYTES = 32;
const HEADER_BYTES = 0x1c8;

const VERSION_MAJOR = 1;
const SELF_CONTAINED_TYPES = [1, 2];

/** VirtualBox's format. */
export const vdi: Detector = {
  format: "vdi",
  matches: ({ first }) => first.length >= MAGIC_AT + 4 && first.readUInt32LE(MAGIC_AT) === MAGIC,
  examine: async (image) => {
    const header = await image.read("vdi header", 0, HEADER_BYTES);
    return {
      virtualSizeBytes: header.readBigUInt64LE(DISK_SIZE_AT),
      checks: {
        version: versionProblem(header.readUInt16LE(VERSION_AT + 2)),
        parent: parentProblem(header),
        block_map: blockMapProblem(header, image),
      },
    };
  },
};

function versionProblem(major: number): string | undefined {
  if (major === VERSION_MAJOR) return undefined;
  return `it is a vdi of version ${major}, and only 1 is known`;
}

function parentProblem(header: Buffer): string | undefined {
  const uuids = header.subarray(LINK_UUIDS_AT, LINK_UUIDS_AT + LINK_UUIDS_BYTES);
  const isLinked = uuids.some((byte) => byte !== 0);
  const isSelfContained = SELF_CONTAINED_TYPES.includes(header.readUInt32LE(IMAGE_TYPE_AT));
  return isLinked || !isSelfContained ? "it is a vdi that refers to a parent" : undefined;
}

function blockMapProblem(header: Buffer, image: ImageBytes): string | undefined {
  const blocks = BigInt(header.readUInt32LE(BLOCKS_AT));
  const heldBytes = blocks * BigInt(header.readUInt32LE(BLOCK_SIZE_AT));
  if (heldBytes < header.readBigUInt64LE(DISK_SIZE_AT)) {
    return "the blocks of its vdi header make less than its disk size";
  }
  if (image.holds(header.readUInt32LE(BLOCK_MAP_OFFSET_AT), blocks * 4n)) return undefined;
  return "its vdi block map is cut off";
}
