import { pathToFileURL } from "node:url";
import { ensureSystemTools } from "./system-tool.mjs";

// Programs of which the tests make images, beside qemu-img and xorriso.
export const IMAGE_TOOLS = [
  { program: "sfdisk", packageName: "fdisk", variable: "SFDISK" },
  { program: "sgdisk", packageName: "gdisk", variable: "SGDISK" },
  { program: "cryptsetup", packageName: "cryptsetup-bin", variable: "CRYPTSETUP" },
  { program: "zstd", packageName: "zstd", variable: "ZSTD" },
  { program: "xz", packageName: "xz-utils", variable: "XZ" },
  // Not ZIP: zip takes what that says for arguments.
  { program: "zip", packageName: "zip", variable: "ZIP_PROGRAM" },
];

/** Their paths by the environment variables that name them, without those that there is no way to get. */
export async function ensureImageTools() {
  return ensureSystemTools(IMAGE_TOOLS);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? "").href) {
  process.stdout.write(`${JSON.stringify(await ensureImageTools(), null, 2)}\n`);
}
