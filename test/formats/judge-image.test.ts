import { describe, expect, it } from "vitest";
import type { DiskFormat } from "../../src/domain/disk-format.ts";
import { DEFAULT_FORMAT_POLICY } from "../../src/domain/format-policy.ts";
import { judgeImage } from "../../src/formats/judge-image.ts";
import {
  be,
  craftedDynamicVhd,
  craftedFixedVhd,
  craftedGpt,
  craftedIso,
  craftedLuks,
  craftedMbr,
  craftedQcow2,
  craftedUdf,
  craftedVdi,
  craftedVhdx,
  craftedVmdk,
  craftedVmdkStream,
  le,
  patched,
} from "../support/crafted-images.ts";
import { failuresOf, judged, readerOf } from "../support/judged.ts";

const GZIP = patched(Buffer.alloc(4096), [0, "\x1f\x8b\x08"]);
const TAR = patched(Buffer.alloc(4096), [257, "ustar"]);
const QED = patched(Buffer.alloc(4096), [0, "QED\0"]);
const PARALLELS = patched(Buffer.alloc(4096), [0, "WithoutFreeSpace"]);
const RAW = Buffer.alloc(4096, 1);

const bare = (diskFormat: DiskFormat) => ({ diskFormat, containerFormat: "bare" }) as const;

describe("judgeImage()", () => {
  it("treats bytes without a mark as raw, even if they are few", async () => {
    for (const bytes of [Buffer.from("x"), Buffer.alloc(513, 1), RAW]) {
      expect(await judged(bytes)).toEqual({
        format: "raw",
        virtualSizeBytes: Math.ceil(bytes.length / 512) * 512,
        sizeBytes: bytes.length,
        safe: true,
        checks: {
          one_format: "pass",
          content: "pass",
          importable: "pass",
          disk_format: "pass",
          mbr: "pass",
          complete: "pass",
          virtual_size: "pass",
          virtual_ratio: "pass",
        },
        tolerated: [],
        hints: {},
        bytesRead: Math.min(bytes.length, 64 * 1024) + Math.min(bytes.length, 1536),
      });
    }
  });

  it.each([
    [
      "a qcow2 in the system area of an iso",
      patched(craftedIso(), [0, "QFI\xfb"]),
      "qcow2 and of iso",
    ],
    ["an iso in a vmdk", patched(craftedVmdk(), [32 * 1024 + 1, "CD001"]), "vmdk and of iso"],
    ["a gzip in an iso", patched(craftedIso(), [0, "\x1f\x8b\x08"]), "iso and of gzip"],
    ["a vdi in a qcow2", patched(craftedQcow2(2), [0x40, le(4, 0xbeda107f)]), "qcow2 and of vdi"],
    [
      "a partitioned qcow2",
      patched(craftedQcow2(), [450, "\x83"], [458, le(4, 1)], [510, "\x55\xaa"]),
      "qcow2 and of mbr",
    ],
    [
      "a partitioned dynamic vhd",
      patched(craftedDynamicVhd(), [450, "\xee"], [458, le(4, 1)], [510, "\x55\xaa"]),
      "vhd and of gpt",
    ],
    [
      "a qcow2 with the footer of a vhd",
      Buffer.concat([craftedQcow2(), craftedFixedVhd().subarray(-512)]),
      "qcow2 and of vhd",
    ],
    ["a tar with the mark of a vdi", patched(TAR, [0x40, le(4, 0xbeda107f)]), "vdi and of tar"],
  ])("refuses %s, naming both", async (_, bytes, formats) => {
    const verdict = await judged(bytes);

    expect(verdict).toMatchObject({ format: "ambiguous", virtualSizeBytes: null, safe: false });
    expect(failuresOf(verdict)).toEqual({ one_format: `it has the marks of ${formats}` });
  });

  it("treats a hybrid iso as an iso, whatever its partition tables hold", async () => {
    const table = craftedGpt().subarray(446, 512).toString("latin1");

    for (const change of [table, craftedMbr().subarray(446, 512).toString("latin1")]) {
      const hybrid = patched(craftedIso(), [446, change], [462, "\x01"]);

      expect(await judged(hybrid)).toMatchObject({ format: "iso", safe: true });
    }
  });

  it("refuses an iso that ends before its volume", async () => {
    expect(
      failuresOf(
        await judged(
          craftedIso()
            .subarray(0, 600 * 1024)
            .fill(1, 500 * 1024),
        ),
      ),
    ).toEqual({
      complete: "its volume ends at byte 655360, but the image ends at byte 614400",
    });
  });

  it.each([512, 2048, 4096])(
    "recognises a UDF volume with blocks of %i bytes",
    async (blockBytes) => {
      const volume = craftedUdf(blockBytes);
      const end = volume.length;

      expect(await judged(volume)).toMatchObject({
        format: "udf",
        virtualSizeBytes: end,
        safe: true,
      });
      expect(await judged(volume.subarray(0, end - 512))).toMatchObject({
        format: "udf",
        safe: false,
        checks: {
          complete: `its udf partition ends at byte ${end}, but the image ends at byte ${end - 512}`,
        },
      });
      expect((await judged(volume.subarray(0, 64 * 1024))).safe).toBe(false);
    },
  );

  it("treats a disc that is ISO 9660 and UDF as an iso", async () => {
    const bridge = patched(craftedIso(), [34 * 1024 + 1, "BEA01"], [36 * 1024 + 1, "NSR02"]);

    expect(await judged(bridge)).toMatchObject({ format: "iso", safe: true });
  });

  it("accepts a disc without the padding after its data as complete", async () => {
    const padded = patched(craftedIso(), [32 * 1024 + 80, le(4, 320 + 150)]);
    const data = patched(padded, [padded.length - 1, "x"]);

    expect((await judged(data)).safe).toBe(true);
    expect((await judged(data.subarray(0, -2048))).safe).toBe(false);
    expect((await judged(Buffer.concat([data, Buffer.alloc(2048)]))).safe).toBe(true);
  });

  it("refuses a virtual size above its limit", async () => {
    const bytes = craftedVdi(2 ** 33);

    const caps = { maxVirtualSizeBytes: 2 ** 33 - 1, maxVirtualRatio: 1024 };
    expect(failuresOf(await judged(bytes, caps))).toEqual({
      virtual_size:
        "its virtual size is 8589934592 bytes, more than the allowed 8 GiB (`formats.max_virtual_size`)",
      virtual_ratio: expect.stringContaining(
        "is more than 1024 times its size of 33280 bytes",
      ) as string,
    });
    expect(
      (await judged(bytes, { maxVirtualSizeBytes: 2 ** 33, maxVirtualRatio: 2 ** 23 })).safe,
    ).toBe(true);
    expect((await judged(bytes)).safe).toBe(true);
  });

  it.each([
    ["qcow2", patched(craftedQcow2(), [24, be(8, 2n ** 63n)])],
    ["vmdk", patched(craftedVmdk(), [12, le(8, 2n ** 64n - 1n)])],
    ["vhd", patched(craftedFixedVhd(), [3 * 1024 * 1024 + 48, be(8, 2n ** 63n)])],
    ["vhdx", patched(craftedVhdx(), [(2 * 1024 + 64) * 1024 + 8, le(8, 2n ** 63n)])],
    ["vdi", patched(craftedVdi(), [0x170, le(8, 2n ** 63n)])],
  ])("refuses a %s of an absurd virtual size", async (format, bytes) => {
    const verdict = await judged(bytes);

    expect(verdict).toMatchObject({ format, virtualSizeBytes: null, safe: false });
    expect(failuresOf(verdict)["virtual_size"]).toContain("more than the allowed 64 TiB");
  });

  it("reads a few bytes of an image of any size", async () => {
    const counted: number[] = [];
    const sizeBytes = 2 ** 50;
    const reader = {
      read: async (buffer: Buffer, offset: number, length: number) => {
        counted.push(length);
        buffer.fill(0, offset, offset + length);
        return { bytesRead: length };
      },
    };

    const { bytesRead, format } = await judgeImage(reader, sizeBytes, {
      ...DEFAULT_FORMAT_POLICY,
      maxVirtualSizeBytes: sizeBytes,
    });

    expect({ format, bytesRead, counted }).toEqual({
      format: "raw",
      bytesRead: 64 * 1024 + 1536 + 512,
      counted: [64 * 1024, 1536, 512],
    });
  });

  it("throws the error of a file that cannot be read", async () => {
    const broken = { read: () => Promise.reject(new Error("EIO")) };

    await expect(judgeImage(broken, 4096, DEFAULT_FORMAT_POLICY)).rejects.toThrow("EIO");
  });

  it("judges a file that became shorter by its remaining bytes", async () => {
    const verdict = await judgeImage(readerOf(craftedVhdx().subarray(0, 200)), 2 ** 30, {
      ...DEFAULT_FORMAT_POLICY,
    });

    expect(verdict).toMatchObject({ format: "vhdx", safe: false });
  });
});

describe("judgeImage() of a declared format", () => {
  const real = {
    raw: RAW,
    qcow2: craftedQcow2(),
    vmdk: craftedVmdkStream(),
    vhd: craftedFixedVhd(),
    vhdx: craftedVhdx(),
    vdi: craftedVdi(),
    iso: craftedIso(),
    udf: craftedUdf(),
    gpt: craftedGpt(),
    mbr: craftedMbr(),
    luks: craftedLuks(1),
  };

  it.each([
    ["raw", ["raw", "gpt", "mbr", "luks", "iso", "udf"]],
    ["ami", ["raw", "gpt", "mbr"]],
    ["ari", ["raw"]],
    ["aki", ["raw"]],
    ["ploop", ["raw"]],
    ["iso", ["iso", "udf"]],
    ...(["qcow2", "vmdk", "vhd", "vhdx", "vdi"] as const).map(
      (format) => [format, [format]] as const,
    ),
  ] as const)("accepts as %s only %j", async (diskFormat, accepted) => {
    const verdicts = await Promise.all(
      Object.entries(real).map(async ([format, bytes]) => {
        const { safe, checks } = await judged(bytes, {}, bare(diskFormat));
        return [format, safe, checks["declared_format"]] as const;
      }),
    );

    expect(verdicts).toEqual(
      Object.keys(real).map((format) => {
        const isAccepted = (accepted as readonly string[]).includes(format);
        return [format, isAccepted, isAccepted ? "pass" : `its bytes are "${format}"`];
      }),
    );
  });

  it.each([
    ["raw", GZIP, "its bytes are gzip data"],
    ["qcow2", TAR, "its bytes are a tar archive"],
    ["raw", PARALLELS, "its bytes are a Parallels disk"],
    ["raw", QED, 'its bytes are "qed"'],
    ["raw", craftedQcow2().subarray(0, 100), 'its bytes are "qcow2"'],
  ] as const)("refuses as %s an image of another format", async (diskFormat, bytes, reason) => {
    const verdict = await judged(bytes, {}, bare(diskFormat));

    expect(verdict.safe).toBe(false);
    expect(verdict.checks["declared_format"]).toBe(reason);
  });

  it("accepts a compressed ramdisk, and a ploop that has the mark of Parallels", async () => {
    expect((await judged(GZIP, {}, bare("ari"))).safe).toBe(true);
    expect((await judged(PARALLELS, {}, bare("ploop"))).safe).toBe(true);
  });

  it("accepts compressed data that will be decompressed and judged again", async () => {
    const declared = { ...bare("qcow2"), decompressed: ["gzip"] } as const;

    expect(await judged(GZIP, {}, declared)).toMatchObject({ format: "gzip", safe: true });
    expect((await judged(TAR, {}, declared)).safe).toBe(false);
    expect((await judged(QED, {}, declared)).safe).toBe(false);
  });

  it("only reports a mismatch that the policy tolerates, and still refuses an unsafe image", async () => {
    const lax = { requireImageFormatMatch: false };
    const overlay = patched(craftedQcow2(), [8, be(8, 4096)]);

    expect(await judged(craftedQcow2(), lax, bare("raw"))).toMatchObject({
      safe: true,
      checks: { declared_format: 'its bytes are "qcow2"' },
      tolerated: ["declared_format"],
    });
    expect((await judged(overlay, lax, bare("raw"))).safe).toBe(false);
    expect((await judged(QED, lax, bare("raw"))).safe).toBe(false);
  });

  it.each(["ova", "ovf", "docker", "compressed"] as const)(
    "lets through unseen what is in the container %s, but no bare disk",
    async (containerFormat) => {
      const declared = { diskFormat: "qcow2", containerFormat } as const;
      const opaque = await Promise.all(
        [TAR, GZIP, RAW].map(async (bytes) => judged(bytes, {}, declared)),
      );
      const disks = await Promise.all(
        [craftedQcow2(), craftedGpt(), PARALLELS].map(async (bytes) => judged(bytes, {}, declared)),
      );

      expect(opaque.map(({ safe, virtualSizeBytes }) => [safe, virtualSizeBytes])).toEqual([
        [true, null],
        [true, null],
        [true, null],
      ]);
      expect(disks.map(({ checks }) => checks["declared_format"])).toEqual([
        'its bytes are a bare "qcow2"',
        'its bytes are a bare "gpt"',
        'its bytes are a bare "parallels"',
      ]);
    },
  );

  it("judges an image in one of Amazon's containers as a bare image", async () => {
    const declared = { diskFormat: "ami", containerFormat: "ami" } as const;

    expect((await judged(RAW, {}, declared)).safe).toBe(true);
    expect((await judged(TAR, {}, declared)).safe).toBe(false);
  });

  it("refuses formats that are not allowed, declared or found", async () => {
    const policy = { diskFormats: ["qcow2"], containerFormats: ["bare"] } as const;
    const declared = { diskFormat: "raw", containerFormat: "ova" } as const;

    expect(failuresOf(await judged(RAW, policy, declared))).toEqual({
      disk_format: 'the disk format "raw" is not allowed here (`formats.disk_formats`)',
      container_format:
        'the container format "ova" is not allowed here (`formats.container_formats`)',
    });
    expect(failuresOf(await judged(craftedGpt(), policy))).toEqual({
      disk_format: 'the disk format "raw" is not allowed here (`formats.disk_formats`)',
    });
    expect((await judged(craftedQcow2(), policy)).safe).toBe(true);
  });
});
