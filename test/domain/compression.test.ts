import { describe, expect, it } from "vitest";
import { nameWhenDecompressed, recogniseCompression } from "../../src/domain/compression.ts";

describe("recogniseCompression()", () => {
  it.each([
    ["1f8b0800", "gzip"],
    ["28b52ffd", "zstd"],
    ["502a4d18", "zstd"],
    ["fd377a585a00", "xz"],
    ["504b0304", "zip"],
    // Empty and split archives; bzip2; lz4; a gzip of no known method; the mark cut off.
    ["504b0506", undefined],
    ["504b0708", undefined],
    ["425a6839", undefined],
    ["04224d18", undefined],
    ["1f8b0700", undefined],
    ["fd377a585a", undefined],
    ["", undefined],
  ])("recognises %s as %s", (hex, compression) => {
    expect(recogniseCompression(Buffer.from(hex, "hex"))).toBe(compression);
  });

  it("looks only at the start", () => {
    expect(recogniseCompression(Buffer.from("001f8b08", "hex"))).toBeUndefined();
  });
});

describe("nameWhenDecompressed()", () => {
  it.each([
    ["disk.qcow2.gz", "disk.qcow2"],
    ["disk.raw.ZST", "disk.raw"],
    ["disk.xz", "disk"],
    ["disk.vmdk.zip", "disk.vmdk"],
    ["disk.gz.qcow2", undefined],
    ["disk.bz2", undefined],
    ["gz", undefined],
  ])("makes of %s the name %s", (name, expected) => {
    expect(nameWhenDecompressed(name)).toBe(expected);
  });
});
