import { open } from "node:fs/promises";
import { convert } from "#dist/transforms/convert.js";

// Converts a raw image to a VMDK with a qemu-img, if wanted as another user.

const { sourcePath, productPath, qemuImg, uid } = JSON.parse(process.argv[2] ?? "");
if (uid !== undefined) {
  // Not by the parent: the program of Node may lie where that user may not read, as npx has it.
  process.setgroups?.([]);
  process.setgid?.(uid);
  process.setuid?.(uid);
}
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
