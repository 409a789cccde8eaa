import { readFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { DEFAULT_FORMAT_POLICY } from "../../src/domain/format-policy.ts";
import { judgeImage } from "../../src/formats/judge-image.ts";
import { CORPUS, prepareCorpus } from "../support/corpus.ts";
import {
  craftedDynamicVhd,
  craftedFixedVhd,
  craftedGpt,
  craftedIso,
  craftedLuks,
  craftedMbr,
  craftedQcow2,
  craftedVdi,
  craftedVhdx,
  craftedVmdk,
  craftedVmdkStream,
  DESCRIPTOR,
  le,
  patched,
} from "../support/crafted-images.ts";
import { readerOf } from "../support/judged.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

// The budget is fixed: this many images of each format in every run of the tests.
const RUNS = 300;

/**
 * Both ends, the descriptor of a VMDK, the tables of a VHDX, and some headers; then every table
 * once or twice.
 */
const MOST_BYTES = 64 * 1024 + 1536 + 1024 * 1024 + 256 * 1024;
const MOST_READS = 32;

/** Judges an image, and asserts the rules of every verdict. */
async function assertJudged(bytes: Buffer): Promise<void> {
  const reader = readerOf(bytes);
  let reads = 0;
  const counting: typeof reader = {
    read: async (...args) => {
      reads += 1;
      return reader.read(...args);
    },
  };

  const verdict = await judgeImage(counting, bytes.length, DEFAULT_FORMAT_POLICY);

  const failed = Object.entries(verdict.checks).flatMap(([check, result]) =>
    result === "pass" ? [] : [check],
  );
  const refused = Object.keys(verdict.hints);
  const reasons = failed.map((check) => verdict.checks[check] ?? "");
  expect(verdict.safe).toBe(refused.length === 0);
  expect([...refused, ...verdict.tolerated].sort()).toEqual(failed.sort());
  expect(reasons.every((reason) => reason.length > 0 && reason.length < 400)).toBe(true);
  expect(Number.isSafeInteger(verdict.virtualSizeBytes ?? 0)).toBe(true);
  expect(verdict.bytesRead).toBeLessThanOrEqual(MOST_BYTES + 2 * bytes.length);
  expect(reads).toBeLessThanOrEqual(MOST_READS + bytes.length / 256);
}

const number = fc.oneof(
  fc.constantFrom(0n, 1n, 2n ** 31n, 2n ** 32n - 1n, 2n ** 63n, 2n ** 64n - 1n),
  fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
);

/** Numbers of a width, in either order, and bytes. */
const value = fc.oneof(
  fc.record({ le: fc.constantFrom(2, 4, 8), value: number }),
  fc.record({ be: fc.constantFrom(2, 4, 8), value: number }),
  fc
    .uint8Array({ minLength: 1, maxLength: 40 })
    .map((bytes) => Buffer.from(bytes).toString("latin1")),
) as fc.Arbitrary<ReturnType<typeof le> | string>;

/** The places of structures: not the zeros between them. */
function placesOf(image: Buffer): number[] {
  const places: number[] = [];
  for (let at = 0; at < Math.min(image.length, 512 * 1024); at += 4) {
    const isUsed = image.subarray(at, at + 4).some((byte) => byte !== 0);
    if (isUsed && places.length < 4096) places.push(at);
  }
  return [...places, 16, 56, 72, 446, 510, Math.max(0, image.length - 512)];
}

async function fuzz(image: Buffer): Promise<void> {
  const place = fc
    .constantFrom(...placesOf(image))
    .chain((at) => fc.integer({ min: at, max: at + 3 }));
  const changes = fc.array(fc.tuple(place, value), { minLength: 1, maxLength: 6 });
  const length = fc.oneof(
    { weight: 3, arbitrary: fc.constant(image.length) },
    { weight: 1, arbitrary: fc.integer({ min: 0, max: image.length }) },
  );
  await fc.assert(
    fc.asyncProperty(changes, length, async (put, lengthBytes) => {
      const fitting = put.filter(([at]) => at + 8 <= image.length);
      await assertJudged(patched(image, ...fitting).subarray(0, lengthBytes));
    }),
    { numRuns: RUNS },
  );
}

describe("judgeImage() gives a verdict, from bounded reads,", () => {
  it.each([
    ["qcow2 v3", craftedQcow2()],
    ["qcow2 v2", craftedQcow2(2)],
    ["vmdk", craftedVmdk()],
    ["vmdk stream", craftedVmdkStream()],
    ["vhd fixed", craftedFixedVhd().subarray(-64 * 1024)],
    ["vhd dynamic", craftedDynamicVhd()],
    ["vhdx", craftedVhdx()],
    ["vdi", craftedVdi()],
    ["iso", craftedIso()],
    ["mbr", craftedMbr().subarray(0, 8192)],
    ["gpt", craftedGpt().subarray(0, 8192)],
    ["luks1", craftedLuks(1)],
    ["luks2", craftedLuks(2)],
  ])("whatever is changed in a small %s", async (_, image) => {
    await fuzz(image);
  });

  it.each([
    "qcow2 v3",
    "qcow2 LUKS",
    "vmdk monolithicSparse",
    "vmdk monolithicFlat",
    "vhd dynamic",
    "vhdx dynamic",
    "vdi dynamic",
    "qed",
    "parallels",
    "luks1",
    "luks2",
    "sfdisk gpt",
    "iso and gpt",
    "tar v7",
  ])("whatever is changed in the head of a real %s", async (name) => {
    const corpus = await prepareCorpus(makeTemporaryDirectory());
    const path = join(corpus.directory, "image");
    await CORPUS.find((image) => image.name === name)?.make(path, corpus);

    await fuzz((await readFile(path)).subarray(0, 512 * 1024));
  });

  it("whatever bytes follow a magic", async () => {
    const magics = [
      "QFI\xfb",
      "KDMV",
      "conectix",
      "vhdxfile",
      "QED\0",
      "LUKS\xba\xbe",
      DESCRIPTOR,
      "",
    ];
    const tail = fc.uint8Array({ maxLength: 70_000, size: "max" });

    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...magics), tail, async (magic, bytes) => {
        await assertJudged(Buffer.concat([Buffer.from(magic, "latin1"), bytes]));
      }),
      { numRuns: RUNS },
    );
  });

  it.each([
    ["fields", (index: number) => `f${index}=1\n`],
    ["types", () => 'createType="monolithicSparse"\n'],
    ["spaces", () => "createType  \t  parentCID     "],
    ["protocols that never end", () => "nbd+nbd+json+"],
    ["extents", () => 'RW 1 SPARSE "x"\n'],
    ["empty lines", () => "\n \n#\n"],
  ])("in a descriptor of 1 MiB full of %s", async (_, part) => {
    let text = "# Disk DescriptorFile\n";
    for (let index = 0; text.length < 1024 * 1024; index += 1) text += part(index);
    const image = patched(
      Buffer.alloc(2 * 1024 * 1024),
      [0, craftedVmdk().toString("latin1")],
      [36, le(8, 2048)],
    );

    await assertJudged(patched(image, [512, text.slice(0, 1024 * 1024)]));
    await assertJudged(Buffer.from(text));
  });
});
