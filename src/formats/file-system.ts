import { cutOff, type Finding } from "./detector.ts";
import type { ImageBytes } from "./image-bytes.ts";

/** A file system, as its superblock describes it. */
export interface FileSystem {
  readonly name: string;
  /** Its size in bytes. */
  readonly sizeBytes: bigint;
}

type Sizing = (head: Buffer) => bigint | undefined;

const HEAD_BYTES = 4096;
const BTRFS = { at: 64 * 1024, bytes: 512, magicAt: 64, deviceBytesAt: 209 };

/**
 * File systems whose size shows that a raw disk is cut off: a raw disk has no other mark of its
 * end. Offsets are those of the superblocks in Linux (fs/ext4/ext4.h, fs/xfs/libxfs/xfs_format.h,
 * fs/f2fs, fs/erofs/erofs_fs.h, fs/squashfs), of Microsoft's specifications of FAT and exFAT, of
 * Apple's TN1150 (HFS+) and of its File System Reference (APFS).
 */
const FILE_SYSTEMS: readonly (readonly [name: string, sizing: Sizing])[] = [
  ["ext", extBytes],
  [
    "xfs",
    (head) =>
      textAt(head, 0, "XFSB") ? times(head.readUInt32BE(4), head.readBigUInt64BE(8)) : undefined,
  ],
  [
    "NTFS",
    (head) =>
      textAt(head, 3, "NTFS    ")
        ? times(head.readUInt16LE(11), head.readBigUInt64LE(40))
        : undefined,
  ],
  [
    "exFAT",
    (head) =>
      textAt(head, 3, "EXFAT   ")
        ? times(2 ** (head[108] ?? 0), head.readBigUInt64LE(72))
        : undefined,
  ],
  ["FAT", fatBytes],
  [
    "HFS+",
    (head) =>
      textAt(head, 1024, "H+") || textAt(head, 1024, "HX")
        ? times(head.readUInt32BE(1064), BigInt(head.readUInt32BE(1068)))
        : undefined,
  ],
  [
    "APFS",
    (head) =>
      textAt(head, 32, "NXSB") ? times(head.readUInt32LE(36), head.readBigUInt64LE(40)) : undefined,
  ],
  [
    "f2fs",
    (head) =>
      head.readUInt32LE(1024) === 0xf2f52010
        ? times(2 ** head.readUInt32LE(1040), head.readBigUInt64LE(1060))
        : undefined,
  ],
  [
    "erofs",
    (head) =>
      head.readUInt32LE(1024) === 0xe0f5e1e2
        ? times(2 ** (head[1036] ?? 0), BigInt(head.readUInt32LE(1060)))
        : undefined,
  ],
  ["squashfs", (head) => (textAt(head, 0, "hsqs") ? head.readBigUInt64LE(40) : undefined)],
  [
    "swap",
    (head) =>
      textAt(head, 4086, "SWAPSPACE2")
        ? times(4096, BigInt(head.readUInt32LE(1028)) + 1n)
        : undefined,
  ],
  ["LVM", lvmBytes],
];

/**
 * The file system that begins at a byte of the image; undefined when there is none, or the marks of
 * several.
 */
export async function fileSystemAt(
  image: ImageBytes,
  position: number,
): Promise<FileSystem | undefined> {
  if (!image.holds(position, HEAD_BYTES)) return undefined;
  const head = await image.read("file system", position, HEAD_BYTES);
  const found = FILE_SYSTEMS.flatMap(([name, sizing]) => {
    const sizeBytes = sizing(head);
    return sizeBytes === undefined ? [] : [{ name, sizeBytes }];
  });
  if (found.length > 0) return found.length === 1 ? found[0] : undefined;
  return btrfsAt(image, position);
}

/** The finding of a file system at the start of a raw disk that ends after the image. */
export async function fileSystemProblem(image: ImageBytes): Promise<Finding | undefined> {
  const found = await fileSystemAt(image, 0);
  if (found === undefined || image.holds(0, found.sizeBytes)) return undefined;
  if (found.name === "FAT" && (await holdsAllClusters(image))) return undefined;
  return cutOff(
    `its ${found.name} file system ends at byte ${String(found.sizeBytes)}, but the image ends at byte ${image.sizeBytes}`,
  );
}

function textAt(head: Buffer, position: number, mark: string): boolean {
  return head.toString("latin1", position, position + mark.length) === mark;
}

/** The size of this many blocks; undefined when no file system has such blocks. */
function times(blockBytes: number, blocks: bigint): bigint | undefined {
  const isPowerOf2 = Number.isInteger(Math.log2(blockBytes));
  if (!isPowerOf2 || blockBytes < 512 || blockBytes > 2 ** 25 || blocks === 0n) return undefined;
  return BigInt(blockBytes) * blocks;
}

function extBytes(head: Buffer): bigint | undefined {
  const superblock = head.subarray(1024);
  if (superblock.readUInt16LE(56) !== 0xef53 || superblock.readUInt32LE(24) > 6) return undefined;
  const has64Bits = (superblock.readUInt32LE(96) & 0x80) !== 0;
  const high = has64Bits ? BigInt(superblock.readUInt32LE(0x150)) : 0n;
  return times(
    1024 * 2 ** superblock.readUInt32LE(24),
    (high << 32n) + BigInt(superblock.readUInt32LE(4)),
  );
}

/** The numbers at the start of a FAT volume; undefined when they are invalid. */
function fatOf(head: Buffer) {
  const sectorBytes = head.readUInt16LE(11);
  const sectorsPerCluster = head[13] ?? 0;
  const reserved = head.readUInt16LE(14);
  const fats = head[16] ?? 0;
  const isFat =
    [0xeb, 0xe9].includes(head[0] ?? 0) &&
    [512, 1024, 2048, 4096].includes(sectorBytes) &&
    Number.isInteger(Math.log2(sectorsPerCluster)) &&
    reserved > 0 &&
    (fats === 1 || fats === 2) &&
    (head[21] ?? 0) >= 0xf0;
  if (!isFat) return undefined;
  const sectors = head.readUInt16LE(19) || head.readUInt32LE(32);
  const fatSectors = head.readUInt16LE(22);
  const dataAt =
    reserved + fats * fatSectors + Math.ceil((head.readUInt16LE(17) * 32) / sectorBytes);
  return { sectorBytes, sectorsPerCluster, reserved, sectors, fatSectors, dataAt };
}

function fatBytes(head: Buffer): bigint | undefined {
  const fat = fatOf(head);
  return fat === undefined ? undefined : times(fat.sectorBytes, BigInt(fat.sectors));
}

/**
 * True if the image holds the last used cluster of a floppy. The floppies of boot loaders end
 * there, without their free sectors.
 */
async function holdsAllClusters(image: ImageBytes): Promise<boolean> {
  const fat = fatOf(image.first);
  const MOST_FAT12_SECTORS = 12;
  if (fat === undefined || fat.fatSectors === 0 || fat.fatSectors > MOST_FAT12_SECTORS)
    return false;
  const tableBytes = fat.fatSectors * fat.sectorBytes;
  const tableAt = fat.reserved * fat.sectorBytes;
  if (!image.holds(tableAt, tableBytes)) return false;
  const table = await image.read("file allocation table", tableAt, tableBytes);
  let last = 1;
  for (let cluster = 2; Math.floor(cluster * 1.5) + 1 < table.length; cluster += 1) {
    const pair = table.readUInt16LE(Math.floor(cluster * 1.5));
    const entry = cluster % 2 === 0 ? pair & 0xfff : pair >> 4;
    // 0xff7 is a bad cluster.
    if (entry !== 0 && entry !== 0xff7) last = cluster;
  }
  return image.holds(0, (fat.dataAt + (last - 1) * fat.sectorsPerCluster) * fat.sectorBytes);
}

function lvmBytes(head: Buffer): bigint | undefined {
  const label = head.subarray(512);
  if (!textAt(label, 0, "LABELONE") || !textAt(label, 24, "LVM2 001")) return undefined;
  const headerAt = label.readUInt32LE(20);
  // A name of 32 characters, then the size of the device.
  return headerAt + 40 > 512 ? undefined : label.readBigUInt64LE(headerAt + 32);
}

async function btrfsAt(image: ImageBytes, position: number): Promise<FileSystem | undefined> {
  if (!image.holds(position + BTRFS.at, BTRFS.bytes)) return undefined;
  const superblock = await image.read("file system", position + BTRFS.at, BTRFS.bytes);
  if (!textAt(superblock, BTRFS.magicAt, "_BHRfS_M")) return undefined;
  return { name: "btrfs", sizeBytes: superblock.readBigUInt64LE(BTRFS.deviceBytesAt) };
}
