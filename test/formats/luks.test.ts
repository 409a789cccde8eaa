import { describe, expect, it } from "vitest";
import { be, craftedLuks, patched } from "../support/crafted-images.ts";
import { failuresOf, judged } from "../support/judged.ts";

const luks1 = craftedLuks(1);
const luks2 = craftedLuks(2);

describe("luks", () => {
  it.each([
    ["luks1", luks1, 64 * 1024],
    ["luks2", luks2, null],
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
  ] as const)("is refused as %s where the policy does not name it", async (kind, image) => {
    const { safe, checks, hints } = await judged(image, { allowedEncryption: ["qcow2_luks"] });

    expect({ safe, reason: checks["encryption"], hint: hints["encryption"] }).toEqual({
      safe: false,
      reason: `it is encrypted by ${kind} (\`formats.allowed_encryption\`)`,
      hint: `Decrypt it, or encrypt it in a way that is allowed here; or add "${kind}" to \`formats.allowed_encryption\` in the worker's configuration.`,
    });
  });

  it.each([
    ["endless iterations", luks1, [164, be(4, 12_000_001)], "iterations", "wants 12000001"],
    ["endless iterations of a key", luks1, [212, be(4, 2 ** 32 - 1)], "iterations", "4294967295"],
    ["a payload behind its end", luks1, [104, be(4, 257)], "complete", "payload is cut off"],
    ["a header behind its end", luks2, [8, be(8, 2n ** 63n)], "complete", "header is cut off"],
    ["version 3", luks1, [6, be(2, 3)], "version", "of version 3"],
  ] as const)("is refused with %s", async (_, image, change, check, reason) => {
    expect(failuresOf(await judged(patched(image, change)))).toHaveProperty(
      check,
      expect.stringContaining(reason),
    );
  });
});
