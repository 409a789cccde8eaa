import { describe, expect, it } from "vitest";
import { Pace, remainingMs } from "../../src/domain/pace.ts";
import { MIB } from "../support/mib.ts";

/** A pace that saw this many MiB at these seconds. */
function paceOf(...seen: readonly (readonly [second: number, mebibytes: number])[]): Pace {
  const pace = new Pace();
  for (const [second, mebibytes] of seen) pace.observe(mebibytes * MIB, second * 1000);
  return pace;
}

describe("Pace", () => {
  it("has the rate since the first sample", () => {
    expect(paceOf([0, 0], [4, 40]).bytesPerSecond).toBe(10 * MIB);
  });

  it("measures the last ten seconds", () => {
    expect(paceOf([0, 0], [10, 1000], [15, 1005], [20, 1010]).bytesPerSecond).toBe(MIB);
  });

  it("counts only the bytes since the start of a resumed copy", () => {
    expect(paceOf([0, 500], [4, 540]).bytesPerSecond).toBe(10 * MIB);
  });

  it("restarts when the work restarts from byte 0", () => {
    expect(paceOf([0, 0], [4, 400], [5, 0], [9, 40]).bytesPerSecond).toBe(10 * MIB);
  });

  it("is 0 when nothing moves", () => {
    expect(paceOf([0, 10], [10, 10], [20, 10]).bytesPerSecond).toBe(0);
  });

  it.each<[string, Pace]>([
    ["nothing was seen", paceOf()],
    ["it was seen for less than two seconds", paceOf([0, 0], [1, 100])],
  ])("has no rate when %s", (_, pace) => {
    expect(pace.bytesPerSecond).toBeUndefined();
  });
});

describe("remainingMs()", () => {
  it("returns the time that the rest takes", () => {
    expect(remainingMs(40, 100, 10)).toBe(6000);
  });

  it.each<[string, number, number | undefined, number | undefined]>([
    ["the total is unknown", 40, undefined, 10],
    ["the rate is unknown", 40, 100, undefined],
    ["nothing moves", 40, 100, 0],
    ["nothing is left", 100, 100, 10],
  ])("returns undefined when %s", (_, done, total, rate) => {
    expect(remainingMs(done, total, rate)).toBeUndefined();
  });
});
