import { describe, expect, it } from "vitest";
import { assertSafe } from "../../src/formats/assert-safe.ts";
import {
  be,
  craftedLuks,
  craftedQcow2,
  craftedSnapshot,
  craftedVhdx,
  le,
  patched,
} from "../support/crafted-images.ts";
import { judged, STRICT } from "../support/judged.ts";

const overlay = patched(craftedSnapshot(), [8, be(8, 4096)]);
const asRaw = { diskFormat: "raw", containerFormat: "bare" } as const;
const asQcow2 = { diskFormat: "qcow2", containerFormat: "bare" } as const;
const asOva = { diskFormat: "vmdk", containerFormat: "ova" } as const;
const PARTITIONED = patched(craftedQcow2(), [450, "\x83"], [458, le(4, 1)], [510, "\x55\xaa"]);
const SNAPSHOTS = "it is a qcow2 with internal snapshots (1), whose data would be imported with it";
const qed = patched(Buffer.alloc(4096), [0, "QED\0"]);

describe("assertSafe()", () => {
  it.each([
    [
      "every reason of an unsafe image",
      overlay,
      asQcow2,
      "UnsafeImage",
      `it is a qcow2 overlay that refers to a backing file; ${SNAPSHOTS} (\`formats.allow_snapshots\`)`,
    ],
    ["a mismatch alone", overlay, asRaw, "FormatMismatch", ' as "raw": its bytes are "qcow2"'],
    [
      "a mismatch before a broken header",
      craftedVhdx().subarray(0, 4096),
      asRaw,
      "FormatMismatch",
      ' as "raw": its bytes are "vhdx"',
    ],
    [
      "a bare disk by its container",
      craftedQcow2(),
      asOva,
      "FormatMismatch",
      ' as "ova": its bytes are a bare "qcow2"',
    ],
    [
      "qed before a mismatch",
      qed,
      asRaw,
      "UnsafeImage",
      "it is a qed, a format that QEMU itself has abandoned",
    ],
    [
      "marks of several formats before a mismatch",
      PARTITIONED,
      asRaw,
      "UnsafeImage",
      "it has the marks of qcow2 and of mbr",
    ],
  ] as const)("reports %s", async (_, bytes, declared, code, reason) => {
    const verdict = await judged(bytes, STRICT, declared);
    const text = reason.startsWith(" as ") ? reason : `: ${reason}`;

    expect(() => {
      assertSafe(verdict, declared);
    }).toThrow(
      expect.objectContaining({ code, message: `Cannot accept the image${text}` }) as Error,
    );
  });

  it.each([
    ["one_format", PARTITIONED, "qemu-img convert -f FORMAT"],
    ["backing_file", overlay, "qemu-img convert"],
    ["banned", qed, "qemu-img convert"],
    ["header", craftedQcow2().subarray(0, 100), "Download or copy the image again"],
    [
      "corrupt",
      patched(craftedQcow2(), [72, be(8, 2)]),
      "create it again with the program that wrote it",
    ],
    ["dirty", patched(craftedQcow2(), [72, be(8, 1)]), "set `formats.allow_dirty: true`"],
    ["snapshots", patched(craftedQcow2(), [60, be(4, 1)]), "`formats.allow_snapshots: true`"],
    ["encryption", craftedLuks(2), 'add "luks2" to `formats.allowed_encryption`'],
    ["virtual_ratio", craftedVhdx(), "`formats.max_virtual_ratio`"],
    ["virtual_size", patched(craftedQcow2(), [24, be(8, 2n ** 62n)]), "`formats.max_virtual_size`"],
  ] as const)("hints at the way out of %s", async (check, bytes, hint) => {
    const verdict = await judged(bytes, { ...STRICT, maxVirtualRatio: 1 });

    expect(Object.keys(verdict.hints)).toContain(check);
    expect(() => {
      assertSafe(verdict);
    }).toThrow(expect.objectContaining({ hint: expect.stringContaining(hint) as string }) as Error);
  });

  it("hints at the declaration and at the setting after a mismatch", async () => {
    const verdict = await judged(craftedQcow2(), {}, asRaw);

    expect(() => {
      assertSafe(verdict, asRaw);
    }).toThrow(
      expect.objectContaining({
        hint: "Declare the format that the data has (`--disk-format`), or supply data of the declared format; or set `formats.require_image_format_match: false` in the worker's configuration.",
      }) as Error,
    );
  });

  it("reports a format that is not allowed with a code of its own", async () => {
    const verdict = await judged(craftedQcow2(), { diskFormats: ["raw"] }, asQcow2);

    expect(() => {
      assertSafe(verdict, asQcow2);
    }).toThrow(
      expect.objectContaining({
        code: "FormatNotAllowed",
        message:
          'Cannot accept the image: the disk format "qcow2" is not allowed here (`formats.disk_formats`)',
      }) as Error,
    );
  });

  it("accepts an image whose failed checks are tolerated", async () => {
    const verdict = await judged(craftedQcow2(), { requireImageFormatMatch: false }, asRaw);

    expect(() => {
      assertSafe(verdict, asRaw);
    }).not.toThrow();
  });
});
