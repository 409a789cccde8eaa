import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { DEFAULT_FORMAT_POLICY } from "../../src/domain/format-policy.ts";
import type { DiskFormat } from "../../src/domain/disk-format.ts";
import { judgeImage } from "../../src/formats/judge-image.ts";
import { CORPUS, prepareCorpus, type Corpus } from "../support/corpus.ts";
import { runTool } from "../support/image-tools.ts";
import { readerOf } from "../support/judged.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const PLACES = 20;
/** The last cluster of most, the last sector, and the last byte. */
const LAST = [64 * 1024, 512, 1];

const DRIVERS: Readonly<Record<string, string>> = {
  qcow2: "qcow2",
  vmdk: "vmdk",
  vhd: "vpc",
  vhdx: "vhdx",
  vdi: "vdi",
};

/** Those of the corpus that qemu-img can open whole: without a parent, and without a passphrase. */
const IMAGES = CORPUS.filter(
  ({ name, format, fails = [] }) =>
    format in DRIVERS && fails.length === 0 && !name.includes("LUKS"),
);

let corpus: Corpus;
beforeEach(async () => {
  corpus = await prepareCorpus(makeTemporaryDirectory());
});

async function isSafe(bytes: Buffer, format: string): Promise<boolean> {
  const declared = { diskFormat: format as DiskFormat, containerFormat: "bare" } as const;
  const reader = readerOf(bytes);
  return (await judgeImage(reader, bytes.length, DEFAULT_FORMAT_POLICY, declared)).safe;
}

function cutsOf(sizeBytes: number): number[] {
  const places = Array.from({ length: PLACES }, (_, index) =>
    Math.floor((sizeBytes * (index + 0.5)) / PLACES),
  );
  return [...places, ...LAST.map((bytes) => sizeBytes - bytes)].filter((cut) => cut > 0);
}

describe("judgeImage() of an image that is cut off", () => {
  it.each(IMAGES)("refuses $name, cut at many places", async ({ name, make, format }) => {
    const path = join(corpus.directory, name.replaceAll(/[^a-z0-9]/gi, "-"));
    await make(path, corpus);
    const bytes = await readFile(path);
    expect(await isSafe(bytes, format)).toBe(true);
    const driver = DRIVERS[format] ?? "";
    const cutPath = `${path}.cut`;

    for (const cut of cutsOf(bytes.length)) {
      if (!(await isSafe(bytes.subarray(0, cut), format))) continue;
      // Then no table refers to what was cut: QEMU reads the same disk.
      await writeFile(cutPath, bytes.subarray(0, cut));
      await runTool("qemu-img", ["compare", "-f", driver, "-F", driver, path, cutPath]);
    }
  });
});
