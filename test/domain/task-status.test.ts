import { describe, expect, it } from "vitest";
import {
  nextTaskStatus,
  TASK_STATUSES,
  taskStatusesBefore,
  type TaskStatus,
} from "../../src/domain/task-status.ts";

// Written down a second time, on purpose: this table is the specification. A row is the status
// before.
const LEGAL: Readonly<Record<TaskStatus, readonly TaskStatus[]>> = {
  pending: ["processing", "failure"],
  processing: ["success", "failure"],
  success: [],
  failure: [],
};

const EVERY_PAIR = TASK_STATUSES.flatMap((from) => TASK_STATUSES.map((to) => ({ from, to })));
const LEGAL_PAIRS = EVERY_PAIR.filter(({ from, to }) => LEGAL[from].includes(to));
const ILLEGAL_PAIRS = EVERY_PAIR.filter(({ from, to }) => !LEGAL[from].includes(to));

describe("nextTaskStatus()", () => {
  it.each(LEGAL_PAIRS)("lets a task go from $from to $to", ({ from, to }) => {
    expect(nextTaskStatus(from, to)).toBe(to);
  });

  it.each(ILLEGAL_PAIRS)("refuses the way from $from to $to, naming both", ({ from, to }) => {
    expect(() => nextTaskStatus(from, to)).toThrow(
      expect.objectContaining({
        code: "IllegalTransition",
        message: `Cannot change a task from "${from}" to "${to}"`,
      }),
    );
  });
});

describe("taskStatusesBefore()", () => {
  it.each<{ to: TaskStatus; before: TaskStatus[] }>([
    { to: "pending", before: [] },
    { to: "processing", before: ["pending"] },
    { to: "success", before: ["processing"] },
    { to: "failure", before: ["pending", "processing"] },
  ])("names all that may become $to", ({ to, before }) => {
    expect(taskStatusesBefore(to)).toEqual(before);
  });
});
