import { describe, expect, it } from "vitest";
import { bytes, durationMs, quotaBytes, quotaCount } from "../../src/config/quantities.ts";

describe("bytes", () => {
  it.each([
    ["64MiB", 64 * 1024 ** 2],
    ["1.5 KiB", 1536],
    ["7", 7],
    [7, 7],
  ])("reads %j as %d bytes", (written, expected) => {
    expect(bytes.parse(written)).toBe(expected);
  });

  it.each(["fast", "", "-1", "0", 0, -1, 1.5, 2 ** 53])("refuses %j", (written) => {
    expect(bytes.safeParse(written).error?.issues).toMatchObject([
      { message: `must be a size such as 64MiB, not "${String(written)}"` },
    ]);
  });
});

describe("quotaBytes", () => {
  it.each([
    ["500GiB", 500 * 1024 ** 3],
    [0, 0],
    ["unlimited", Infinity],
  ])("reads %j as %d bytes", (written, expected) => {
    expect(quotaBytes.parse(written)).toBe(expected);
  });

  it.each(["none", "", -1, 1.5, 2 ** 53])("refuses %j", (written) => {
    expect(quotaBytes.safeParse(written).error?.issues).toMatchObject([
      { message: `must be a size such as 500GiB, or unlimited, not "${String(written)}"` },
    ]);
  });
});

describe("quotaCount", () => {
  it.each([
    [100, 100],
    [0, 0],
    ["unlimited", Infinity],
  ])("reads %j as %d images", (written, expected) => {
    expect(quotaCount.parse(written)).toBe(expected);
  });

  it.each(["100", "5GiB", -1, 1.5])("refuses %j", (written) => {
    expect(quotaCount.safeParse(written).error?.issues).toMatchObject([
      { message: `must be a number such as 100, or unlimited, not "${String(written)}"` },
    ]);
  });
});

describe("durationMs", () => {
  it.each([
    ["15s", 15_000],
    ["2d", 2 * 86_400_000],
  ])("reads %j as %d ms", (written, expected) => {
    expect(durationMs.parse(written)).toBe(expected);
  });

  it.each(["soon", "", "0s", "-1s"])("refuses %j", (written) => {
    expect(durationMs.safeParse(written).error?.issues).toMatchObject([
      { message: `must be a duration such as 15s, not "${written}"` },
    ]);
  });
});
