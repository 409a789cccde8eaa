import { describe, expect, it } from "vitest";
import {
  be,
  craftedDynamicVhd,
  craftedFixedVhd,
  craftedMbr,
  craftedVhdFooter,
  patched,
} from "../support/crafted-images.ts";
import { failuresOf, judged } from "../support/judged.ts";

const MiB = 1024 * 1024;
const dynamic = craftedDynamicVhd();
const fixed = craftedFixedVhd();

describe("vhd", () => {
  it.each([
    ["dynamic", dynamic],
    ["fixed, by its footer alone", fixed],
    ["fixed and partitioned", Buffer.concat([craftedMbr(), fixed.subarray(MiB)])],
  ])("is accepted as %s", async (_, bytes) => {
    expect(await judged(bytes)).toMatchObject({
      format: "vhd",
      virtualSizeBytes: 3 * MiB,
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
    ["a header behind its end", [16, be(8, 2n ** 63n)], "header", "dynamic header is cut off"],
    ["too few blocks", [512 + 28, be(4, 1)], "block_table", "make less than its size"],
    ["more blocks than it has", [512 + 28, be(4, 2 ** 32 - 1)], "block_table", "table is cut off"],
    ["a table behind its end", [512 + 16, be(8, 2n ** 63n)], "block_table", "table is cut off"],
    ["another size at its end", [dynamic.length - 512 + 48, be(8, MiB)], "complete", "differ"],
    ["no footer", [dynamic.length - 512, "x"], "complete", "footer is missing"],
    ["the type of a fixed one", [60, be(4, 2)], "disk_type", "of type 2 with a header"],
  ] as const)("is refused as dynamic with %s", async (_, change, check, reason) => {
    expect(failuresOf(await judged(patched(dynamic, change)))).toHaveProperty(
      check,
      expect.stringContaining(reason),
    );
  });

  it.each([
    ["the type of a dynamic one", [3 * MiB + 60, be(4, 3)], "disk_type", "without a header"],
    ["more data than is there", [3 * MiB + 48, be(8, 4 * MiB)], "complete", "3145728 are there"],
  ] as const)("is refused as fixed with %s", async (_, change, check, reason) => {
    expect(failuresOf(await judged(patched(fixed, change)))).toHaveProperty(
      check,
      expect.stringContaining(reason),
    );
  });
});
