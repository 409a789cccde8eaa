import { crc32 } from "node:zlib";
import { describe, expect, it } from "vitest";
import { craftedGpt, craftedMbr, le, patched } from "../support/crafted-images.ts";
import { failuresOf, judged, STRICT } from "../support/judged.ts";
import { MIB } from "../support/mib.ts";

const mbr = craftedMbr();
const gpt = craftedGpt();

/** An ext file system of this many KiB in the first partition of a disk. */
function withExt(disk: Buffer, kib: number): Buffer {
  const at = 512 + 1024;
  return patched(disk, [at + 4, le(4, kib)], [at + 56, le(2, 0xef53)]);
}

describe("a partition table", () => {
  it.each([
    ["mbr", mbr],
    ["gpt", gpt],
    ["gpt", craftedGpt(4096)],
    ["mbr", patched(mbr, [3, "mkfs.fat"])],
    ["mbr with LBA only", patched(mbr, [447, "\xfe\xff\xff"], [451, "\xfe\xff\xff"])],
    // By parted up to 3.2, go-diskfs, and U-Boot, which keeps the old entries.
    ["gpt", patched(gpt, [447, "\0\x01\0"])],
    ["gpt", patched(gpt, [447, "\0\0\0"])],
    ["gpt", patched(gpt, [447, "abc"], [451, "def"])],
    ["gpt", patched(gpt, [446, "\x80"])],
    ["gpt", patched(gpt, [458, le(4, 0xffffffff)])],
  ])("is accepted by every policy: %s", async (format, bytes) => {
    const verdict = await judged(bytes, STRICT);

    expect(verdict).toMatchObject({ format: format.slice(0, 3), virtualSizeBytes: MIB });
    expect(failuresOf(verdict)).toEqual({});
  });

  it.each([
    ["FAT", patched(mbr, [0x10, "\x02"], [0x15, "\xf8"], [446, "boot code"])],
    ["FAT16 on a floppy", patched(mbr, [54, "FAT16   "], [446, "boot code"])],
    ["FAT32", patched(mbr, [82, "FAT32   "], [446, "boot code"])],
    ["NTFS", patched(mbr, [3, "NTFS    "], [446, "boot code"])],
    ["exFAT", patched(mbr, [3, "EXFAT   "], [446, "boot code"])],
    ["BitLocker", patched(mbr, [3, "-FVE-FS-"], [446, "boot code"])],
    ["a Linux kernel", patched(mbr, [0x202, "HdrS"], [446, "boot code"])],
  ])("is not looked for in the first sector of %s", async (_, bytes) => {
    const verdict = await judged(bytes, STRICT);

    expect(verdict.format).toBe("raw");
    expect(verdict.checks["mbr"]).toBe("pass");
  });

  it.each([
    ["an empty table", "raw", "mbr", patched(mbr, [450, "\0"]), "without a partition"],
    ["no sectors", "raw", "mbr", patched(mbr, [458, le(4, 0)]), "without a partition"],
    ["boot code in its place", "raw", "mbr", patched(mbr, [446, "\x24 a text"]), "flag 0x24"],
    ["junk in its last entry", "raw", "mbr", patched(mbr, [494, "\x01"]), "the boot flag 0x1"],
    [
      "a partition beside its gpt",
      "gpt",
      "mbr",
      patched(gpt, [466, "\x83"], [474, le(4, 9)]),
      "other partitions",
    ],
    ["a gpt that starts elsewhere", "gpt", "mbr", patched(gpt, [454, le(4, 2)]), "second sector"],
    ["another checksum", "gpt", "gpt", patched(gpt, [512 + 16, le(4, 7)]), "gpt header is wrong"],
    [
      "another name in its table",
      "gpt",
      "gpt",
      patched(gpt, [1024 + 60, "x"]),
      "checksum of its gpt is wrong",
    ],
    ["no header", "gpt", "gpt", patched(gpt, [512, "XXXXXXXX"]), "no header"],
    [
      "no copy",
      "gpt",
      "gpt",
      patched(gpt, [MIB - 512, "XXXXXXXX"]),
      "the copy of its gpt is missing",
    ],
    [
      "a copy that was cut off",
      "gpt",
      "gpt",
      gpt.subarray(0, MIB - 512),
      "the copy of its gpt is at byte 1048064, but the image ends at byte 1048064",
    ],
    [
      "a larger disk",
      "gpt",
      "gpt",
      Buffer.concat([gpt, Buffer.alloc(MIB)]),
      "is not in the last sector",
    ],
    [
      "a larger partition than disk, whose file system is complete",
      "mbr",
      "mbr",
      withExt(mbr, 900).subarray(0, 1000 * 1024),
      "its partition 1 ends at byte 1048576, but the image ends at byte 1024000",
    ],
  ])("is reported and accepted with %s", async (_, format, check, bytes, reason) => {
    const verdict = await judged(bytes);

    expect(verdict).toMatchObject({ format, safe: true, tolerated: [check] });
    expect(verdict.checks[check]).toContain(reason);
    expect(await judged(bytes, STRICT)).toMatchObject({
      safe: false,
      hints: { [check]: expect.stringContaining(`add "${check}" to`) as string },
    });
  });

  it.each([
    [
      "an mbr",
      mbr,
      300_000,
      "its partition 1 ends at byte 1048576, but the image ends at byte 300000",
    ],
    [
      "an mbr, in its last sector",
      mbr,
      MIB - 512,
      "ends at byte 1048576, but the image ends at byte 1048064",
    ],
    [
      "an mbr with a file system",
      withExt(mbr, 1000),
      900 * 1024,
      "its partition 1 ends at byte 1048576",
    ],
    [
      "a gpt",
      gpt,
      300_000,
      "its last partition ends at byte 1031680, but the image ends at byte 300000",
    ],
    [
      "a gpt of 4096 bytes a sector",
      craftedGpt(4096),
      300_000,
      "its last partition ends at byte 1028096",
    ],
    ["a gpt, in its last sector", gpt, 1031168, "its last partition ends at byte 1031680"],
  ])("is refused when it was cut off: %s", async (_, image, length, reason) => {
    const verdict = await judged(image.subarray(0, length));

    expect(verdict.safe).toBe(false);
    expect(verdict.checks["complete"]).toContain(reason);
    expect(verdict.hints["complete"]).toContain("Download or copy the image again");
  });

  it("follows the copy of a gpt when its first header is damaged", async () => {
    const damaged = patched(gpt, [512 + 16, le(4, 7)]);
    const copyAt = MIB - 512;

    expect(await judged(damaged)).toMatchObject({ format: "gpt", safe: true, tolerated: ["gpt"] });
    // The copy, in the last sector of a disk that is shorter than the partition.
    const shorter = Buffer.concat([damaged.subarray(0, 512 * 1024), damaged.subarray(copyAt)]);
    const entriesAt = 256 * 1024;
    damaged.copy(shorter, entriesAt, 2 * 512, 34 * 512);
    const header = patched(
      shorter.subarray(-512, shorter.length - 512 + 92),
      [16, le(4, 0)],
      [72, le(8, entriesAt / 512)],
    );
    patched(header, [16, le(4, crc32(header))]).copy(shorter, shorter.length - 512);
    expect(await judged(shorter)).toMatchObject({
      safe: false,
      checks: {
        complete: `its last partition ends at byte 1031680, but the image ends at byte ${shorter.length}`,
      },
    });
  });
});
