import { describe, expect, it } from "vitest";
import { be, le, patched } from "../support/crafted-images.ts";
import { judged } from "../support/judged.ts";

const KiB = 1024;
const SIZE = 256 * KiB;
const NOTHING = Buffer.alloc(SIZE);

/** The smallest superblocks that state 256 KiB. */
const FILE_SYSTEMS = {
  ext: patched(NOTHING, [1024 + 4, le(4, 256)], [1024 + 56, le(2, 0xef53)]),
  xfs: patched(NOTHING, [0, "XFSB"], [4, be(4, 4096)], [8, be(8, 64)]),
  NTFS: patched(NOTHING, [3, "NTFS    "], [11, le(2, 512)], [40, le(8, 512)]),
  exFAT: patched(NOTHING, [3, "EXFAT   "], [72, le(8, 512)], [108, "\x09"]),
  FAT: patched(
    NOTHING,
    [0, "\xeb\x3c\x90mkfs.fat"],
    [11, le(2, 512)],
    [13, "\x01\x01\0\x02\x40\0"],
    [19, le(2, 512)],
    [21, "\xf8"],
    [22, le(2, 100)],
  ),
  "HFS+": patched(NOTHING, [1024, "H+"], [1064, be(4, 4096)], [1068, be(4, 64)]),
  APFS: patched(NOTHING, [32, "NXSB"], [36, le(4, 4096)], [40, le(8, 64)]),
  f2fs: patched(NOTHING, [1024, le(4, 0xf2f52010)], [1040, le(4, 12)], [1060, le(8, 64)]),
  erofs: patched(NOTHING, [1024, le(4, 0xe0f5e1e2)], [1036, "\x0c"], [1060, le(4, 64)]),
  squashfs: patched(NOTHING, [0, "hsqs"], [40, le(8, SIZE)]),
  swap: patched(NOTHING, [4086, "SWAPSPACE2"], [1028, le(4, 63)]),
  LVM: patched(NOTHING, [512, "LABELONE"], [532, le(4, 32)], [536, "LVM2 001"], [576, le(8, SIZE)]),
  btrfs: patched(NOTHING, [64 * KiB + 64, "_BHRfS_M"], [64 * KiB + 209, le(8, SIZE)]),
};

describe("a raw file system", () => {
  it.each(Object.entries(FILE_SYSTEMS))(
    "is complete or cut off by its size: %s",
    async (name, bytes) => {
      const cut = await judged(bytes.subarray(0, SIZE - KiB));

      expect(await judged(bytes)).toMatchObject({ format: "raw", safe: true, tolerated: [] });
      expect(await judged(Buffer.concat([bytes, bytes]))).toMatchObject({ safe: true });
      expect(cut).toMatchObject({
        format: "raw",
        safe: false,
        checks: {
          complete: `its ${name} file system ends at byte ${SIZE}, but the image ends at byte ${SIZE - KiB}`,
        },
        hints: { complete: expect.stringContaining("Download or copy the image again") as string },
      });
    },
  );

  it("is complete without the free end of its floppy, but not without its data", async () => {
    const floppy = patched(
      Buffer.alloc(1440 * KiB),
      [0, "\xeb\x3c\x90mkfs.fat"],
      [11, le(2, 512)],
      [13, "\x01\x01\0\x02\xe0\0"],
      [19, le(2, 2880)],
      [21, "\xf0"],
      [22, le(2, 9)],
      // Clusters 2 to 4 are one file; the data of cluster 2 begins at sector 33.
      [512, "\xf0\xff\xff\x03\x40\0\xff\x0f\0"],
    );

    expect(await judged(floppy.subarray(0, 36 * 512))).toMatchObject({ format: "raw", safe: true });
    expect(await judged(floppy.subarray(0, 36 * 512 - 1))).toMatchObject({
      safe: false,
      checks: {
        complete: expect.stringContaining("FAT file system ends at byte 1474560") as string,
      },
    });
  });

  it("is not judged when it has the marks of two", async () => {
    const two = patched(FILE_SYSTEMS.ext, [4086, "SWAPSPACE2"], [1028, le(4, 2 ** 20)]);

    expect(await judged(two)).toMatchObject({ format: "raw", safe: true });
  });

  it("has whole sectors for a guest", async () => {
    for (const [sizeBytes, virtualSizeBytes] of [
      [1, 512],
      [512, 512],
      [513, 1024],
    ] as const) {
      expect(await judged(Buffer.alloc(sizeBytes, 1))).toMatchObject({ virtualSizeBytes });
    }
  });
});
