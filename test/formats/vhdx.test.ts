import { describe, expect, it } from "vitest";
import { craftedVhdx, le, patched, VHDX_GUIDS } from "../support/crafted-images.ts";
import { failuresOf, judged } from "../support/judged.ts";

const KiB = 1024;
const REGIONS = 192 * KiB;
const COPY = 256 * KiB;
const METADATA = 320 * KiB;
const image = craftedVhdx();

/** The same change in both region tables. */
function inRegions(offset: number, value: Parameters<typeof patched>[1][1]): Buffer {
  return patched(image, [REGIONS + offset, value], [COPY + offset, value]);
}

function latin1(guid: string): string {
  return Buffer.from(guid, "hex").toString("latin1");
}

describe("vhdx", () => {
  it("is accepted, and its size found in its metadata", async () => {
    expect(await judged(image)).toMatchObject({
      format: "vhdx",
      virtualSizeBytes: 9 * KiB * KiB,
      safe: true,
    });
  });

  it.each([
    ["a parent", patched(image, [METADATA + KiB + 4, le(4, 2)]), "parent"],
    [
      "a parent's place",
      patched(image, [METADATA + 10, le(2, 3)], [METADATA + 96, latin1(VHDX_GUIDS.parentLocator)]),
      "parent",
    ],
    ["a log", patched(image, [64 * KiB + 48, "\x01"]), "log"],
    ["a log in its second header", patched(image, [128 * KiB + 63, "\x01"]), "log"],
    ["a block table behind its end", inRegions(32, le(8, 2n ** 62n)), "block_table"],
  ])("is refused with %s", async (_, bytes, check) => {
    const verdict = await judged(bytes);

    expect(verdict.safe).toBe(false);
    expect(Object.keys(failuresOf(verdict))).toEqual([check]);
  });

  it.each([
    ["region tables that differ", patched(image, [COPY + 33, "\x01"]), "region tables differ"],
    ["no region table", inRegions(0, "x"), "region table has no signature"],
    ["endless regions", inRegions(8, le(4, 2 ** 31)), "has 2147483648 entries"],
    ["a region twice", inRegions(48, latin1(VHDX_GUIDS.blockTable)), "name a thing twice"],
    ["no metadata", inRegions(48, "x"), "names no metadata"],
    ["metadata behind its end", inRegions(64, le(8, 2n ** 63n)), "metadata table is cut off"],
    ["metadata elsewhere", inRegions(64, le(8, 0)), "metadata table has no signature"],
    ["endless metadata", patched(image, [METADATA + 10, le(2, 0xffff)]), "has 65535 entries"],
    ["no size", patched(image, [METADATA + 64, "x"]), "virtual size is missing"],
    ["a size of 4 bytes", patched(image, [METADATA + 84, le(4, 4)]), "virtual size is missing"],
    ["a size far away", patched(image, [METADATA + 80, le(4, 2 ** 31)]), "virtual size is cut off"],
  ])("is refused with %s", async (_, bytes, reason) => {
    expect(failuresOf(await judged(bytes))).toEqual({
      header: expect.stringContaining(reason) as string,
    });
  });

  it.each([8, 64 * KiB, 200 * KiB])("is told as cut off with %i bytes", async (length) => {
    const verdict = await judged(image.subarray(0, length));

    expect(verdict).toMatchObject({ format: "vhdx", virtualSizeBytes: null, safe: false });
  });
});
