import { pathToFileURL } from "node:url";
import { ensureSystemTool } from "./system-tool.mjs";

/** The tool as {@link ensureSystemTool} takes it. */
export const QEMU_IMG = {
  program: "qemu-img",
  packageName: "qemu-utils",
  variable: "QEMU_IMG",
};

/**
 * The path of a qemu-img, with which the tests make their disk images, or undefined if there is no
 * way to get one.
 */
export async function ensureQemuImg() {
  return ensureSystemTool(QEMU_IMG);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  process.stdout.write(`${(await ensureQemuImg()) ?? ""}\n`);
}
