// A transform of your own: pads raw images with zeros to a whole MiB, as Azure and some hypervisors
// want them, and keeps a note of it in a directory. In the configuration:
//
//   import:
//     transforms: [{ module: ./align-to-mebibyte.mjs }]
//
// and in the worker's environment ALIGN_NOTES, the directory for the notes.
import { constants } from "node:fs";
import { copyFile, open, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";

const MIB = 1024 * 1024;
const NOTES = process.env["ALIGN_NOTES"] ?? "";

/**
 * By image and import: an undo that comes late does not meet the note of a later import.
 *
 * @param {import("image-import/transform").TransformImage} image
 */
function notePath({ id, epoch }) {
  return join(NOTES, `${id}.${epoch}.json`);
}

/** @type {import("image-import/transform").Transform} */
export default {
  name: "align_to_mebibyte",

  /**
   * When a worker starts and in `doctor`: a mistake is reported now, and not by the first import.
   */
  async check() {
    const isDirectory = await stat(NOTES).then(
      (found) => found.isDirectory(),
      () => false,
    );
    return isDirectory ? undefined : `ALIGN_NOTES must name a directory, not "${NOTES}"`;
  },

  async run({ image, sourcePath, sizeBytes, productPath, maxProductBytes, signal, report }) {
    if (image.diskFormat !== "raw" || sizeBytes % MIB === 0) return undefined;
    const alignedBytes = Math.ceil(sizeBytes / MIB) * MIB;
    // What is thrown fails the import, with this text in its task.
    if (alignedBytes > maxProductBytes) throw new Error(`it would have ${alignedBytes} bytes`);

    // Where the file system can, this shares the blocks instead of copying them.
    await copyFile(sourcePath, productPath, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL);
    signal.throwIfAborted();
    const product = await open(productPath, "r+");
    try {
      await product.truncate(alignedBytes);
      await product.sync();
    } finally {
      await product.close();
    }
    report(alignedBytes, alignedBytes);

    try {
      await writeFile(notePath(image), JSON.stringify({ sizeBytes, alignedBytes }));
    } catch (cause) {
      // Not the image's fault: marked like this, the step is tried again automatically.
      throw Object.assign(new Error("the note could not be kept", { cause }), { retryable: true });
    }
    return { hasProduct: true, properties: { aligned_from: String(sizeBytes) } };
  },

  /** The product is removed without us; the note is ours. Nothing there is success. */
  async undo(image) {
    await rm(notePath(image), { force: true });
  },
};
