import { describe, expect, it } from "vitest";
import type { ProgressDisplay } from "../../src/cli/progress-display.ts";
import { ShownImport } from "../../src/cli/shown-import.ts";
import { stateText } from "../../src/cli/work-state.ts";
import type { ImportStatus, StoreProgress } from "../../src/workflow/contract.ts";
import { MIB } from "../support/mib.ts";
import { importIn, NOW_MS, secondsAgo } from "../support/shown-states.ts";

/** The lines that a display gets for these statuses. */
function shown(statuses: readonly ImportStatus[]): string[] {
  const lines: string[] = [];
  const nothing = (): void => undefined;
  const progress: ProgressDisplay = {
    bytes: nothing,
    work: (label, state) => lines.push(`${label}: ${stateText(state, NOW_MS)}`),
    note: (text) => lines.push(text),
    warn: nothing,
    detail: nothing,
    about: nothing,
    part: () => progress,
    follow: () => observer,
    event: nothing,
    stop: nothing,
  };
  const observer = new ShownImport(progress);
  for (const status of statuses) observer.status(status);
  return lines;
}

const slow = { state: "copying", started_at: secondsAgo(44), done_bytes: 79 * MIB } as const;
const stored = { state: "stored", started_at: secondsAgo(44), ended_at: secondsAgo(3) } as const;
const phases = importIn({}).phases;

function stored100(): ImportStatus {
  const [accepting, verifying] = phases;
  return importIn(
    { slow: stored },
    {
      phase: "saving",
      phases: [
        ...(accepting === undefined || verifying === undefined ? [] : [accepting, verifying]),
        { phase: "storing", started_at: secondsAgo(44.8), ended_at: secondsAgo(2.8) },
        { phase: "saving", started_at: secondsAgo(2.8), ended_at: null },
      ],
    },
  );
}

describe("ShownImport", () => {
  it("shows each phase that has ended, and each end of a copy once", () => {
    expect(
      shown([importIn({ slow }), importIn({ slow: stored }), stored100(), stored100()]),
    ).toEqual([
      "accepting: 60 ms",
      "verifying: 140 ms",
      "store slow: 7 %, 79 MiB of 1.1 GiB",
      "store slow: stored in 41 s",
      "storing: 42 s",
    ]);
  });

  it("shows a copy that was stored and is then dropped", () => {
    const dropped = { ...stored, state: "dropped" } as const;

    const lines = shown([importIn({ slow: stored }), importIn({ slow: dropped })]);

    expect(lines.slice(2)).toEqual(["store slow: stored in 41 s", "store slow: dropped"]);
  });

  it("shows no store before its copy begins", () => {
    expect(shown([importIn({ slow: { state: "waiting" } })]).slice(2)).toEqual([]);
  });

  it("shows the digest step while it reports bytes", () => {
    const lines = shown([
      importIn({}, { done_bytes: 4 * MIB, total_bytes: 8 * MIB }),
      importIn({}),
      importIn({}),
    ]);

    expect(lines.slice(2)).toEqual(["digesting: 50 %, 4 MiB of 8 MiB", "digesting: done"]);
  });

  it("shows a pause with the bytes that are done, and its end", () => {
    const paused = importIn({ slow }, { pause: "paused", paused_at: secondsAgo(90) });

    expect(shown([paused, importIn({ slow })]).slice(2)).toEqual([
      "store slow: paused at 79 MiB (7 %) since 05:38:30",
      "paused",
      "store slow: 7 %, 79 MiB of 1.1 GiB",
      "resumed",
    ]);
  });

  it("shows a failed attempt while the next one has no bytes, and then its bytes", () => {
    const failed = { ...slow, attempt: 4, last_failure: "no answer" };
    const begun: StoreProgress = { state: "copying", attempt: 4, last_failure: "no answer" };

    const lines = shown([
      importIn({ slow: { ...failed, next_attempt_at: secondsAgo(-12) } }),
      importIn({ slow: begun }),
      importIn({ slow: failed }),
    ]);

    expect(lines.slice(2)).toEqual([
      "store slow: waiting for try 4 in 12 s: no answer",
      "store slow: try 4 runs, after: no answer",
      "store slow: 7 %, 79 MiB of 1.1 GiB",
    ]);
  });

  it("shows what a step waits for when its bytes do not increase", () => {
    const waiting = { ...slow, bytes_per_second: 0, attempt: 1, last_failure: "no answer" };
    const digesting = { done_bytes: MIB, bytes_per_second: 0, attempt: 1, last_failure: "away" };

    expect(shown([importIn({ slow: waiting }, digesting)])).toEqual(
      expect.arrayContaining([
        "digesting: try 1 runs, after: away",
        "store slow: try 1 runs, after: no answer",
      ]),
    );
  });
});
