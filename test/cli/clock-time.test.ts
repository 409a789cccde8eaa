import { describe, expect, it } from "vitest";
import { clockTime } from "../../src/cli/clock-time.ts";

// A time in the time zone of this machine.
const NOW = new Date(2026, 10, 30, 5, 40, 0);

function iso(...[day, hours, minutes, seconds]: [number, number, number, number]): string {
  return new Date(2026, 10, day, hours, minutes, seconds).toISOString();
}

describe("clockTime()", () => {
  it("returns the time of today, and the date of another day", () => {
    expect(clockTime(iso(30, 5, 38, 30), NOW.getTime())).toBe("05:38:30");
    expect(clockTime(iso(29, 5, 38, 30), NOW.getTime())).toBe("2026-11-29 05:38:30");
  });
});
