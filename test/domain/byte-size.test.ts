import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { formatBytes, formatExactBytes, parseBytes } from "../../src/domain/byte-size.ts";
import { MIB } from "../support/mib.ts";

const KIB = 1024;

describe("formatBytes()", () => {
  it.each([
    [0, "0 B"],
    [1, "1 B"],
    [1023, "1023 B"],
    [700.4, "700 B"],
    [KIB, "1 KiB"],
    [1536, "1.5 KiB"],
    [MIB - 1, "1 MiB"],
    [64 * MIB, "64 MiB"],
    [3.5 * 1024 ** 3, "3.5 GiB"],
    [1024 ** 4, "1 TiB"],
    [1024 ** 5, "1 PiB"],
    [5000 * 1024 ** 5, "5000 PiB"],
  ])("writes %d as %s", (sizeBytes, text) => {
    expect(formatBytes(sizeBytes)).toBe(text);
  });
});

describe("parseBytes()", () => {
  it.each([
    ["0", 0],
    ["4096", 4096],
    ["7B", 7],
    ["64KiB", 64 * KIB],
    ["64 MiB", 64 * MIB],
    ["1.5GiB", 1.5 * 1024 ** 3],
    ["  2 TiB  ", 2 * 1024 ** 4],
    ["1.0001KiB", 1024],
  ])("reads %j as %d bytes", (text, bytes) => {
    expect(parseBytes(text)).toBe(bytes);
  });

  it.each([
    ["nothing", ""],
    ["a word", "big"],
    ["a negative size", "-1"],
    ["a unit alone", "MiB"],
    ["a unit in the wrong case", "64mib"],
    ["a unit of a thousand", "64MB"],
    ["two numbers", "1 2"],
    ["an exponent", "1e6"],
    ["a comma", "1,5GiB"],
    ["more than a number can count", "9007199254740993"],
    ["more than a number can count, with a unit", "8192.5TiB"],
  ])("refuses %s", (_, text) => {
    expect(parseBytes(text)).toBeUndefined();
  });

  it("reads any whole number of any unit", () => {
    const units = fc.constantFrom(["", 1], ["B", 1], ["KiB", KIB], ["MiB", MIB] as const);

    fc.assert(
      fc.property(fc.nat(), units, (count, [unit, factor]) => {
        expect(parseBytes(`${count}${unit}`)).toBe(count * factor);
      }),
    );
  });
});

describe("formatExactBytes()", () => {
  it.each([
    [0, "0 bytes"],
    [1023, "1023 bytes"],
    [1024, "1 KiB (1024 bytes)"],
    [1_610_612_737, "1.5 GiB (1610612737 bytes)"],
  ])("formats %d", (sizeBytes, text) => {
    expect(formatExactBytes(sizeBytes)).toBe(text);
  });
});
