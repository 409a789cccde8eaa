import { describe, expect, it } from "vitest";
import { patched } from "../support/crafted-images.ts";
import { failuresOf, judged } from "../support/judged.ts";

const NOTHING = Buffer.alloc(64 * 1024);

describe("foreign formats", () => {
  it.each([
    ["parallels", "WithoutFreeSpace", "it is a Parallels disk; convert it to qcow2"],
    ["parallels", "WithouFreSpacExt", "it is a Parallels disk; convert it to qcow2"],
    ["cowd", "COWD", "it is a COWD disk of VMware ESX; convert it to qcow2"],
    ["bochs", "Bochs Virtual HD Image", "it is a Bochs disk; convert it to qcow2"],
    ["cloop", "#!/bin/sh\n#V2.0 Format\nmodprobe cloop", "it is a cloop disk; convert it to qcow2"],
    ["gzip", "\x1f\x8b\x08", "it is gzip data; decompress it first"],
    ["zstd", "\x28\xb5\x2f\xfd", "it is zstd data; decompress it first"],
    ["xz", "\xfd7zXZ\0", "it is xz data; decompress it first"],
    ["bzip2", "BZh91AY&SY", "it is bzip2 data; decompress it first"],
    ["bzip2", "BZh9\x17rE8P\x90", "it is bzip2 data; decompress it first"],
    ["lz4", "\x04\x22\x4d\x18", "it is lz4 data; decompress it first"],
    ["zip", "PK\x03\x04", "it is a zip archive; unpack it first"],
    ["zip", "PK\x05\x06", "it is a zip archive; unpack it first"],
    ["7z", "7z\xbc\xaf\x27\x1c", "it is a 7z archive; unpack it first"],
    ["rar", "Rar!\x1a\x07", "it is a rar archive; unpack it first"],
  ])("are told as %s by %j", async (format, mark, importable) => {
    const verdict = await judged(patched(NOTHING, [0, mark]));

    expect(verdict).toMatchObject({ format, virtualSizeBytes: null, safe: false });
    expect(failuresOf(verdict)).toEqual({ importable });
  });

  it("are told as dmg by a mark at the end", async () => {
    const bytes = patched(NOTHING, [NOTHING.length - 512, "koly\0\0\0\x04"]);

    expect(await judged(bytes)).toMatchObject({ format: "dmg", safe: false });
  });

  it("are not seen in bytes that only begin alike", async () => {
    for (const mark of ["BZh9 is a text", "\x1f\x8b", "PK", "With", "Bochs"]) {
      expect(await judged(patched(NOTHING, [0, mark]))).toMatchObject({
        format: "raw",
        safe: true,
      });
    }
  });
});
