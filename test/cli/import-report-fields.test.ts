import { describe, expect, it } from "vitest";
import { reportFields } from "../../src/cli/import-report-fields.ts";
import type { ImportReport } from "../../src/client/import-report.ts";
import { widthOf } from "../../src/cli/wrapped.ts";
import { NOW_MS, STATES } from "../support/shown-states.ts";

const WIDTHS = [40, 80, 200];

function reportOf(live: ImportReport["live"]): ImportReport {
  return {
    image_id: "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b",
    status: "importing",
    state: "running",
    stores: [],
    task: null,
    run_id: "01a22af8-724d-73bf-8ad0-b6e0054738e3",
    live,
    message: null,
    failure: null,
  };
}

const linkOf = (_imageId: string, runId: string): string => `http://localhost:8233/runs/${runId}`;

describe("reportFields()", () => {
  describe.each(WIDTHS)("on %d columns", (width) => {
    it.each(Object.entries(STATES))("shows an import that is %s", (_, status) => {
      const text = reportFields(reportOf(status), { width, nowMs: NOW_MS, linkOf });

      expect(`\n${text}`).toMatchSnapshot();
    });
  });

  it("wraps nothing where there is no terminal", () => {
    const live = STATES["waiting for a retry"] ?? null;
    const page = { width: undefined, nowMs: NOW_MS, linkOf };

    const lines = reportFields(reportOf(live), page).split("\n");

    expect(Math.max(...lines.map(widthOf))).toBeGreaterThan(100);
    expect(lines).toHaveLength(13);
  });
});
