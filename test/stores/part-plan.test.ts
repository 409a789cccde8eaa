import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { ImportError } from "../../src/domain/import-failure.ts";
import { partBytesFor, planParts, type PlannedPart } from "../../src/stores/part-plan.ts";
import { MIB } from "../support/mib.ts";

const GIB = 1024 ** 3;
const TIB = 1024 ** 4;
const DEFAULT = 16 * MIB;
const LEAST = 5 * MIB;
const MAX_PARTS = 10_000;

interface Summary {
  readonly count: number;
  readonly partBytes: number;
  readonly lastBytes: number;
}

function summaryOf(parts: readonly PlannedPart[]): Summary {
  const [first, last] = [parts[0], parts.at(-1)];
  if (first === undefined || last === undefined) throw new Error("The plan is empty");
  return { count: parts.length, partBytes: first.lengthBytes, lastBytes: last.lengthBytes };
}

describe("planParts()", () => {
  it.each([
    ["nothing: one empty part", 0, DEFAULT, [1, 0, 0]],
    ["one byte", 1, DEFAULT, [1, 1, 1]],
    ["a byte less than a part", DEFAULT - 1, DEFAULT, [1, DEFAULT - 1, DEFAULT - 1]],
    ["a part", DEFAULT, DEFAULT, [1, DEFAULT, DEFAULT]],
    ["a byte more than a part", DEFAULT + 1, DEFAULT, [2, DEFAULT, 1]],
    ["three parts exactly", 3 * DEFAULT, DEFAULT, [3, DEFAULT, DEFAULT]],
    ["a byte less than S3's least part", LEAST - 1, LEAST, [1, LEAST - 1, LEAST - 1]],
    ["S3's least part", LEAST, LEAST, [1, LEAST, LEAST]],
    ["a byte more than S3's least part", LEAST + 1, LEAST, [2, LEAST, 1]],
    ["10,000 parts less a byte", MAX_PARTS * DEFAULT - 1, DEFAULT, [10_000, DEFAULT, DEFAULT - 1]],
    ["10,000 parts", MAX_PARTS * DEFAULT, DEFAULT, [10_000, DEFAULT, DEFAULT]],
    // 17 MiB: 9,411 of them are 159,987 MiB, 13 MiB less than 10,000 of 16 MiB.
    ["10,000 parts and a byte", MAX_PARTS * DEFAULT + 1, DEFAULT, [9412, 17 * MIB, 13 * MIB + 1]],
    ["1 TiB", TIB, DEFAULT, [9987, 105 * MIB, 46 * MIB]],
    ["a minimum that is not a number of MiB", 20 * MIB, 8 * MIB + 1, [3, 9 * MIB, 2 * MIB]],
    ["S3's largest object", 5 * TIB, DEFAULT, [9987, 525 * MIB, 230 * MIB]],
  ] as const)("cuts %s", (_, sizeBytes, minimumBytes, [count, partBytes, lastBytes]) => {
    expect(summaryOf(planParts(sizeBytes, minimumBytes))).toEqual({ count, partBytes, lastBytes });
  });

  it("refuses an object that is too large for S3", () => {
    expect(() => planParts(5 * TIB + 1, DEFAULT)).toThrow(
      new ImportError(
        "NoSpace",
        "Cannot send an object of 5497558138881 bytes: S3 accepts 5 TiB or less",
      ),
    );
  });

  it("refuses parts that are too small for S3", () => {
    expect(() => planParts(GIB, LEAST - 1)).toThrow(
      new RangeError("Cannot send parts of 5242879 bytes: S3 accepts 5 MiB or more"),
    );
  });

  it("covers every byte once and in order, in parts that S3 accepts", () => {
    const sizes = fc.oneof(fc.integer({ min: 0, max: 5 * TIB }), fc.nat({ max: GIB }));
    const minimums = fc.integer({ min: LEAST, max: 64 * MIB });
    fc.assert(
      fc.property(sizes, minimums, (sizeBytes, minimumBytes) => {
        const parts = planParts(sizeBytes, minimumBytes);

        const ends = parts.map(({ offset, lengthBytes }) => offset + lengthBytes);
        expect(parts.map(({ number }) => number)).toEqual(parts.map((_, index) => index + 1));
        expect(parts.map(({ offset }) => offset)).toEqual([0, ...ends.slice(0, -1)]);
        expect(ends.at(-1)).toBe(sizeBytes);
        expect(parts.length).toBeLessThanOrEqual(MAX_PARTS);
        expect(parts.slice(0, -1).every(({ lengthBytes }) => lengthBytes >= LEAST)).toBe(true);
      }),
      // A plan may have 10,000 parts.
      { numRuns: 50 },
    );
  });
});

describe("partBytesFor()", () => {
  it("leaves room for the largest object when the size is unknown", () => {
    expect(partBytesFor(undefined, DEFAULT)).toBe(525 * MIB);
  });

  it("cuts by the minimum as long as the parts suffice", () => {
    expect(partBytesFor(GIB, DEFAULT)).toBe(DEFAULT);
  });
});
