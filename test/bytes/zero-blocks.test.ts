import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ZeroBlocks } from "../../src/bytes/zero-blocks.ts";

describe("ZeroBlocks", () => {
  it("knows just the blocks that were added, also after it was written and read", () => {
    fc.assert(
      fc.property(fc.uniqueArray(fc.nat({ max: 5_000 })), (blocks) => {
        const zeroBlocks = new ZeroBlocks();
        for (const block of blocks) zeroBlocks.add(block);

        const read = new ZeroBlocks(zeroBlocks.toString());

        for (const each of [zeroBlocks, read]) {
          expect(
            Array.from({ length: 5_010 }, (_, block) => block).filter((block) => each.has(block)),
          ).toEqual(blocks.toSorted((one, other) => one - other));
        }
      }),
      { numRuns: 30 },
    );
  });

  it("is an empty text when no block is zero", () => {
    expect(new ZeroBlocks().toString()).toBe("");
  });

  it("takes 128 KiB for a TiB, and a third more as text", () => {
    const zeroBlocks = new ZeroBlocks();
    for (let block = 0; block < 1024 * 1024; block += 1) zeroBlocks.add(block);

    expect(zeroBlocks.toString()).toHaveLength(Math.ceil((128 * 1024) / 3) * 4);
  });
});
