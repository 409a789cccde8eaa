import { describe, expect, it } from "vitest";
import { craftedVdi, le, patched } from "../support/crafted-images.ts";
import { failuresOf, judged } from "../support/judged.ts";

const image = craftedVdi();

describe("vdi", () => {
  it("is accepted, also with a snapshot's id", async () => {
    expect(await judged(patched(image, [0x198, "snapshot"]))).toMatchObject({
      format: "vdi",
      virtualSizeBytes: 7 * 1024 * 1024,
      safe: true,
    });
  });

  it.each([
    ["the id of its parent", [0x1c7, "\x01"], "parent", "refers to a parent"],
    ["the id of what it was linked to", [0x1a8, "\x01"], "parent", "refers to a parent"],
    ["the type of a difference", [0x4c, le(4, 4)], "parent", "refers to a parent"],
    ["version 2", [0x46, le(2, 2)], "version", "of version 2"],
    ["too few blocks", [0x180, le(4, 6)], "block_map", "make less than its disk size"],
    ["a block map that is cut off", [0x154, le(4, 1000)], "block_map", "is cut off"],
  ] as const)("is refused with %s", async (_, change, check, reason) => {
    expect(failuresOf(await judged(patched(image, change)))).toEqual({
      [check]: expect.stringContaining(reason) as string,
    });
  });

  it("is told as cut off where its header is", async () => {
    const verdict = await judged(image.subarray(0, 0x100));

    expect(verdict).toMatchObject({ format: "vdi", virtualSizeBytes: null, safe: false });
  });
});
