import { crc32 } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { appendZeros, factorOfLength } from "../../src/bytes/crc-of-zeros.ts";

describe("appendZeros()", () => {
  it("gives the crc32 of any bytes with any run of zeros after them", () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.nat({ max: 100_000 }), (bytes, lengthBytes) => {
        const zeros = Buffer.alloc(lengthBytes);

        const crc = appendZeros(crc32(bytes), crc32(zeros), factorOfLength(lengthBytes));

        expect(crc).toBe(crc32(zeros, crc32(bytes)));
      }),
    );
  });

  it("gives it for runs that follow one another", () => {
    const zeros = Buffer.alloc(1024 * 1024);
    const factor = factorOfLength(zeros.length);
    let crc = crc32("something");

    for (let run = 0; run < 3; run += 1) crc = appendZeros(crc, crc32(zeros), factor);

    expect(crc).toBe(crc32(Buffer.alloc(3 * zeros.length), crc32("something")));
  });
});
