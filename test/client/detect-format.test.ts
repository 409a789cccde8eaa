import { mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { detectFormat } from "../../src/client/detect-format.ts";
import { DEFAULT_FORMAT_POLICY } from "../../src/domain/format-policy.ts";
import {
  be,
  craftedGpt,
  craftedIso,
  craftedLuks,
  craftedQcow2,
  craftedVhdx,
  patched,
} from "../support/crafted-images.ts";
import { failureOf } from "../support/failure-of.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

let path: string;
beforeEach(() => {
  path = join(makeTemporaryDirectory(), "disk");
});

/** Bytes with a mark at the given place, and zeros elsewhere. */
function marked(mark: string, offset = 0): Buffer {
  const bytes = Buffer.alloc(128 * 1024);
  bytes.write(mark, offset, "latin1");
  return bytes;
}

describe("detectFormat()", () => {
  it.each([
    ["vhdx", craftedVhdx()],
    ["iso", craftedIso()],
    ["raw", craftedGpt()],
    ["raw", craftedLuks(1)],
    ["raw", marked("just bytes")],
  ])("knows %s by its marks", async (format, bytes) => {
    await writeFile(path, bytes);

    expect(await detectFormat(path)).toBe(format);
  });

  it("refuses qed, which QEMU has abandoned", async () => {
    await writeFile(path, marked("QED\0"));

    expect(await failureOf(detectFormat(path))).toMatchObject({
      code: "UnsafeImage",
      message: "Cannot accept the image: it is a qed, a format that QEMU itself has abandoned",
    });
  });

  it.each([
    ["an empty file", "", "it is empty"],
    ["a page", "<!DOCTYPE html><title>Sign in</title>", "it is an HTML page, not a disk"],
    ["an error", '{"error": 404}', "it is a JSON text, not a disk"],
  ])("refuses %s, also when a disk format is declared", async (_, bytes, reason) => {
    await writeFile(path, bytes);
    const expected = { code: "UnsafeImage", message: `Cannot accept the image: ${reason}` };

    expect(await failureOf(detectFormat(path))).toMatchObject(expected);
    expect(
      await failureOf(detectFormat(path, DEFAULT_FORMAT_POLICY, { diskFormat: "raw" })),
    ).toMatchObject(expected);
  });

  it("refuses an image with an invalid header", async () => {
    await writeFile(path, "QFI\xfb", "latin1");

    expect(await failureOf(detectFormat(path))).toMatchObject({ code: "UnsafeImage" });
  });

  it("refuses compressed data, unless a disk format is declared", async () => {
    await writeFile(path, marked("\x1f\x8b\x08"));

    expect(await failureOf(detectFormat(path))).toMatchObject({
      code: "UnsafeImage",
      message: "Cannot accept the image: it is gzip data",
    });
    expect(await detectFormat(path, DEFAULT_FORMAT_POLICY, { diskFormat: "qcow2" })).toBe("qcow2");
  });

  it("refuses an unsafe image with any declared format, and a format that is not allowed", async () => {
    await writeFile(path, patched(craftedQcow2(), [8, be(8, 4096)]));
    const policy = { ...DEFAULT_FORMAT_POLICY, diskFormats: ["vmdk"] as const };

    expect(
      await failureOf(detectFormat(path, DEFAULT_FORMAT_POLICY, { diskFormat: "raw" })),
    ).toMatchObject({ code: "UnsafeImage" });
    expect(await failureOf(detectFormat(path, policy))).toMatchObject({
      code: "FormatNotAllowed",
    });
  });

  it("fails with FileNotFound when there is no file", async () => {
    expect(await failureOf(detectFormat(path))).toMatchObject({ code: "FileNotFound" });
  });

  it("refuses a symbolic link, which staging does not follow", async () => {
    await writeFile(`${path}.disk`, craftedQcow2());
    await symlink(`${path}.disk`, path);

    expect(await failureOf(detectFormat(path))).toMatchObject({ code: "UnusableFile" });
  });

  it("refuses a directory", async () => {
    await mkdir(path);

    expect(await failureOf(detectFormat(path))).toMatchObject({ code: "UnusableFile" });
  });
});
