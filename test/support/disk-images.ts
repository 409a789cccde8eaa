import { execFile, execFileSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { mkdir, open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { MIB } from "./mib.ts";

// `npm test` gets both and names them; without it they are taken from PATH.
const QEMU_IMG = process.env["QEMU_IMG"] ?? "qemu-img";
const XORRISO = process.env["XORRISO"] ?? "xorriso";

/** The missing tools, for the titles of tests that are skipped without them. */
export const MISSING_TOOL = [QEMU_IMG, XORRISO].find((tool) => !runs(tool));

function runs(program: string): boolean {
  try {
    execFileSync(program, ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}

/**
 * Writes random bytes: none of them can be skipped, so that the size of a copy shows its progress.
 */
export async function writeRandomFile(path: string, sizeBytes: number): Promise<void> {
  const handle = await open(path, "wx");
  try {
    for (let position = 0; position < sizeBytes; position += MIB) {
      await handle.write(randomBytes(Math.min(MIB, sizeBytes - position)), 0);
    }
  } finally {
    await handle.close();
  }
}

/**
 * A raw disk in `directory`: a boot sector, data, and a hole in every fourth MiB, as file systems
 * have.
 */
export async function makeRawDisk(directory: string, sizeBytes = 16 * MIB): Promise<string> {
  const path = join(directory, "disk.raw");
  const handle = await open(path, "wx");
  try {
    await handle.truncate(sizeBytes);
    for (let position = 0; position < sizeBytes; position += MIB) {
      const isHole = (position / MIB) % 4 === 3;
      if (!isHole) await handle.write(randomBytes(MIB), 0, MIB, position);
    }
    // The end of a boot sector: a table with one partition, and its mark.
    const table = Buffer.alloc(66);
    table.writeUInt8(0x83, 4);
    table.writeUInt32LE(2048, 8);
    table.writeUInt32LE(sizeBytes / 512 - 2048, 12);
    table.writeUInt16LE(0xaa55, 64);
    await handle.write(table, 0, table.length, 446);
  } finally {
    await handle.close();
  }
  return path;
}

/** The same disk in a format of qemu-img's. */
export async function convertDisk(
  rawPath: string,
  format: "qcow2" | "vmdk",
  options: readonly string[] = [],
): Promise<string> {
  const path = rawPath.replace(/\.raw$/, `.${format}`);
  const settings = options.flatMap((option) => ["-o", option]);
  await qemuImg("convert", "-f", "raw", "-O", format, ...settings, rawPath, path);
  return path;
}

/** An ISO 9660 image in `directory`, with Rock Ridge and Joliet, of a folder with two files. */
export async function makeIso(directory: string): Promise<string> {
  const [folder, path] = [join(directory, "iso"), join(directory, "disc.iso")];
  await mkdir(folder);
  await writeFile(join(folder, "README.TXT"), "A disc of the tests\n");
  await writeFile(join(folder, "data.bin"), randomBytes(3 * MIB));
  await promisify(execFile)(XORRISO, [
    ...["-as", "mkisofs", "-quiet", "-R", "-J", "-V", "TESTS", "-o", path, folder],
  ]);
  return path;
}

/**
 * Asks qemu-img whether two disks in the same format hold the same data. @throws Error when they
 * don't
 */
export async function compareDisks(format: string, one: string, other: string): Promise<string> {
  return qemuImg("compare", "-f", format, "-F", format, one, other);
}

/** Asks qemu-img whether a disk is whole. @throws Error when it isn't */
export async function checkDisk(format: "qcow2" | "vmdk", path: string): Promise<string> {
  return qemuImg("check", "-f", format, path);
}

async function qemuImg(...args: readonly string[]): Promise<string> {
  return (await promisify(execFile)(QEMU_IMG, args)).stdout;
}
