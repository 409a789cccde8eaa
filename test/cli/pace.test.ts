import { describe, expect, it } from "vitest";
import { Pace } from "../../src/cli/pace.ts";
import { MIB } from "../support/mib.ts";

/** A pace that saw this many MiB at these seconds. */
function paceOf(...seen: readonly (readonly [second: number, mebibytes: number])[]): Pace {
  const pace = new Pace();
  for (const [second, mebibytes] of seen) pace.observe(mebibytes * MIB, second * 1000);
  return pace;
}

describe("Pace", () => {
  it("describes the rate and the time that is left", () => {
    expect(paceOf([0, 0], [4, 40]).describe(100 * MIB)).toBe(", 10 MiB/s, 6.0 s left");
  });

  it("describes the rate alone when the total is not known, and at the end", () => {
    const pace = paceOf([0, 0], [4, 40]);

    expect(pace.describe(undefined)).toBe(", 10 MiB/s");
    expect(pace.describe(40 * MIB)).toBe(", 10 MiB/s");
  });

  it("goes by the last ten seconds", () => {
    expect(paceOf([0, 0], [10, 1000], [15, 1005], [20, 1010]).describe(1020 * MIB)).toBe(
      ", 1 MiB/s, 10.0 s left",
    );
  });

  it("counts only the bytes since the start of a resumed copy", () => {
    expect(paceOf([0, 500], [4, 540]).describe(600 * MIB)).toBe(", 10 MiB/s, 6.0 s left");
  });

  it("restarts when the work restarts from byte 0", () => {
    expect(paceOf([0, 0], [4, 400], [5, 0], [9, 40]).describe(100 * MIB)).toBe(
      ", 10 MiB/s, 6.0 s left",
    );
  });

  it.each<[string, Pace]>([
    ["nothing was seen", paceOf()],
    ["it was seen for less than two seconds", paceOf([0, 0], [1, 100])],
    ["nothing moves", paceOf([0, 10], [10, 10], [20, 10])],
  ])("returns an empty text when %s", (_, pace) => {
    expect(pace.describe(100 * MIB)).toBe("");
  });
});
