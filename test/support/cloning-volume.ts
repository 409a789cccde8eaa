import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { onTestFinished } from "vitest";
import { makeTemporaryDirectory } from "./temporary-directory.ts";

const MKFS = process.env["MKFS_BTRFS"] ?? "mkfs.btrfs";

/** Why no file system that can clone can be mounted here; undefined when one can. */
export const WHY_NO_CLONES = whyNoClones();

/**
 * A btrfs of its own, which can share blocks between files; gone when the running test has
 * finished.
 */
export async function mountCloningVolume(): Promise<string> {
  const directory = makeTemporaryDirectory();
  const path = makeTemporaryDirectory();
  execFileSync("mount", ["-o", "loop", makeImage(directory), path]);
  onTestFinished(async () => {
    await promisify(execFile)("umount", ["--lazy", path]);
  });
  return path;
}

/** The smallest that btrfs takes is a little more than 100 MiB. */
function makeImage(directory: string): string {
  const image = join(directory, "btrfs.img");
  writeFileSync(image, "");
  truncateSync(image, 256 * 1024 * 1024);
  execFileSync(MKFS, ["--quiet", image], { stdio: ["ignore", "ignore", "pipe"] });
  return image;
}

function whyNoClones(): string | undefined {
  const directory = mkdtempSync(join(tmpdir(), "image-import-clone-"));
  try {
    const image = makeImage(directory);
    const path = mkdtempSync(join(directory, "mount-"));
    execFileSync("mount", ["-o", "loop", image, path], { stdio: ["ignore", "ignore", "pipe"] });
    execFileSync("umount", [path]);
    return undefined;
  } catch (error) {
    return error instanceof Error ? (error.message.split("\n").at(-1) ?? error.message) : "unknown";
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
