import { describe, expect, it } from "vitest";
import { be, craftedLuks, patched } from "../support/crafted-images.ts";
import { failuresOf, judged } from "../support/judged.ts";

const luks1 = craftedLuks(1);
const luks2 = craftedLuks(2);

describe("luks", () => {
  it("is accepted in version 1, and as large as its payload", async () => {
    expect(await judged(luks1)).toMatchObject({
      format: "luks",
      virtualSizeBytes: 64 * 1024,
      safe: true,
    });
  });

  it("is accepted in version 2, unseen, only where the policy says so", async () => {
    expect(failuresOf(await judged(luks2))).toEqual({
      encryption:
        "it is encrypted by luks2, which is not allowed here (`formats.allowed_encryption`)",
    });
    expect(await judged(luks2, { allowedEncryption: ["luks2"] })).toMatchObject({
      format: "luks",
      virtualSizeBytes: null,
      safe: true,
    });
  });

  it("is refused in version 1 where the policy says so", async () => {
    expect((await judged(luks1, { allowedEncryption: [] })).safe).toBe(false);
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
