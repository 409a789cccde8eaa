import { describe, expect, it } from "vitest";
import { isLater, type AttemptOrder } from "../../src/domain/attempt-order.ts";

const BASE: AttemptOrder = { run: "one", activity: 7, attempt: 2, scheduledAtMs: 1_000 };

describe("isLater()", () => {
  it.each<readonly [string, Partial<AttemptOrder>]>([
    ["a higher attempt of the same step", { attempt: 3, scheduledAtMs: 2_000 }],
    ["a higher attempt, scheduled in the same millisecond", { attempt: 3 }],
    [
      "a step that was scheduled later in the run",
      { activity: 8, attempt: 1, scheduledAtMs: 2_000 },
    ],
    [
      "the run that came after a reset",
      { run: "two", activity: 5, attempt: 1, scheduledAtMs: 2_000 },
    ],
  ])("sees %s behind the other one, and not the other way round", (_, changes) => {
    const later = { ...BASE, ...changes };

    expect([isLater(later, BASE), isLater(BASE, later)]).toEqual([true, false]);
  });

  it.each<readonly [string, Partial<AttemptOrder>]>([
    ["are the same", {}],
    [
      "disagree in number and clock: the server was replaced by its backup",
      { attempt: 1, scheduledAtMs: 2_000 },
    ],
    ["disagree in number and clock: the clock was set back", { attempt: 3, scheduledAtMs: 500 }],
    [
      "disagree in the number of the step and clock",
      { activity: 8, attempt: 1, scheduledAtMs: 500 },
    ],
    ["were scheduled by two runs in the same millisecond", { run: "two" }],
  ])("takes neither for late of two that %s", (_, changes) => {
    const other = { ...BASE, ...changes };

    expect([isLater(other, BASE), isLater(BASE, other)]).toEqual([false, false]);
  });

  it("takes an attempt of a version without an order for the first of all", () => {
    expect(isLater(null, { run: "", activity: 0, attempt: 0, scheduledAtMs: 0 })).toBe(false);
  });
});
