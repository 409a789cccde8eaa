import { open } from "node:fs/promises";
import { untilThere } from "./until-there.mjs";

// Turns every bit over, a MiB at a time. After each one it waits for the file that WAITS_FOR names,
// if it names one.

const MIB = 1024 * 1024;

/** @type {import("image-import/transform").Transform} */
export default {
  name: "invert",
  async run({ source, productPath, sizeBytes, signal, report }) {
    const product = await open(productPath, "wx");
    try {
      for (let position = 0; position < sizeBytes;) {
        signal.throwIfAborted();
        const { bytesRead, buffer } = await source.read(Buffer.alloc(MIB), 0, MIB, position);
        const inverted = buffer.subarray(0, bytesRead).map((byte) => ~byte);
        await product.write(inverted, 0, bytesRead, position);
        position += bytesRead;
        report(position);
        await untilThere(process.env["WAITS_FOR"], signal);
      }
      await product.sync();
    } finally {
      await product.close();
    }
    return { hasProduct: true };
  },
};
