import { open, readFile, realpath, stat } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { openUpload } from "./open-upload.ts";

/** A file or a block device that is only inspected. */
export interface Inspected extends AsyncDisposable {
  readonly handle: FileHandle;
  readonly sizeBytes: number;
}

const SECTOR_BYTES = 512;

/**
 * Opens an image for inspection. It follows symbolic links, which are common in image pools, and
 * reads block devices, such as logical volumes. Staging takes neither.
 *
 * @throws ImportError `FileNotFound`, `UnusableFile`
 */
export async function openInspected(path: string): Promise<Inspected> {
  const target = await realpath(path).catch(() => path);
  const isBlockDevice = await stat(target).then(
    (stats) => stats.isBlockDevice(),
    () => false,
  );
  const handle = isBlockDevice ? await open(target, "r") : await openUpload(target);
  try {
    const stats = await handle.stat();
    const sizeBytes = stats.isBlockDevice() ? await deviceBytes(stats.rdev) : stats.size;
    return { handle, sizeBytes, [Symbol.asyncDispose]: () => handle.close() };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * The size of a block device: Linux states it in sectors of 512 bytes for every device.
 */
async function deviceBytes(rdev: number): Promise<number> {
  // gnu_dev_major() and gnu_dev_minor() of glibc's sys/sysmacros.h.
  const number = BigInt(rdev);
  const major = ((number >> 8n) & 0xfffn) | ((number >> 32n) & 0xfffff000n);
  const minor = (number & 0xffn) | ((number >> 12n) & 0xffffff00n);
  const sectors = await readFile(`/sys/dev/block/${String(major)}:${String(minor)}/size`, "utf8");
  return Number(sectors) * SECTOR_BYTES;
}
