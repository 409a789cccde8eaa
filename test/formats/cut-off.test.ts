import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { DEFAULT_FORMAT_POLICY } from "../../src/domain/format-policy.ts";
import type { DiskFormat } from "../../src/domain/disk-format.ts";
import { judgeImage } from "../../src/formats/judge-image.ts";
import { CORPUS, prepareCorpus, type Corpus } from "../support/corpus.ts";
import { runTool } from "../support/image-tools.ts";
import { readerOf } from "../support/judged.ts";
import { MIB } from "../support/mib.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const PLACES = 20;
/** The last cluster of most images, the last sector, and the last byte. */
const LAST = [64 * 1024, 512, 1];

const DRIVERS: Readonly<Record<string, string>> = {
  qcow2: "qcow2",
  vmdk: "vmdk",
  vhd: "vpc",
  vhdx: "vhdx",
  vdi: "vdi",
};

/** The images of the corpus that qemu-img can open without a parent and without a passphrase. */
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
      // Then no table refers to the missing bytes: QEMU reads the same disk.
      await writeFile(cutPath, bytes.subarray(0, cut));
      await runTool("qemu-img", ["compare", "-f", driver, "-F", driver, path, cutPath]);
    }
  });
});

interface DiskImage {
  readonly name: string;
  readonly make: (path: string, corpus: Corpus) => Promise<unknown>;
  readonly declared?: "raw" | "iso";
  /**
   * The end of the bytes that a program reads, from the start of the file. Default: the end of the
   * file.
   */
  readonly end?: (bytes: Buffer) => number;
}

function ofCorpus(name: string): DiskImage["make"] {
  const image = CORPUS.find((each) => each.name === name);
  if (image === undefined) throw new Error(`No image "${name}" is in the corpus`);
  return image.make;
}

/**
 * The end of the last partition of a GPT. Free sectors and the copy of the table follow; a missing
 * copy is only reported.
 */
function endOfPartitions(bytes: Buffer): number {
  const entriesAt = Number(bytes.readBigUInt64LE(512 + 72)) * 512;
  const ends = Array.from({ length: 128 }, (_, index) =>
    Number(bytes.readBigUInt64LE(entriesAt + index * 128 + 40)),
  );
  return (Math.max(...ends) + 1) * 512;
}

/**
 * The end of the last byte that is not zero. Padding follows: drives read it ahead, but no file
 * refers to it.
 */
function endOfData(bytes: Buffer): number {
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0) end -= 1;
  return end;
}

/**
 * Disks without tables of their blocks, in which a partition, a volume, a file system or a segment
 * states its end. Nothing shows a cut of other disks: zeros, data without a file system, an empty
 * partition table.
 */
const DISKS: readonly DiskImage[] = [
  { name: "gpt by sfdisk", make: ofCorpus("sfdisk gpt"), end: endOfPartitions },
  { name: "gpt by sgdisk", make: ofCorpus("sgdisk gpt"), end: endOfPartitions },
  { name: "hybrid mbr", make: ofCorpus("sgdisk hybrid mbr"), end: endOfPartitions },
  { name: "mbr", make: ofCorpus("sfdisk dos") },
  { name: "iso", make: ofCorpus("iso"), declared: "iso", end: endOfData },
  { name: "iso and mbr", make: ofCorpus("iso and mbr"), declared: "iso", end: endOfData },
  { name: "iso and gpt", make: ofCorpus("iso and gpt"), declared: "iso", end: endOfPartitions },
  {
    name: "iso and mbr with an offset",
    make: ofCorpus("iso and mbr with an offset"),
    declared: "iso",
    end: endOfData,
  },
  // The data of a LUKS reaches to the end of the device, which no header states.
  { name: "luks1", make: ofCorpus("luks1"), end: (bytes) => bytes.readUInt32BE(104) * 512 + 512 },
  { name: "luks2", make: ofCorpus("luks2"), end: () => 16 * MIB + 512 },
];

describe("judgeImage() of a disk that is cut off", () => {
  it.each(DISKS)("refuses $name, cut inside its data", async ({ name, make, declared, end }) => {
    const path = join(corpus.directory, name.replaceAll(/[^a-z0-9]/gi, "-"));
    await make(path, corpus);
    const bytes = await readFile(path);
    const format = declared ?? "raw";
    expect(await isSafe(bytes, format)).toBe(true);
    const endBytes = end?.(bytes) ?? bytes.length;

    const accepted: number[] = [];
    for (const cut of [...cutsOf(bytes.length), ...cutsOf(endBytes)]) {
      if (cut < endBytes && (await isSafe(bytes.subarray(0, cut), format))) accepted.push(cut);
    }
    expect(accepted).toEqual([]);
  });
});
