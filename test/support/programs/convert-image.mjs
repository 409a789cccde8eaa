import { open } from "node:fs/promises";
import { convert } from "#dist/transforms/convert.js";

// Converts a raw image to a VMDK with a qemu-img.

const { sourcePath, productPath, qemuImg } = JSON.parse(process.argv[2] ?? "");
const source = await open(sourcePath);
const { size: sizeBytes } = await source.stat();
await convert({ target: "vmdk", vmdkType: "streamOptimized", qemuImg }).run({
  image: { id: "an-image", epoch: 1, diskFormat: "raw", containerFormat: "bare", roles: [] },
  source,
  sourcePath,
  sizeBytes,
  productPath,
  maxProductBytes: 1e12,
  signal: new AbortController().signal,
  report: () => undefined,
});
