import { describe, expect, it } from "vitest";
import { be, craftedQcow2, patched } from "../support/crafted-images.ts";
import { failuresOf, judged, STRICT } from "../support/judged.ts";

const image = craftedQcow2();
const CLUSTER = 64 * 1024;

/** An extension of the header, at its place behind it: type, length, data. */
function extension(type: number, lengthBytes: number): Buffer {
  return patched(image, [104, be(4, type)], [108, be(4, lengthBytes)]);
}

describe("qcow2", () => {
  it.each([2, 3] as const)("is accepted in version %i", async (version) => {
    expect(await judged(craftedQcow2(version))).toMatchObject({
      format: "qcow2",
      virtualSizeBytes: 5 * 1024 * 1024,
      safe: true,
      checks: { backing_file: "pass", data_file: "pass", snapshots: "pass", tables: "pass" },
    });
  });

  it.each([
    ["extended L2 entries", patched(image, [72, be(8, 16)])],
    ["zstd", patched(image, [72, be(8, 8)], [100, be(4, 112)], [104, "\x01"])],
    ["an unknown extension", extension(0x12345678, 24)],
    ["auto-clear and compatible features", patched(image, [80, be(8, 1)], [88, be(8, 3)])],
  ])("is accepted with %s", async (_, bytes) => {
    expect(failuresOf(await judged(bytes))).toEqual({});
  });

  it.each([
    ["a backing file", [8, be(8, 4096)], "backing_file", "refers to a backing file"],
    ["the length of a backing file's name", [16, be(4, 9)], "backing_file", "a backing file"],
    ["an external data file", [72, be(8, 4)], "data_file", "external data file"],
    ["an unknown feature", [72, be(8, 32)], "unknown_features", "unknown: 0x20"],
    ["the highest feature", [72, be(8, 2n ** 63n)], "unknown_features", "0x8000000000000000"],
    ["a compression that is not stated", [72, be(8, 8)], "unknown_features", "type 0"],
    ["the corrupt mark", [72, be(8, 2)], "corrupt", "marked corrupt"],
    ["the dirty mark", [72, be(8, 1)], "dirty", "marked dirty"],
    ["AES", [32, be(4, 1)], "encryption", "encryption of method 1"],
    ["LUKS", [32, be(4, 2)], "encryption", "encrypted by LUKS (`formats.allowed_encryption`)"],
    ["internal snapshots", [60, be(4, 3)], "snapshots", "with 3 internal snapshots"],
    ["an L1 table of 32 GiB", [36, be(4, 2 ** 32 - 1)], "tables", "too large"],
    ["an L1 table too small", [24, be(8, 2 ** 40)], "tables", "too small for its size"],
    ["no L1 table", [36, be(4, 0)], "tables", "too small for its size"],
    [
      "an L1 table between clusters",
      [40, be(8, 3 * CLUSTER + 8)],
      "tables",
      "L1 table is not aligned",
    ],
    ["an L1 table behind its end", [40, be(8, 4 * CLUSTER)], "tables", "L1 table is cut off"],
    [
      "an L1 table behind all ends",
      [40, be(8, 2n ** 64n - 65536n)],
      "tables",
      "L1 table is cut off",
    ],
    ["no refcount table", [56, be(4, 0)], "tables", "refcount table has 0 bytes"],
    ["a huge refcount table", [56, be(4, 129)], "tables", "refcount table has 8454144 bytes"],
    ["a refcount table at 0", [48, be(8, 0)], "tables", "refcount table is not aligned"],
    [
      "a refcount table behind its end",
      [48, be(8, 9 * CLUSTER)],
      "tables",
      "refcount table is cut",
    ],
    ["refcounts of 128 bits", [96, be(4, 7)], "tables", "refcount order 7"],
    ["a json: name", [200, 'json:{"driver":"nbd"}'], "protocols", 'names a place, "json:…"'],
    ["an nbd: name", [200, "nbd:127.0.0.1:10809"], "protocols", 'names a place, "nbd:…"'],
    ["a URL", [200, "http://169.254.169.254/"], "protocols", 'names a place, "http:…"'],
    ["version 1", [4, be(4, 1)], "header", "a qcow of version 1, and only 2 and 3 are known"],
    ["version 4", [4, be(4, 4)], "header", "a qcow of version 4"],
    ["clusters of 1 byte", [20, be(4, 0)], "header", "clusters of 2^0 bytes"],
    ["clusters of 2^63", [20, be(4, 63)], "header", "clusters of 2^63 bytes"],
    ["a short header length", [100, be(4, 72)], "header", "a length of 72 bytes"],
    ["an odd header length", [100, be(4, 107)], "header", "a length of 107 bytes"],
    ["a header of 4 GiB", [100, be(4, 2 ** 32 - 8)], "header", "a length of 4294967288 bytes"],
  ] as const)("is refused with %s", async (_, change, check, reason) => {
    const verdict = await judged(patched(image, change), STRICT);

    expect(verdict.safe).toBe(false);
    expect(failuresOf(verdict)).toHaveProperty(check, expect.stringContaining(reason));
  });

  it("is refused with the name of a data file, whatever its features say", async () => {
    expect(failuresOf(await judged(extension(0x44415441, 16)))).toEqual({
      data_file: "it is a qcow2 with an external data file",
    });
  });

  it("is refused when its extensions leave its first cluster", async () => {
    expect(failuresOf(await judged(extension(0x12345678, 65536)))).toEqual({
      header_extensions: "its qcow2 header extensions do not end within its first cluster",
    });
  });

  it.each([4, 7, 71, 103])("is told as cut off with %i bytes, not as raw", async (length) => {
    const verdict = await judged(image.subarray(0, length));

    expect(verdict).toMatchObject({ format: "qcow2", safe: false });
    expect(verdict.checks["header"]).toContain("its qcow2 header is cut off");
  });

  it.each([
    ["encryption", [32, be(4, 2)], 'add "qcow2_luks" to `formats.allowed_encryption`'],
    ["dirty", [72, be(8, 1)], "set `formats.allow_dirty: true`"],
    ["snapshots", [60, be(4, 1)], "set `formats.allow_snapshots: true`"],
  ] as const)(
    "is accepted in spite of %s, and strict policies name the way",
    async (check, change, way) => {
      const bytes = patched(image, change);

      expect(await judged(bytes)).toMatchObject({ safe: true, tolerated: [check], hints: {} });
      expect(await judged(bytes, STRICT)).toMatchObject({
        safe: false,
        tolerated: [],
        hints: { [check]: expect.stringContaining(way) as string },
      });
    },
  );

  it("is refused with encryption by AES whatever the policy says", async () => {
    const { safe, hints } = await judged(patched(image, [32, be(4, 1)]));

    expect(safe).toBe(false);
    expect(hints["encryption"]).not.toContain("formats.");
  });
});
