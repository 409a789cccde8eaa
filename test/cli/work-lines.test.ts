import { describe, expect, it } from "vitest";
import { workOf } from "../../src/cli/import-work.ts";
import { COLOURED, PLAIN } from "../../src/cli/paint.ts";
import { workLines } from "../../src/cli/work-lines.ts";
import { widthOf } from "../../src/cli/wrapped.ts";
import { importIn, NOW_MS, STATES } from "../support/shown-states.ts";

const WIDTHS = [40, 60, 80, 200];

describe("workLines()", () => {
  describe.each(WIDTHS)("on %d columns", (width) => {
    it.each(Object.entries(STATES))("shows work that is %s", (_, status) => {
      const lines = workLines(workOf(status), { width, nowMs: NOW_MS, paint: PLAIN });

      expect(`\n${lines.join("\n")}\n`).toMatchSnapshot();
      expect(Math.max(...lines.map(widthOf))).toBeLessThanOrEqual(width);
    });
  });

  it.each(WIDTHS)("cuts nothing from a reason on %d columns", (width) => {
    const status = STATES["waiting for a retry"] ?? importIn({});

    const lines = workLines(workOf(status), { width, nowMs: NOW_MS, paint: PLAIN });

    const text = lines.map((line) => line.trim()).join(" ");
    expect(text).toContain(status.stores["archive"]?.last_failure);
  });

  it("keeps a word in one piece that is wider than the terminal", () => {
    const reason = `https://example.org/${"x".repeat(60)}`;
    const state = { kind: "retrying", attempt: 2, nextAttemptAt: undefined, reason } as const;

    const lines = workLines([{ label: "fetching", state }], {
      width: 40,
      nowMs: NOW_MS,
      paint: PLAIN,
    });

    expect(lines.map((line) => line.trim())).toContain(reason);
  });

  it("counts the columns of wide characters", () => {
    const state = {
      kind: "moving",
      doneBytes: 1,
      totalBytes: 2,
      bytesPerSecond: undefined,
    } as const;

    const lines = workLines(
      [
        { label: "店舗", state },
        { label: "fast", state },
      ],
      { width: 80, nowMs: NOW_MS, paint: PLAIN },
    );

    expect(lines.map(widthOf)).toEqual([80, 80]);
  });

  it("colours ends, and what does not move", () => {
    const page = { width: 80, nowMs: NOW_MS, paint: COLOURED };
    const colours = Object.entries(STATES).map(([name, status]) => [
      name,
      workLines(workOf(status), page).map((line) => /^\u001B\[(\d+)m/.exec(line)?.[1]),
    ]);

    expect(Object.fromEntries(colours)).toEqual({
      copying: [undefined, undefined, undefined],
      "waiting for a retry": ["33", "33", "33"],
      paused: ["33"],
      "dropped, failed and stored": ["32", "31", "31", "31", "32"],
      fetching: [undefined, undefined],
      "fetching without a total": [undefined],
    });
  });
});
