import { describe, expect, it } from "vitest";
import { be, craftedLuks, craftedLuks2, patched } from "../support/crafted-images.ts";
import { failuresOf, judged } from "../support/judged.ts";

const luks1 = craftedLuks(1);
const luks2 = craftedLuks(2);

describe("luks", () => {
  it.each([
    ["luks1", luks1, 64 * 1024],
    ["luks2", luks2, 64 * 1024],
    ["luks2", craftedLuks2({ segment: { sector_size: 4096 } }), 64 * 1024],
    ["luks2", craftedLuks2({ segment: { size: "4096" } }), 4096],
    ["luks2", craftedLuks2({ segment: { integrity: {} } }), null],
    // One copy of the header is damaged.
    ["luks2", patched(luks2, [4096, "x"]), 64 * 1024],
    ["luks2", patched(luks2, [8, be(8, 5)]), 64 * 1024],
    ["luks2", patched(luks2, [16_384 + 4096, "x"]), 64 * 1024],
  ] as const)("is accepted and reported as %s", async (kind, image, virtualSizeBytes) => {
    expect(await judged(image)).toMatchObject({
      format: "luks",
      virtualSizeBytes,
      safe: true,
      checks: { encryption: `it is encrypted by ${kind}` },
      tolerated: ["encryption"],
    });
  });

  it.each([
    ["luks1", luks1],
    ["luks2", luks2],
  ] as const)("is refused as %s when the policy does not allow it", async (kind, image) => {
    const { safe, checks, hints } = await judged(image, { allowedEncryption: ["qcow2_luks"] });

    expect({ safe, reason: checks["encryption"], hint: hints["encryption"] }).toEqual({
      safe: false,
      reason: `it is encrypted by ${kind} (\`formats.allowed_encryption\`)`,
      hint: `Decrypt it, or encrypt it in a way that is allowed here; or add "${kind}" to \`formats.allowed_encryption\` in the worker's configuration.`,
    });
  });

  it.each([
    ["endless iterations", luks1, [164, be(4, 12_000_001)], "iterations", "requires 12000001"],
    ["endless iterations of a key", luks1, [212, be(4, 2 ** 32 - 1)], "iterations", "4294967295"],
    ["version 3", luks1, [6, be(2, 3)], "version", "of version 3"],
  ] as const)("is refused with %s", async (_, image, change, check, reason) => {
    expect(failuresOf(await judged(patched(image, change)))).toHaveProperty(
      check,
      expect.stringContaining(reason),
    );
  });

  it.each([
    ["a luks1 payload after its end", patched(luks1, [104, be(4, 257)]), "begins at byte 131584"],
    ["a luks1 payload at its end", patched(luks1, [104, be(4, 256)]), "begins at byte 131072"],
    ["a luks1 key slot after its end", patched(luks1, [248, be(4, 250)]), "ends at byte 134400"],
    ["a part of a luks1 sector", luks1.subarray(0, -1), "ends inside one at byte 131071"],
    ["a detached luks1 header", patched(luks1, [104, be(4, 0)]), "detached luks1 header"],
    ["no luks2 data", luks2.subarray(0, 65_536), "the file ends at byte 65536"],
    ["no luks2 key slot", luks2.subarray(0, 40_000), "luks2 key slot ends at byte 49152"],
    ["one luks2 header", luks2.subarray(0, 16_384), "ends at byte 49152"],
    ["a part of a luks2 sector", luks2.subarray(0, -1), "ends inside one at byte 131071"],
    [
      "a part of a luks2 sector of 4 KiB",
      craftedLuks2({ segment: { sector_size: 4096 } }).subarray(0, -512),
      "ends inside one at byte 130560",
    ],
    [
      "a luks2 segment after its end",
      craftedLuks2({ segment: { size: "65537" } }),
      "segment ends at byte 131073, but the file ends at byte 131072",
    ],
    [
      "a detached luks2 header",
      craftedLuks2({ segment: { offset: "0" } }),
      "detached luks2 header",
    ],
  ])("is refused with %s", async (_, image, reason) => {
    const { safe, checks } = await judged(image);

    expect({ safe, complete: checks["complete"] }).toEqual({
      safe: false,
      complete: expect.stringContaining(reason) as string,
    });
  });

  it.each([
    ["two damaged headers", patched(luks2, [4096, "x"], [16_384 + 4096, "x"]), "checksums of both"],
    ["a checksum of an unknown kind", patched(luks2, [72, "md5\0"], [16_456, "md5\0"]), "both"],
    [
      "half a header",
      luks2.subarray(0, 10_000),
      "is cut off: it ends at byte 16384, but the file ends at byte 10000",
    ],
    ["JSON that cannot be read", craftedLuks2({ json: "{" }), "cannot be read"],
    ["deep JSON", craftedLuks2({ json: "[".repeat(12_000) }), "cannot be read"],
    ["no segments", craftedLuks2({ json: '{"keyslots":{},"digests":{}}' }), 'at "segments"'],
    ["a number as an offset", craftedLuks2({ segment: { offset: 65_536 } }), "segments.0.offset"],
    ["a sector of 1 byte", craftedLuks2({ segment: { sector_size: 1 } }), "segments.0.sector_size"],
  ])("is refused as luks2 with %s", async (_, image, reason) => {
    const { safe, checks } = await judged(image);

    expect({ safe, header: checks["header"] }).toEqual({
      safe: false,
      header: expect.stringContaining(reason) as string,
    });
  });

  it("is refused as luks2 with endless iterations", async () => {
    const image = craftedLuks2({ kdf: { iterations: 12_000_001 } });

    expect(failuresOf(await judged(image))).toHaveProperty(
      "iterations",
      "its luks header requires 12000001 iterations, more than the allowed 12000000",
    );
  });
});
