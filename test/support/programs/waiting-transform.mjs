import { existsSync } from "node:fs";
import { copyFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

// Copies, and then waits for the file that WAITS_FOR names, if it names one.

/** @type {import("image-import/transform").Transform} */
export default {
  name: "waiting",
  async run({ sourcePath, productPath, signal, report }) {
    await copyFile(sourcePath, productPath);
    const path = process.env["WAITS_FOR"];
    while (path !== undefined && !existsSync(path)) {
      signal.throwIfAborted();
      report(0);
      await sleep(20);
    }
    return { hasProduct: true };
  },
};
