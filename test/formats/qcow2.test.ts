import { randomBytes } from "node:crypto";
import { deflateRawSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import { be, craftedQcow2, craftedSnapshot, patched } from "../support/crafted-images.ts";
import { failuresOf, judged, STRICT } from "../support/judged.ts";

const image = craftedQcow2();
const CLUSTER = 64 * 1024;

/** An extension, in its place after the header: type, length, data. */
function extension(type: number, lengthBytes: number): Buffer {
  return patched(image, [104, be(4, type)], [108, be(4, lengthBytes)]);
}

/** An L2 table in a cluster of its own, and one more cluster. */
function withL2(...entries: readonly (readonly [index: number, entry: bigint | number])[]): Buffer {
  const bytes = Buffer.concat([image, Buffer.alloc(2 * CLUSTER)]);
  return patched(
    bytes,
    [3 * CLUSTER, be(8, 4 * CLUSTER)],
    ...entries.map(([index, entry]) => [4 * CLUSTER + index * 8, be(8, entry)] as const),
  );
}

/** A compressed cluster that begins here and has this many more sectors. */
function compressed(position: number, sectors: number): bigint {
  return (1n << 62n) | (BigInt(sectors) << 54n) | BigInt(position);
}

/** LUKS inside: a pointer to its header, which fills the last cluster. */
function withLuks(...changes: Parameters<typeof patched>[1][]): Buffer {
  return patched(
    withL2(),
    [104, be(4, 0x0537be77)],
    [108, be(4, 16)],
    [112, be(8, 5 * CLUSTER)],
    [120, be(8, CLUSTER)],
    ...changes,
  );
}

/** A snapshot in cluster 5, with the L1 table of the disk itself. */
function withSnapshot(...changes: Parameters<typeof patched>[1][]): Buffer {
  return patched(craftedSnapshot(), ...changes);
}

/** A bitmap in cluster 5, whose table is in cluster 4. */
function withBitmap(...changes: Parameters<typeof patched>[1][]): Buffer {
  return patched(
    Buffer.concat([image, Buffer.alloc(2 * CLUSTER)]),
    [88, be(8, 1)],
    [104, be(4, 0x23852875)],
    [108, be(4, 24)],
    [112, be(4, 1)],
    [120, be(8, 32)],
    [128, be(8, 5 * CLUSTER)],
    [5 * CLUSTER, be(8, 4 * CLUSTER)],
    [5 * CLUSTER + 8, be(4, 1)],
    ...changes,
  );
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
    ["an unknown feature", [72, be(8, 32)], "unknown_features", "unknown qcow2 features: 0x20"],
    ["the highest feature", [72, be(8, 2n ** 63n)], "unknown_features", "0x8000000000000000"],
    ["a compression that is not stated", [72, be(8, 8)], "unknown_features", "type 0"],
    ["the corrupt mark", [72, be(8, 2)], "corrupt", "marked corrupt"],
    ["the dirty mark", [72, be(8, 1)], "dirty", "marked dirty"],
    ["AES", [32, be(4, 1)], "encryption", "encryption of method 1"],
    ["LUKS", [32, be(4, 2)], "encryption", "encrypted by LUKS (`formats.allowed_encryption`)"],
    ["internal snapshots", [60, be(4, 3)], "snapshots", "with internal snapshots (3)"],
    ["an L1 table of 32 GiB", [36, be(4, 2 ** 32 - 1)], "tables", "too large"],
    ["an L1 table too small", [24, be(8, 2 ** 40)], "tables", "too small for its size"],
    ["no L1 table", [36, be(4, 0)], "tables", "too small for its size"],
    [
      "an L1 table between clusters",
      [40, be(8, 3 * CLUSTER + 8)],
      "tables",
      "L1 table is not aligned",
    ],
    ["an L1 table after its end", [40, be(8, 4 * CLUSTER)], "complete", "L1 table ends at byte"],
    [
      "an L1 table after all ends",
      [40, be(8, 2n ** 64n - 65536n)],
      "complete",
      "L1 table ends at byte",
    ],
    ["no refcount table", [56, be(4, 0)], "tables", "refcount table has 0 bytes"],
    ["a huge refcount table", [56, be(4, 129)], "tables", "refcount table has 8454144 bytes"],
    ["a refcount table at 0", [48, be(8, 0)], "tables", "refcount table is not aligned"],
    [
      "a refcount table after its end",
      [48, be(8, 9 * CLUSTER)],
      "complete",
      "refcount table ends at byte",
    ],
    ["refcounts of 128 bits", [96, be(4, 7)], "tables", "refcount order 7"],
    [
      "a json: name",
      [200, 'json:{"driver":"nbd"}'],
      "protocols",
      'refers to data outside the image, "json:…"',
    ],
    [
      "an nbd: name",
      [200, "nbd:127.0.0.1:10809"],
      "protocols",
      'refers to data outside the image, "nbd:…"',
    ],
    [
      "a URL",
      [200, "http://169.254.169.254/"],
      "protocols",
      'refers to data outside the image, "http:…"',
    ],
    ["version 1", [4, be(4, 1)], "header", "a qcow of version 1; only 2 and 3 are supported"],
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

  it("is refused with the name of a data file, whatever its features state", async () => {
    expect(failuresOf(await judged(extension(0x44415441, 16)))).toEqual({
      data_file: "it is a qcow2 with an external data file",
    });
  });

  it("is refused when its extensions leave its first cluster", async () => {
    expect(failuresOf(await judged(extension(0x12345678, 65536)))).toEqual({
      header_extensions: "its qcow2 header extensions do not end within its first cluster",
    });
  });

  it.each([4, 7, 71, 103])("is reported as cut off with %i bytes, not as raw", async (length) => {
    const verdict = await judged(image.subarray(0, length));

    expect(verdict).toMatchObject({ format: "qcow2", safe: false });
    expect(verdict.checks["header"]).toContain("its qcow2 header is cut off");
  });

  it.each([
    ["encryption", withLuks([32, be(4, 2)]), 'add "qcow2_luks" to `formats.allowed_encryption`'],
    ["dirty", patched(image, [72, be(8, 1)]), "set `formats.allow_dirty: true`"],
    ["snapshots", withSnapshot(), "set `formats.allow_snapshots: true`"],
  ] as const)(
    "is accepted with %s, and strict policies report the setting",
    async (check, bytes, way) => {
      expect(await judged(bytes)).toMatchObject({ safe: true, tolerated: [check], hints: {} });
      expect(await judged(bytes, STRICT)).toMatchObject({
        safe: false,
        tolerated: [],
        hints: { [check]: expect.stringContaining(way) as string },
      });
    },
  );

  it("is refused with encryption by AES, whatever the policy allows", async () => {
    const { safe, hints } = await judged(patched(image, [32, be(4, 1)]));

    expect(safe).toBe(false);
    expect(hints["encryption"]).not.toContain("formats.");
  });

  const DISK_CLUSTERS = 80;
  it.each([
    ["a cluster", withL2([0, 5 * CLUSTER])],
    ["zeros", withL2([0, 1], [1, 5 * CLUSTER + 1])],
    ["the last cluster of the disk", withL2([DISK_CLUSTERS - 1, 5 * CLUSTER])],
    ["a compressed cluster", withL2([0, compressed(5 * CLUSTER, 127)])],
    ["a cluster after the disk that is there in part", withL2([DISK_CLUSTERS, 5 * CLUSTER])],
    ["a snapshot", withSnapshot()],
    ["a bitmap", withBitmap([4 * CLUSTER, be(8, 5 * CLUSTER)])],
    ["bitmaps that count for nothing", withBitmap([88, be(8, 0)], [128, be(8, 9 * CLUSTER)])],
    ["LUKS", withLuks([32, be(4, 2)])],
  ])("is complete with %s", async (_, bytes) => {
    expect((await judged(bytes)).safe).toBe(true);
  });

  it.each([
    ["a cluster", withL2([0, 6 * CLUSTER]), "its last qcow2 cluster ends at byte 458752"],
    ["half a cluster", withL2([0, 5 * CLUSTER]).subarray(0, -CLUSTER / 2), "ends at byte 393216"],
    ["a byte of a cluster", withL2([0, 5 * CLUSTER]).subarray(0, -1), "ends at byte 393216"],
    ["zeros", withL2([0, 6 * CLUSTER + 1]), "its last qcow2 cluster ends at byte 393217"],
    ["a cluster after the disk", withL2([200, 6 * CLUSTER]), "ends at byte 393217"],
    ["a compressed cluster", withL2([0, compressed(5 * CLUSTER, 128)]), "ends at byte 393728"],
    ["an L2 table", patched(withL2(), [3 * CLUSTER, be(8, 6 * CLUSTER)]), "qcow2 L2 table ends at"],
    [
      "a refcount block",
      patched(withL2(), [CLUSTER, be(8, 6 * CLUSTER)]),
      "refcount block ends at",
    ],
    ["a snapshot", withSnapshot([64, be(8, 6 * CLUSTER)]), "qcow2 snapshot ends at byte 393256"],
    [
      "the name of a snapshot",
      withSnapshot([64, be(8, 5 * CLUSTER)], [5 * CLUSTER + 12, be(4, 0xffffffff)]),
      "qcow2 snapshot ends at",
    ],
    ["a snapshot's L1 table", withSnapshot([5 * CLUSTER, be(8, 6 * CLUSTER)]), "L1 table ends at"],
    ["a bitmap directory", withBitmap([128, be(8, 6 * CLUSTER)]), "bitmap directory ends at"],
    ["a bitmap table", withBitmap([5 * CLUSTER, be(8, 6 * CLUSTER)]), "bitmap table ends at"],
    ["a bitmap", withBitmap([4 * CLUSTER, be(8, 6 * CLUSTER)]), "its last qcow2 bitmap ends at"],
    ["the LUKS header", withLuks([32, be(4, 2)], [120, be(8, CLUSTER + 1)]), "LUKS header ends at"],
  ])("is refused as cut off where %s is missing", async (_, bytes, reason) => {
    const verdict = await judged(bytes);

    expect(verdict.safe).toBe(false);
    expect(verdict.checks["complete"]).toContain(reason);
    expect(verdict.checks["complete"]).toContain(`but the file ends at byte ${bytes.length}`);
  });

  it.each([
    ["the last sector of a compressed cluster", (data: Buffer) => data, true],
    ["bytes of it", (data: Buffer) => data.subarray(0, -20), false],
  ])("finds by decompressing if it ends in %s", async (_, cut, isComplete) => {
    const data = deflateRawSync(randomBytes(CLUSTER).fill(0, 1000));
    const table = withL2([0, compressed(5 * CLUSTER, Math.ceil(data.length / 512) - 1)]);

    const bytes = Buffer.concat([table.subarray(0, 5 * CLUSTER), cut(data)]);

    expect((await judged(bytes)).safe).toBe(isComplete);
  });

  it.each([
    ["an L2 table between clusters", patched(withL2(), [3 * CLUSTER, be(8, 4 * CLUSTER + 512)])],
    ["a cluster between clusters", withL2([0, 5 * CLUSTER + 512])],
    ["a refcount block between clusters", patched(withL2(), [CLUSTER, be(8, CLUSTER + 512)])],
    ["a snapshot table between clusters", patched(image, [64, be(8, 512)])],
    ["a snapshot table after all ends", patched(image, [64, be(8, 2n ** 63n)])],
    ["endless snapshots", patched(image, [60, be(4, 65537)])],
    ["a snapshot with endless extra data", withSnapshot([5 * CLUSTER + 36, be(4, 1025)])],
    ["a snapshot with an endless L1 table", withSnapshot([5 * CLUSTER + 8, be(4, 2 ** 31)])],
    ["a snapshot's L1 table between clusters", withSnapshot([5 * CLUSTER, be(8, 3 * CLUSTER + 8)])],
    ["a bitmap directory that is too short", withBitmap([120, be(8, 16)])],
  ])("is refused with %s", async (_, bytes) => {
    expect(failuresOf(await judged(bytes))).toHaveProperty("tables");
  });

  it("is refused when its tables overlap, and is not read endlessly", async () => {
    // Each of many snapshots has the same long L1 table.
    const bytes = Buffer.alloc(64 * CLUSTER);
    withSnapshot([60, be(4, 1000)]).copy(bytes);
    for (let index = 0; index < 1000; index += 1) {
      bytes.writeBigUInt64BE(BigInt(3 * CLUSTER), 5 * CLUSTER + index * 40);
      bytes.writeUInt32BE(100_000, 5 * CLUSTER + index * 40 + 8);
    }

    const verdict = await judged(bytes);

    expect(verdict.checks["tables"]).toContain("they overlap");
    expect(verdict.bytesRead).toBeLessThan(4 * bytes.length);
  });

  it.each([
    ["LUKS without its header", patched(image, [32, be(4, 2)])],
    ["a LUKS header without LUKS", withLuks()],
    ["a LUKS header between clusters", withLuks([32, be(4, 2)], [112, be(8, 5 * CLUSTER + 512)])],
    ["no bitmaps", withBitmap([112, be(4, 0)])],
    ["too many bitmaps", withBitmap([112, be(4, 65536)])],
    ["an extension twice", patched(image, [104, be(4, 7)], [112, be(4, 7)])],
  ])("is refused with %s", async (_, bytes) => {
    expect(failuresOf(await judged(bytes))).toHaveProperty("header_extensions");
  });

  it("is refused with subclusters of less than a sector", async () => {
    const bytes = patched(image, [72, be(8, 16)], [20, be(4, 13)], [36, be(4, 100)]);

    expect(failuresOf(await judged(bytes))["tables"]).toContain("and clusters of 8192 bytes");
  });

  it("needs only the allocated part of a cluster with subclusters", async () => {
    const subclusters = (allocated: number): Buffer =>
      patched(withL2([0, 5 * CLUSTER]), [72, be(8, 16)], [4 * CLUSTER + 12, be(4, allocated)]);
    const half = (bytes: Buffer): Buffer => bytes.subarray(0, -CLUSTER / 2);

    expect((await judged(half(subclusters(0xffff)))).safe).toBe(true);
    expect((await judged(half(subclusters(0x1ffff)))).safe).toBe(false);
  });
});
