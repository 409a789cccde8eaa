import { randomBytes } from "node:crypto";
import { open, type FileHandle } from "node:fs/promises";

const SECTOR_BYTES = 512;
const BLOCK_BYTES = 1024 * 1024;
/** Size of the disk: large enough that every phase can be seen. */
const DISK_BYTES = 256 * BLOCK_BYTES;
// Where partitioning tools start the first partition: aligned to 1 MiB.
const PARTITION_FIRST_SECTOR = 2048;
const LINUX_PARTITION = 0x83;

/**
 * Boot code for the first sector, 16-bit x86: prints the text behind it by the BIOS (int 10h,
 * function 0Eh) and halts.
 *
 * `xor ax,ax; mov ds,ax; mov si,0x7c14; lodsb; test al,al; jz +6; mov ah,0x0e; int 0x10; jmp -11; hlt; jmp -3`
 */
const BOOT_CODE = Buffer.from("31c08ed8be147cac84c07406b40ecd10ebf5f4ebfd90", "hex").subarray(
  0,
  21,
);
const BOOT_TEXT = "Image Import demo disk\r\n\0";

/**
 * Writes a disk image that boots on a BIOS (it greets and halts): a master boot record with one
 * partition, which holds random data with a hole in every fourth MiB, as file systems have.
 */
export async function writeDemoDisk(path: string): Promise<void> {
  const disk = await open(path, "wx", 0o600);
  try {
    await disk.truncate(DISK_BYTES);
    await disk.write(masterBootRecord(), 0, SECTOR_BYTES, 0);
    await fillPartition(disk);
  } finally {
    await disk.close();
  }
}

function masterBootRecord(): Buffer {
  const sector = Buffer.alloc(SECTOR_BYTES);
  const code = bootCode();
  code.copy(sector);
  // Four entries of 16 bytes from 446 on: flag, CHS, type, CHS, first sector, number of sectors.
  const entry = sector.subarray(446, 462);
  entry.writeUInt8(0x80, 0);
  entry.writeUInt8(LINUX_PARTITION, 4);
  entry.writeUInt32LE(PARTITION_FIRST_SECTOR, 8);
  entry.writeUInt32LE(DISK_BYTES / SECTOR_BYTES - PARTITION_FIRST_SECTOR, 12);
  sector.writeUInt16LE(0xaa55, 510);
  return sector;
}

/** The code, and the address of its text: the BIOS loads the sector to 0x7c00. */
function bootCode(): Buffer {
  const code = Buffer.from(BOOT_CODE);
  code.writeUInt16LE(0x7c00 + code.length, 5);
  return Buffer.concat([code, Buffer.from(BOOT_TEXT, "latin1")]);
}

async function fillPartition(disk: FileHandle): Promise<void> {
  for (let position = BLOCK_BYTES; position < DISK_BYTES; position += BLOCK_BYTES) {
    const isHole = (position / BLOCK_BYTES) % 4 === 3;
    if (!isHole) await disk.write(randomBytes(BLOCK_BYTES), 0, BLOCK_BYTES, position);
  }
}
