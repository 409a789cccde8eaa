import { pathToFileURL } from "node:url";
import { ensureSystemTool } from "./system-tool.mjs";

/** The path of a mkfs.btrfs, with which the tests make a file system that can clone, or undefined when there is none. */
export async function ensureMkfsBtrfs() {
  return ensureSystemTool({
    program: "mkfs.btrfs",
    packageName: "btrfs-progs",
    variable: "MKFS_BTRFS",
  });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  process.stdout.write(`${(await ensureMkfsBtrfs()) ?? ""}\n`);
}
