import { randomBytes } from "node:crypto";
import { open } from "node:fs/promises";

const BLOCK_BYTES = 1024 * 1024;
/** Large enough that every phase of the import is visible. */
const DISK_BYTES = 256 * BLOCK_BYTES;

/** Writes a raw disk image: random data, with a hole in every fourth MiB, as file systems have. */
export async function writeDemoDisk(path: string): Promise<void> {
  const disk = await open(path, "wx", 0o600);
  try {
    await disk.truncate(DISK_BYTES);
    for (let position = 0; position < DISK_BYTES; position += BLOCK_BYTES) {
      const isHole = (position / BLOCK_BYTES) % 4 === 3;
      if (!isHole) await disk.write(randomBytes(BLOCK_BYTES), 0, BLOCK_BYTES, position);
    }
  } finally {
    await disk.close();
  }
}
