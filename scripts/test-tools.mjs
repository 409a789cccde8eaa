import { pathToFileURL } from "node:url";
import { IMAGE_TOOLS } from "./image-tools.mjs";
import { QEMU_IMG } from "./qemu-img.mjs";
import { ensureSystemTools } from "./system-tool.mjs";
import { ensureVersitygw } from "./versitygw.mjs";

// What the tests need beside the package's own dependencies and a Temporal CLI. Run as a program it gets everything, and
// needs none of the dependencies for that.

const FILE_SYSTEM_TOOLS = [
  { program: "xorriso", packageName: "xorriso", variable: "XORRISO" },
  // With it the tests make a file system that can clone.
  { program: "mkfs.btrfs", packageName: "btrfs-progs", variable: "MKFS_BTRFS" },
];

/**
 * The programs that the tests make their images with.
 *
 * @returns their paths by the environment variables that name them, without those that there is no way to get
 */
export async function ensureTestTools() {
  return ensureSystemTools([QEMU_IMG, ...FILE_SYSTEM_TOOLS, ...IMAGE_TOOLS]);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await Promise.all([ensureTestTools(), ensureVersitygw()]);
}
