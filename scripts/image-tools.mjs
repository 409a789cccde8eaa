import { pathToFileURL } from "node:url";
import { ensureSystemTools } from "./system-tool.mjs";

/** The programs with which the tests make images, beside qemu-img and xorriso. */
export const IMAGE_TOOLS = [
  { program: "sfdisk", packageName: "fdisk", variable: "SFDISK" },
  { program: "sgdisk", packageName: "gdisk", variable: "SGDISK" },
  { program: "cryptsetup", packageName: "cryptsetup-bin", variable: "CRYPTSETUP" },
  { program: "zstd", packageName: "zstd", variable: "ZSTD" },
  { program: "xz", packageName: "xz-utils", variable: "XZ" },
  // Not ZIP: zip reads arguments from that variable.
  { program: "zip", packageName: "zip", variable: "ZIP_PROGRAM" },
];

/** The paths of the tools by their environment variables, without the tools that cannot be got. */
export async function ensureImageTools() {
  return ensureSystemTools(IMAGE_TOOLS);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  process.stdout.write(`${JSON.stringify(await ensureImageTools(), null, 2)}\n`);
}
