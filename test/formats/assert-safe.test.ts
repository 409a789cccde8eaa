import { describe, expect, it } from "vitest";
import { ImportError } from "../../src/domain/import-failure.ts";
import { assertSafe } from "../../src/formats/assert-safe.ts";
import { be, craftedQcow2, craftedVhdx, patched } from "../support/crafted-images.ts";
import { judged } from "../support/judged.ts";

const overlay = patched(craftedQcow2(), [8, be(8, 4096)], [60, be(4, 1)]);
const asRaw = { diskFormat: "raw", containerFormat: "bare" } as const;
const asQcow2 = { diskFormat: "qcow2", containerFormat: "bare" } as const;
const asOva = { diskFormat: "vmdk", containerFormat: "ova" } as const;
const qed = patched(Buffer.alloc(4096), [0, "QED\0"]);

describe("assertSafe()", () => {
  it.each([
    [
      "every reason of an unsafe image",
      overlay,
      asQcow2,
      "UnsafeImage",
      "it is a qcow2 overlay that refers to a backing file; it is a qcow2 with 1 internal snapshots, whose data would come with it",
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
      "it is a qed, a format that QEMU itself has given up; convert it to qcow2",
    ],
    [
      "marks of several formats before a mismatch",
      patched(craftedQcow2(), [510, "\x55\xaa"]),
      asRaw,
      "UnsafeImage",
      "it carries the marks of qcow2 and of mbr",
    ],
  ] as const)("tells %s", async (_, bytes, declared, code, reason) => {
    const verdict = await judged(bytes, {}, declared);
    const text = reason.startsWith(" as ") ? reason : `: ${reason}`;

    expect(() => {
      assertSafe(verdict, declared);
    }).toThrow(new ImportError(code, `Cannot accept the image${text}`));
  });

  it("tells a format that is not allowed, with a code of its own", async () => {
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

  it("says nothing of what is tolerated", async () => {
    const verdict = await judged(craftedQcow2(), { requireImageFormatMatch: false }, asRaw);

    expect(() => {
      assertSafe(verdict, asRaw);
    }).not.toThrow();
  });
});
