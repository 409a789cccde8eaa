import { describe, expect, it } from "vitest";
import { crc32c } from "../../src/formats/crc32c.ts";
import { craftedVhdx, le, patched, sealedVhdx, VHDX_GUIDS } from "../support/crafted-images.ts";
import { failuresOf, judged } from "../support/judged.ts";
import { MIB } from "../support/mib.ts";

const KiB = 1024;
const REGIONS = 192 * KiB;
const COPY = 256 * KiB;
const METADATA = 2 * MIB;
const PARAMETERS = METADATA + 64 * KiB;
const BLOCKS = 3 * MIB;
const image = craftedVhdx();

/** The same change in both region tables. */
function inRegions(offset: number, value: Parameters<typeof patched>[1][1]): Buffer {
  return sealedVhdx(patched(image, [REGIONS + offset, value], [COPY + offset, value]));
}

function latin1(guid: string): string {
  return Buffer.from(guid, "hex").toString("latin1");
}

/** The same change in both headers. */
function inHeaders(
  offset: number,
  value: Parameters<typeof patched>[1][1],
  { isSealed = true } = {},
): Buffer {
  const bytes = patched(image, [64 * KiB + offset, value], [128 * KiB + offset, value]);
  return isSealed ? sealedVhdx(bytes) : bytes;
}

function withSameNumber(): Buffer {
  return sealedVhdx(patched(image, [64 * KiB + 8, le(8, 2)], [64 * KiB + 16, "x"]));
}

/** The block table becomes an unknown region that is not required. */
function withoutBlockTable(): Buffer {
  const changes = [REGIONS, COPY].flatMap((table) => [
    [table + 16, "x"] as const,
    [table + 44, le(4, 0)] as const,
  ]);
  return sealedVhdx(patched(image, ...changes));
}

/** One more item of the metadata. @param flags - 4: required */
function withSixthItem(name: string, flags: number): Buffer {
  const at = METADATA + 32 + 5 * 32;
  return patched(image, [METADATA + 10, le(2, 6)], [at, name], [at + 24, le(4, flags)]);
}

describe("vhdx", () => {
  it("is accepted with the size in its metadata", async () => {
    expect(await judged(image)).toMatchObject({
      format: "vhdx",
      virtualSizeBytes: 9 * MIB,
      safe: true,
    });
  });

  it.each([
    ["its first header damaged", patched(image, [64 * KiB + 2000, "x"])],
    ["its second header wiped", patched(image, [128 * KiB, "\0\0\0\0"])],
    ["its second region table damaged", patched(image, [COPY + 5000, "x"])],
    ["an unknown item that is not required", withSixthItem("\x07", 0)],
    ["a block", patched(image, [BLOCKS, le(8, 4 * MIB + 6)])],
  ])("is accepted with %s", async (_, bytes) => {
    const whole = Buffer.concat([bytes, Buffer.alloc(MIB)]);

    expect(failuresOf(await judged(whole))).toEqual({});
  });

  it.each([
    ["a parent", patched(image, [PARAMETERS + 4, le(4, 2)]), "parent"],
    ["a parent's place", withSixthItem(latin1(VHDX_GUIDS.parentLocator), 0), "parent"],
    ["an unknown item that is required", withSixthItem("\x07", 4), "metadata"],
    ["blocks of 3 MiB", patched(image, [PARAMETERS, le(4, 3 * MIB)]), "metadata"],
    ["blocks of 512 MiB", patched(image, [PARAMETERS, le(4, 512 * MIB)]), "metadata"],
    ["sectors of 2048 bytes", patched(image, [PARAMETERS + 32, le(4, 2048)]), "metadata"],
    ["an odd size", patched(image, [PARAMETERS + 8, le(8, 1000)]), "metadata"],
    ["a block table after its end", inRegions(32, le(8, 2n ** 40n)), "complete"],
    ["a block table too small", inRegions(40, le(4, 64)), "block_table"],
    ["regions that overlap", inRegions(32, le(8, 2 * MIB)), "block_table"],
    ["a block after its end", patched(image, [BLOCKS, le(8, 4 * MIB + 6)]), "complete"],
    ["its last block after its end", patched(image, [BLOCKS + 64, le(8, 4 * MIB + 6)]), "complete"],
    ["a block on its tables", patched(image, [BLOCKS, le(8, 2 * MIB + 6)]), "block_table"],
    ["a block in its header", patched(image, [BLOCKS, le(8, 6)]), "block_table"],
    ["a block of a parent", patched(image, [BLOCKS, le(8, 4 * MIB + 7)]), "block_table"],
    ["a log of another version", inHeaders(64, le(2, 1)), "log"],
    ["a log in the place of its headers", inHeaders(72, le(8, 0)), "log"],
  ])("is refused with %s", async (_, bytes, check) => {
    const verdict = await judged(bytes);

    expect(verdict.safe).toBe(false);
    expect(Object.keys(failuresOf(verdict))).toEqual([check]);
  });

  it("is refused with more than 64 TiB, whatever the policy allows", async () => {
    const bytes = patched(image, [PARAMETERS + 8, le(8, 2n ** 47n)]);

    expect(failuresOf(await judged(bytes, { maxVirtualSizeBytes: 2 ** 52 }))).toEqual({
      metadata: "its vhdx virtual size is more than 64 TiB",
    });
  });

  it("reports the ends of its data and of its file", async () => {
    const bytes = patched(image, [BLOCKS, le(8, 7 * MIB + 6)]);

    expect(failuresOf(await judged(bytes))["complete"]).toBe(
      "it is cut off: its last vhdx block ends at byte 8388608, but the file ends at byte 4194304",
    );
  });

  it.each([
    ["both headers damaged", inHeaders(2000, "x", { isSealed: false }), "neither of its two vhdx"],
    ["headers of another version", inHeaders(66, le(2, 2)), "neither of its two vhdx headers"],
    ["two headers of the same number", withSameNumber(), "have the same number"],
    ["no region table", inRegions(0, "x"), "wrong signature or checksum"],
    [
      "a damaged region table",
      patched(image, [REGIONS + 5000, "x"]),
      "wrong signature or checksum",
    ],
    ["region tables that differ", sealedVhdx(patched(image, [COPY + 33, "\x01"])), "tables differ"],
    ["endless regions", inRegions(8, le(4, 2 ** 31)), "has 2147483648 entries"],
    ["a region twice", inRegions(48, latin1(VHDX_GUIDS.blockTable)), "list an entry twice"],
    ["a region that is unknown", inRegions(48, "x"), "requires an unknown region"],
    ["no metadata", inRegions(8, le(4, 1)), "lists no metadata"],
    ["no block table", withoutBlockTable(), "lists no block table"],
    ["metadata after its end", inRegions(64, le(8, 2n ** 63n)), "metadata table is cut off"],
    ["metadata elsewhere", inRegions(64, le(8, 0)), "metadata table has no signature"],
    ["endless metadata", patched(image, [METADATA + 10, le(2, 0xffff)]), "has 65535 entries"],
    ["no size", patched(image, [METADATA + 64, "x"]), "virtual size is missing"],
    ["no page 83 data", patched(image, [METADATA + 96, "x"]), "page 83 data is missing"],
    ["a size of 4 bytes", patched(image, [METADATA + 84, le(4, 4)]), "virtual size is missing"],
    ["a size far away", patched(image, [METADATA + 80, le(4, 2 ** 31)]), "virtual size is cut off"],
  ])("is refused with %s", async (_, bytes, reason) => {
    expect(failuresOf(await judged(bytes))).toEqual({
      header: expect.stringContaining(reason) as string,
    });
  });

  it.each([8, 64 * KiB, 200 * KiB])("is reported as cut off with %i bytes", async (length) => {
    const verdict = await judged(image.subarray(0, length));

    expect(verdict).toMatchObject({ format: "vhdx", virtualSizeBytes: null, safe: false });
  });

  describe("with a log that was not replayed", () => {
    const GUID = "log of the test.";

    /** An entry that writes these bytes there. @param data - 4096 bytes */
    function entry(position: number, data: Buffer, { flushed = 4 * MIB, last = 4 * MIB } = {}) {
      const bytes = patched(
        Buffer.alloc(8 * KiB),
        [0, "loge"],
        [8, le(4, 8 * KiB)],
        [16, le(8, 1)],
        [24, le(4, 1)],
        [32, GUID],
        [48, le(8, flushed)],
        [56, le(8, last)],
        [64, "desc"],
        [64 + 16, le(8, position)],
        [64 + 24, le(8, 1)],
        [4 * KiB, "data"],
        [8 * KiB - 4, le(4, 1)],
      );
      data.copy(bytes, 64 + 4, 4 * KiB - 4);
      data.copy(bytes, 64 + 8, 0, 8);
      data.copy(bytes, 4 * KiB + 8, 8, 4 * KiB - 4);
      bytes.writeUInt32LE(crc32c(bytes), 4);
      return bytes;
    }

    function logged(...entries: readonly Buffer[]): Buffer {
      const bytes = inHeaders(48, GUID);
      Buffer.concat(entries).copy(bytes, MIB);
      return bytes;
    }

    const zeros = Buffer.alloc(4 * KiB);
    const DIRTY = "its vhdx log was not replayed: its last writer did not close it";

    it("is reported as dirty, and accepted, by default", async () => {
      const verdict = await judged(logged(entry(BLOCKS, zeros)));

      expect(verdict).toMatchObject({ safe: true, tolerated: ["dirty"] });
      expect(verdict.checks["dirty"]).toBe(DIRTY);
    });

    it("passes when no entry of the log is complete", async () => {
      expect(failuresOf(await judged(logged(patched(entry(BLOCKS, zeros), [100, "x"]))))).toEqual(
        {},
      );
    });

    it.each([
      ["its headers", 64 * KiB],
      ["its region tables", 192 * KiB],
      ["its metadata", METADATA],
      ["its log", MIB + 16 * KiB],
    ])("is refused when replaying it would write %s", async (_, position) => {
      expect(failuresOf(await judged(logged(entry(position, zeros))))).toEqual({
        dirty: DIRTY,
        log: "its vhdx log would overwrite its header, its metadata or itself when it is replayed",
      });
    });

    it("is refused when a block that the log adds is missing", async () => {
      const bytes = logged(entry(BLOCKS, patched(zeros, [0, le(8, 4 * MIB + 6)])));

      expect(failuresOf(await judged(bytes))).toHaveProperty("complete");
    });

    it("is accepted when the log makes the file as long as its blocks need", async () => {
      const table = patched(zeros, [0, le(8, 4 * MIB + 6)]);

      expect((await judged(logged(entry(BLOCKS, table, { last: 5 * MIB })))).safe).toBe(true);
    });

    it("is refused when the file is shorter than the log states", async () => {
      const bytes = logged(entry(BLOCKS, zeros, { flushed: 9 * MIB, last: 9 * MIB }));

      expect(failuresOf(await judged(bytes))["complete"]).toContain("ends at byte 9437184");
    });
  });
});
