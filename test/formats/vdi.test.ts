import { describe, expect, it } from "vitest";
import { craftedVdi, le, patched } from "../support/crafted-images.ts";
import { failuresOf, judged } from "../support/judged.ts";

const image = craftedVdi();

describe("vdi", () => {
  it("is accepted, even with the id of a snapshot", async () => {
    expect(await judged(patched(image, [0x198, "snapshot"]))).toMatchObject({
      format: "vdi",
      virtualSizeBytes: 7 * 1024 * 1024,
      safe: true,
    });
  });

  it.each([
    ["discarded blocks", patched(image, [512, le(4, 0xfffffffe)])],
    ["blocks", patched(Buffer.concat([image, Buffer.alloc(2 * 1024 * 1024)]), [516, le(4, 1)])],
  ])("is accepted with %s", async (_, bytes) => {
    expect(failuresOf(await judged(bytes))).toEqual({});
  });

  it.each([
    ["the id of its parent", [0x1c7, "\x01"], "parent", "refers to a parent"],
    ["the id of what it was linked to", [0x1a8, "\x01"], "parent", "refers to a parent"],
    ["the type of a difference", [0x4c, le(4, 4)], "parent", "refers to a parent"],
    ["version 2", [0x46, le(2, 2)], "version", "of version 2"],
    ["too few blocks", [0x180, le(4, 6)], "block_map", "states fewer blocks than its"],
    ["version 1.0", [0x44, le(2, 0)], "version", "of version 1.0"],
    ["endless blocks", [0x180, le(4, 2 ** 31)], "block_map", "has 2147483648 entries"],
    ["sectors of 4096 bytes", [0x168, le(4, 4096)], "layout", "sectors of 4096 bytes"],
    ["blocks of 2 MiB", [0x178, le(4, 2 * 1024 * 1024)], "layout", "blocks of 2097152 bytes"],
    ["something between its blocks", [0x17c, le(4, 512)], "layout", "nothing between them"],
    ["a block map between sectors", [0x154, le(4, 516)], "layout", "does not begin at a sector"],
    ["data between sectors", [0x158, le(4, 1000)], "layout", "does not begin at a sector"],
    ["a block map after its end", [0x154, le(4, 1024)], "complete", "map ends at byte 1052"],
    [
      "a block that is not there",
      [512, le(4, 0)],
      "complete",
      "ends at byte 1049600, but the file ends at",
    ],
    [
      "its last block missing",
      [536, le(4, 5)],
      "complete",
      "ends at byte 6292480, but the file ends",
    ],
    ["a block far away", [512, le(4, 0xfffffffd)], "complete", "its last vdi block ends at byte"],
  ] as const)("is refused with %s", async (_, change, check, reason) => {
    expect(failuresOf(await judged(patched(image, change)))).toEqual({
      [check]: expect.stringContaining(reason) as string,
    });
  });

  it("is reported as cut off inside its header", async () => {
    const verdict = await judged(image.subarray(0, 0x100));

    expect(verdict).toMatchObject({ format: "vdi", virtualSizeBytes: null, safe: false });
  });
});
