// A transform of your own. Azure and some hypervisors require that the size of a raw image is a
// multiple of 1 MiB. This transform pads raw images with zeros, and writes a note about each into a
// directory. In the configuration:
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
 * The path of the note of one import. Its name has the epoch, so that a late undo does not remove
 * the note of a later import.
 *
 * @param {import("image-import/transform").TransformImage} image
 */
function notePath({ id, epoch }) {
  return join(NOTES, `${id}.${epoch}.json`);
}

/** @type {import("image-import/transform").Transform} */
export default {
  name: "align_to_mebibyte",

  /** Runs when a worker starts and in `doctor`, so that a mistake is reported before an import. */
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
    // An error fails the import. The task shows its text.
    if (alignedBytes > maxProductBytes) throw new Error(`it would have ${alignedBytes} bytes`);

    // Shares the blocks instead of copying them if the file system can do that.
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
      // The image is not the cause. Temporal tries the step again because of `retryable`.
      throw Object.assign(new Error("the note could not be kept", { cause }), { retryable: true });
    }
    return { hasProduct: true, properties: { aligned_from: String(sizeBytes) } };
  },

  /** Removes the note. The worker removes the product. A missing note is a success. */
  async undo(image) {
    await rm(notePath(image), { force: true });
  },
};
