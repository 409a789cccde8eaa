import { describe, expect, it } from "vitest";
import { formatDuration, parseDurationMs } from "../../src/domain/duration.ts";

describe("parseDurationMs()", () => {
  it.each([
    ["0s", 0],
    ["500ms", 500],
    ["15s", 15_000],
    ["1.5s", 1500],
    ["5m", 300_000],
    ["24h", 86_400_000],
    ["2d", 172_800_000],
    ["  3 m  ", 180_000],
    ["0.4ms", 0],
  ])("reads %j as %d ms", (text, durationMs) => {
    expect(parseDurationMs(text)).toBe(durationMs);
  });

  it.each([
    ["nothing", ""],
    ["a number without a unit", "15"],
    ["a unit alone", "s"],
    ["a negative time", "-1s"],
    ["a word", "soon"],
    ["a unit that we do not know", "3w"],
    ["a unit in the wrong case", "3H"],
    ["two times", "1h 30m"],
    ["an exponent", "1e3s"],
    ["more than a number can count", "999999999999d"],
  ])("refuses %s", (_, text) => {
    expect(parseDurationMs(text)).toBeUndefined();
  });
});

describe("formatDuration()", () => {
  it.each([
    [0, "0 ms"],
    [340.4, "340 ms"],
    [999.4, "999 ms"],
    [999.6, "1.0 s"],
    [4200, "4.2 s"],
    [9_940, "9.9 s"],
    [9_960, "10 s"],
    [41_300, "41 s"],
    [59_400, "59 s"],
    [59_960, "1 m 0 s"],
    [60_000, "1 m 0 s"],
    [200_000, "3 m 20 s"],
    [119_600, "2 m 0 s"],
    [3_599_600, "1 h 0 m"],
    [7_500_000, "2 h 5 m"],
    [86_399_000, "1 d 0 h"],
    [273_600_000, "3 d 4 h"],
  ])("writes %d ms as %s", (durationMs, text) => {
    expect(formatDuration(durationMs)).toBe(text);
  });
});
