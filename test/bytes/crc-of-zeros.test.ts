import { crc32 } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { appendZeros } from "../../src/bytes/crc-of-zeros.ts";

describe("appendZeros()", () => {
  it("gives the crc32 of any bytes with any run of zeros after them", () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.nat({ max: 100_000 }), (bytes, lengthBytes) => {
        const crc = appendZeros(crc32(bytes), lengthBytes);

        expect(crc).toBe(crc32(Buffer.alloc(lengthBytes), crc32(bytes)));
      }),
    );
  });

  it("gives it for runs that follow one another", () => {
    const mebibyte = 1024 * 1024;
    let crc = crc32("something");

    for (let run = 0; run < 3; run += 1) crc = appendZeros(crc, mebibyte);

    expect(crc).toBe(crc32(Buffer.alloc(3 * mebibyte), crc32("something")));
  });

  it("gives it for a run beyond 4 GiB", () => {
    const half = appendZeros(crc32("something"), 3 * 2 ** 30);

    expect(appendZeros(crc32("something"), 6 * 2 ** 30)).toBe(appendZeros(half, 3 * 2 ** 30));
  });
});
