import { describe, expect, it } from "vitest";
import { craftedGpt, craftedMbr, le, patched } from "../support/crafted-images.ts";
import { failuresOf, judged, STRICT } from "../support/judged.ts";

const mbr = craftedMbr();
const gpt = craftedGpt();

describe("partition tables", () => {
  it.each([
    ["mbr", mbr],
    ["gpt", gpt],
    ["mbr", patched(mbr, [3, "mkfs.fat"])],
  ])("are accepted as %s", async (format, bytes) => {
    expect(await judged(bytes)).toMatchObject({
      format,
      virtualSizeBytes: bytes.length,
      safe: true,
      checks: { mbr: "pass" },
    });
  });

  it.each([
    ["FAT", patched(mbr, [0x10, "\x02"], [0x15, "\xf8"], [446, "boot code"])],
    ["FAT16 on a floppy", patched(mbr, [54, "FAT16   "], [446, "boot code"])],
    ["FAT32", patched(mbr, [82, "FAT32   "], [446, "boot code"])],
    ["NTFS", patched(mbr, [3, "NTFS    "], [446, "boot code"])],
    ["exFAT", patched(mbr, [3, "EXFAT   "], [446, "boot code"])],
    ["a Linux kernel", patched(mbr, [0x202, "HdrS"], [446, "boot code"])],
  ])("are not looked for in the first sector of %s", async (_, bytes) => {
    expect(await judged(bytes)).toMatchObject({ format: "raw", safe: true });
  });

  it.each([
    ["no partition", patched(mbr, [450, "\0"]), "defines no partition"],
    ["a wrong boot flag", patched(mbr, [446, "\x55"]), "has the boot flag 0x55"],
    ["a wrong boot flag in its last entry", patched(mbr, [494, "\x01"]), "the boot flag 0x1"],
    ["a partition beside its gpt", patched(gpt, [466, "\x83"]), "defines other partitions"],
    ["a gpt in the second entry", patched(mbr, [466, "\xee"]), "defines other partitions"],
    ["a gpt that starts elsewhere", patched(gpt, [454, le(4, 2)]), "start at the second sector"],
    ["a gpt with another CHS", patched(gpt, [447, "\x01"]), "start at the second sector"],
  ])("are refused with %s", async (_, bytes, reason) => {
    const verdict = await judged(bytes, STRICT);

    expect(verdict.safe).toBe(false);
    expect(failuresOf(verdict)).toEqual({ mbr: expect.stringContaining(reason) as string });
  });

  it("are reported and accepted by default", async () => {
    const bytes = patched(mbr, [450, "\0"]);

    expect(await judged(bytes)).toMatchObject({
      format: "mbr",
      safe: true,
      checks: { mbr: "its mbr defines no partition" },
      tolerated: ["mbr"],
    });
  });
});
