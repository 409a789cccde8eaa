import { describe, expect, it } from "vitest";
import { timesOf } from "../../src/cli/time-condition.ts";

describe("timesOf()", () => {
  it("reads a field, an operator and a time, to the second, after those before", () => {
    const first = timesOf("created_at:gte:2026-01-31T10:20:30.999Z");
    expect(timesOf("updated_at:neq:2026-02-01", first)).toEqual([
      { field: "created_at", op: "gte", at: new Date("2026-01-31T10:20:30Z") },
      { field: "updated_at", op: "neq", at: new Date("2026-02-01T00:00:00Z") },
    ]);
  });

  it.each([
    "",
    "created_at",
    "created_at:gt",
    "created_at:gt:",
    "created_at:after:1h",
    "size:gt:1h",
  ])("refuses %j", (text) => {
    expect(() => timesOf(text)).toThrow("It must be");
  });

  it("refuses a time that is none", () => {
    expect(() => timesOf("created_at:gt:soon")).toThrow("It must be a time");
  });
});
