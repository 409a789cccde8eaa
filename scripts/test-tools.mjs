import { pathToFileURL } from "node:url";
import { IMAGE_TOOLS } from "./image-tools.mjs";
import { QEMU_IMG } from "./qemu-img.mjs";
import { ensureSystemTools } from "./system-tool.mjs";
import { ensureVersitygw } from "./versitygw.mjs";

// Gets the programs that the tests need beside the package's own dependencies and a Temporal CLI.
// Runs without these dependencies.

const FILE_SYSTEM_TOOLS = [
  { program: "xorriso", packageName: "xorriso", variable: "XORRISO" },
  // Makes a file system that can clone.
  { program: "mkfs.btrfs", packageName: "btrfs-progs", variable: "MKFS_BTRFS" },
];

// For the tests of `completion`. The variable is not ZSH: a popular configuration of zsh sets that.
const SHELLS = [
  { program: "zsh", packageName: "zsh", variable: "ZSH_PROGRAM" },
  { program: "fish", packageName: "fish", variable: "FISH_PROGRAM" },
];

// For the tests of the man pages.
const MAN = { program: "man", packageName: "man-db", variable: "MAN_PROGRAM" };

// A terminal whose screen can be read.
const TMUX = {
  ...{ program: "tmux", packageName: "tmux", versionOption: "-V" },
  // Not TMUX: tmux sets that variable.
  variable: "TMUX_PROGRAM",
};

/**
 * The programs with which the tests make their images, the shells, man, and a terminal.
 *
 * @returns their paths by their environment variables, without the programs that cannot be got
 */
export async function ensureTestTools() {
  return ensureSystemTools([QEMU_IMG, ...FILE_SYSTEM_TOOLS, ...IMAGE_TOOLS, ...SHELLS, MAN, TMUX]);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  await Promise.all([ensureTestTools(), ensureVersitygw()]);
}
