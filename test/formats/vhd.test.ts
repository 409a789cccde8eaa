import { describe, expect, it } from "vitest";
import {
  be,
  craftedDynamicVhd,
  craftedFixedVhd,
  craftedMbr,
  craftedVhdFooter,
  patched,
  sealedVhd,
} from "../support/crafted-images.ts";
import { failuresOf, judged } from "../support/judged.ts";
import { MIB } from "../support/mib.ts";

const dynamic = craftedDynamicVhd();
const fixed = craftedFixedVhd();

describe("vhd", () => {
  it.each([
    ["dynamic", dynamic],
    ["fixed, by its footer alone", fixed],
    ["fixed and partitioned", Buffer.concat([craftedMbr(), fixed.subarray(MIB)])],
  ])("is accepted as %s", async (_, bytes) => {
    expect(await judged(bytes)).toMatchObject({
      format: "vhd",
      virtualSizeBytes: 3 * MIB,
      safe: true,
    });
  });

  it("is refused as differencing, at either end", async () => {
    const reason = "it is a differencing vhd that refers to a parent";

    for (const bytes of [craftedDynamicVhd(4), craftedVhdFooter(4)]) {
      expect(failuresOf(await judged(bytes))).toHaveProperty("parent", reason);
    }
  });

  it.each([
    ["a parent's id", [512 + 40, "\x01"], "parent", "refers to a parent"],
    ["a parent's name", [512 + 64, "\0/"], "parent", "refers to a parent"],
    ["a parent's place", [512 + 576, "W2ku"], "parent", "refers to a parent"],
    ["no dynamic header", [512, "x"], "block_table", "has no cookie"],
    ["a header after its end", [16, be(8, 2n ** 63n)], "header", "dynamic header is cut off"],
    ["too few blocks", [512 + 28, be(4, 1)], "block_table", "states fewer blocks than its"],
    ["endless blocks", [512 + 28, be(4, 2 ** 32 - 1)], "block_table", "has 4294967295 entries"],
    [
      "more blocks than it has",
      [512 + 28, be(4, 2 ** 20)],
      "complete",
      "table ends at byte 4195840",
    ],
    ["a table after its end", [512 + 16, be(8, 2n ** 62n)], "complete", "table ends at byte"],
    [
      "a block after its end",
      [1536, be(4, 5)],
      "complete",
      "its last vhd block ends at byte 2100224",
    ],
    ["blocks of odd size", [512 + 32, be(4, 3 * MIB)], "block_table", "not a power of 2"],
    ["another creator at its end", [dynamic.length - 512 + 28, "vpc "], "complete", "differ"],
    ["more than 2040 GiB", [48, be(8, 2n ** 42n)], "disk_size", "more than the 2040 GiB"],
    ["another size at its end", [dynamic.length - 512 + 48, be(8, MIB)], "complete", "differ"],
    ["no footer", [dynamic.length - 512, "x"], "complete", "footer is missing"],
    ["the type of a fixed one", [60, be(4, 2)], "disk_type", "of type 2 with a header"],
  ] as const)("is refused as dynamic with %s", async (_, change, check, reason) => {
    expect(failuresOf(await judged(sealedVhd(patched(dynamic, change))))).toHaveProperty(
      check,
      expect.stringContaining(reason),
    );
  });

  it.each([
    ["the type of a dynamic one", [3 * MIB + 60, be(4, 3)], "disk_type", "without a header"],
    [
      "more data than is there",
      [3 * MIB + 48, be(8, 4 * MIB)],
      "complete",
      "but only 3145728 are there",
    ],
  ] as const)("is refused as fixed with %s", async (_, change, check, reason) => {
    expect(failuresOf(await judged(sealedVhd(patched(fixed, change))))).toHaveProperty(
      check,
      expect.stringContaining(reason),
    );
  });

  it.each([
    ["its footer", fixed, 3 * MIB + 100, "footer"],
    ["its header", dynamic, 200, "footer"],
    ["its dynamic header", dynamic, 512 + 900, "dynamic header"],
  ])("is refused with a damaged byte in %s", async (_, bytes, at, what) => {
    expect(failuresOf(await judged(patched(bytes, [at, "\x01"])))).toEqual({
      checksum: `its vhd ${what} has a wrong checksum`,
    });
  });

  it("is refused with the footer of 511 bytes that Virtual PC once wrote", async () => {
    expect(failuresOf(await judged(fixed.subarray(0, -1)))).toEqual({
      header: "it is a vhd with the footer of 511 bytes that Virtual PC wrote before 2004",
    });
  });

  // 90 cylinders, 4 heads, 17 sectors: less than its 3 MiB. Then the largest geometry, which stands
  // for every larger size.
  const SMALLER = "\0\x5a\x04\x11";
  const LARGEST = "\xff\xff\x10\xff";
  it.each([
    ["vpc ", SMALLER, 90 * 4 * 17 * 512],
    ["vbox", SMALLER, 90 * 4 * 17 * 512],
    ["qemu", SMALLER, 90 * 4 * 17 * 512],
    ["vpc ", LARGEST, 3 * MIB],
    ["win ", SMALLER, 3 * MIB],
    ["qem2", SMALLER, 3 * MIB],
    ["tap\0", SMALLER, 3 * MIB],
    ["wa\0\0", SMALLER, 3 * MIB],
  ])("has the size that a guest sees, made by %j with geometry %j", async (creator, chs, size) => {
    const bytes = sealedVhd(patched(fixed, [3 * MIB + 28, creator], [3 * MIB + 56, chs]));

    expect(await judged(bytes)).toMatchObject({ safe: true, virtualSizeBytes: size });
  });
});
