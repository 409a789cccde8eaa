import { execFile, execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { onTestFinished } from "vitest";
import { makeTemporaryDirectory } from "./temporary-directory.ts";

/**
 * True if this user may mount file systems. Tests that need it are skipped otherwise, and say so.
 */
export const MAY_MOUNT = mayMount();

/** A file system of its own with little room, gone when the running test has finished. */
export async function mountSmallVolume(sizeMib: number): Promise<string> {
  return mount("-t", "tmpfs", "-o", `size=${sizeMib}m`, "tmpfs");
}

/** A read-only file system, removed when the running test has finished. */
export async function mountReadOnlyVolume(): Promise<string> {
  return mount("-t", "tmpfs", "-o", "ro", "tmpfs");
}

/** The same directory on a mount of its own, gone when the running test has finished. */
export async function mountAgain(directory: string): Promise<string> {
  return mount("--bind", directory);
}

async function mount(...what: readonly string[]): Promise<string> {
  const path = makeTemporaryDirectory();
  await promisify(execFile)("mount", [...what, path]);
  onTestFinished(async () => {
    await promisify(execFile)("umount", ["--lazy", path]);
  });
  return path;
}

function mayMount(): boolean {
  const path = mkdtempSync(join(tmpdir(), "image-import-mount-"));
  try {
    execFileSync("mount", ["-t", "tmpfs", "tmpfs", path], { stdio: "ignore" });
    execFileSync("umount", [path], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  } finally {
    rmSync(path, { recursive: true, force: true });
  }
}
