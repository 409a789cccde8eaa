import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { le } from "../support/crafted-images.ts";
import {
  craftedDynamicVhd,
  craftedFixedVhd,
  craftedQcow2,
  craftedSnapshot,
  craftedVdi,
  craftedVhdx,
  craftedVmdk,
  craftedVmdkStream,
  patched,
  sealedVhd,
  sealedVhdx,
} from "../support/crafted-images.ts";
import { runTool } from "../support/image-tools.ts";
import { judged } from "../support/judged.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

// The budget is fixed, and so are the images: every run has the same ones.
const RUNS = 200;
const SEED = 9;

/** The places of structures, and the fields of headers that are zero. */
function placesOf(image: Buffer): number[] {
  const places: number[] = [];
  for (let at = 0; at < image.length - 8; at += 2) {
    const isUsed = image.subarray(at, at + 2).some((byte) => byte !== 0);
    if (at < 128 || isUsed) places.push(at);
  }
  const step = Math.ceil(places.length / 4096);
  return places.filter((_, index) => index % step === 0 || index >= places.length - 256);
}

const value = fc.oneof(
  fc.record({ le: fc.constantFrom(2, 4, 8), value: fc.bigInt({ min: 0n, max: 300n }) }),
  fc.record({ be: fc.constantFrom(2, 4, 8), value: fc.bigInt({ min: 0n, max: 300n }) }),
  fc.record({ be: fc.constantFrom(2, 4, 8), value: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) }),
  fc.constantFrom("\0", "\xff", "\x01", " ", '"', "\n", "="),
) as fc.Arbitrary<ReturnType<typeof le> | string>;

const asItIs = (image: Buffer): Buffer => image;

describe("judgeImage() finds no image safe that qemu-img cannot open:", () => {
  it.each([
    ["qcow2", "qcow2", craftedQcow2(), asItIs],
    ["qcow2 of version 2", "qcow2", craftedQcow2(2), asItIs],
    ["qcow2 with a snapshot", "qcow2", craftedSnapshot(), asItIs],
    ["vmdk", "vmdk", craftedVmdk(), asItIs],
    ["vmdk stream", "vmdk", craftedVmdkStream(), asItIs],
    ["vdi", "vdi", craftedVdi(), asItIs],
    ["dynamic vhd", "vpc", craftedDynamicVhd(), sealedVhd],
    ["fixed vhd", "vpc", craftedFixedVhd(), sealedVhd],
    ["vhdx", "vhdx", craftedVhdx(), sealedVhdx],
  ] as const)("a changed %s", async (_, driver, image, seal) => {
    const path = join(makeTemporaryDirectory(), "image");
    const change = fc.tuple(fc.constantFrom(...placesOf(image)), value);
    const opened = async (bytes: Buffer): Promise<string | undefined> => {
      await writeFile(path, bytes);
      const info = runTool("qemu-img", ["info", "-f", driver, path]);
      return info.then(() => undefined).catch((error: unknown) => String(error));
    };

    expect(await opened(image)).toBeUndefined();
    await fc.assert(
      fc.asyncProperty(fc.array(change, { minLength: 1, maxLength: 2 }), async (changes) => {
        const bytes = seal(patched(image, ...changes));
        const { safe, format, tolerated } = await judged(bytes);
        // An image whose mark was changed is a raw disk. Others need a passphrase, or a replay of
        // their log.
        const isTold =
          tolerated.includes("encryption") || (driver === "vhdx" && tolerated.length > 0);
        if (!safe || isTold || (driver === "vpc" ? format !== "vhd" : format !== driver)) return;
        expect(await opened(bytes)).toBeUndefined();
      }),
      { numRuns: RUNS, seed: SEED },
    );
  });
});
