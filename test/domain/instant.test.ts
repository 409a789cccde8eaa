import { afterEach, describe, expect, it, vi } from "vitest";
import { formatAge, formatInstant, parseInstant } from "../../src/domain/instant.ts";

const NOW = new Date("2026-11-30T06:00:00Z");

afterEach(() => {
  vi.unstubAllEnvs();
});

describe("parseInstant()", () => {
  it.each([
    ["2026-11-30T06:00Z", "2026-11-30T06:00:00.000Z"],
    ["2026-11-30 06:00:01.5+05:30", "2026-11-30T00:30:01.500Z"],
    ["2026-11-30", "2026-11-29T18:30:00.000Z"],
    ["2026-11-30T06:00", "2026-11-30T00:30:00.000Z"],
    ["2028-02-29", "2028-02-28T18:30:00.000Z"],
    ["7d", "2026-11-23T06:00:00.000Z"],
    ["90m", "2026-11-30T04:30:00.000Z"],
  ])("reads %s", (text, iso) => {
    vi.stubEnv("TZ", "Asia/Kolkata");

    expect(parseInstant(text, NOW)?.toISOString()).toBe(iso);
  });

  it.each([
    ...["", "yesterday", "2026", "2026-13-01", "2026-11-30T25:00", "30.11.2026", "7"],
    ...["2026-02-29", "2026-02-31T12:00Z", "2026-04-31 12:00:00+01:00", "2026-11-00"],
  ])('does not read "%s"', (text) => {
    expect(parseInstant(text, NOW)).toBeUndefined();
  });
});

describe("formatAge()", () => {
  it.each([
    ["2026-11-30T05:59:59.500Z", "0 s"],
    ["2026-11-30T05:59:01Z", "59 s"],
    ["2026-11-30T05:59:00Z", "1 m"],
    ["2026-11-30T03:00:01Z", "2 h"],
    ["2026-11-20T06:00:00Z", "10 d"],
    ["2024-11-30T06:00:00Z", "2 y"],
    ["2026-11-30T06:00:09Z", "0 s"],
  ])("of %s is %s", (since, age) => {
    expect(formatAge(new Date(since), NOW)).toBe(age);
  });
});

describe("formatInstant()", () => {
  it("shows the time of this machine, and how long ago it was", () => {
    vi.stubEnv("TZ", "Asia/Kolkata");

    expect(formatInstant(new Date("2026-11-30T03:00:00Z"), NOW)).toBe(
      "2026-11-30 08:30:00 (3 h ago)",
    );
  });

  it("shows how long it is until then", () => {
    vi.stubEnv("TZ", "UTC");

    expect(formatInstant(new Date("2026-12-02T06:00:00Z"), NOW)).toBe(
      "2026-12-02 06:00:00 (in 2 d)",
    );
  });
});
