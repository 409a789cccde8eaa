import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { EventLines } from "../../src/cli/event-lines.ts";
import type { ImportStatus } from "../../src/workflow/contract.ts";
import { MIB } from "../support/mib.ts";
import { importIn, secondsAgo } from "../support/shown-states.ts";

const ABOUT = { image_id: "image", run_id: "run" };
const slow = { state: "copying", started_at: secondsAgo(44), done_bytes: 79 * MIB } as const;
const stored = { state: "stored", method: "copy", ended_at: secondsAgo(3) } as const;

beforeEach(() => {
  vi.useFakeTimers();
});
afterEach(() => {
  vi.useRealTimers();
});

/** A display and the lines that it has written. */
function open({ isQuiet = false } = {}) {
  const lines: Record<string, unknown>[] = [];
  const write = (text: string) => lines.push(JSON.parse(text) as Record<string, unknown>);
  return { lines, display: new EventLines({ write }, isQuiet, ABOUT) };
}

/** The lines for these statuses, 300 ms apart, without time, subject and phases. */
function linesOf(...statuses: readonly ImportStatus[]): Record<string, unknown>[] {
  const { display, lines } = open();
  const observer = display.follow();
  for (const status of statuses) {
    observer.status(status);
    vi.advanceTimersByTime(300);
  }
  return lines
    .filter(({ event }) => event !== "phase")
    .map((line) =>
      Object.fromEntries(
        Object.entries(line).filter(([name]) => !/^(time|image_id|run_id|task_id)$/.test(name)),
      ),
    );
}

describe("EventLines", () => {
  it("writes time, event and all that is known of the import", () => {
    const { display, lines } = open();

    display.event({ event: "resumed" });
    display.about({ task_id: "task" });
    display.event({ event: "resumed" });

    const time = new Date().toISOString();
    expect(lines).toEqual([
      { time, event: "resumed", ...ABOUT },
      { time, event: "resumed", ...ABOUT, task_id: "task" },
    ]);
  });

  it("writes the bytes of this process once a second, and the last of them", () => {
    const { display, lines } = open();

    for (const mib of [1, 2, 3, 4, 5, 6, 7, 8]) {
      display.bytes("staging", mib * MIB, 8 * MIB);
      vi.advanceTimersByTime(400);
    }

    expect(lines.map(({ done_bytes: bytes }) => Number(bytes) / MIB)).toEqual([1, 4, 7, 8]);
    expect(lines[0]).toMatchObject({ event: "progress", work: "staging", total_bytes: 8 * MIB });
  });

  it("writes neither progress nor notes with --quiet", () => {
    const { display, lines } = open({ isQuiet: true });

    display.bytes("staging", 1, 1);
    display.note("image 1");
    display.warn("a copy is damaged");

    expect(lines).toMatchObject([{ event: "warning", message: "a copy is damaged" }]);
  });

  it("names the source of each of several imports", () => {
    const { display, lines } = open();

    display.part({ label: "a", source: "/a.raw" }).event({ event: "resumed" });

    expect(lines).toMatchObject([{ event: "resumed", source: "/a.raw" }]);
  });
});

describe("EventLines.follow()", () => {
  it("writes each phase once, and not the end", () => {
    const { display, lines } = open();
    const observer = display.follow();
    const status = importIn({});
    const done = { phase: "done", started_at: secondsAgo(1), ended_at: secondsAgo(1) } as const;

    observer.status(status);
    observer.status({ ...status, phases: [...status.phases, done] });

    expect(lines.map(({ event, phase }) => [event, phase])).toEqual(
      status.phases.map(({ phase }) => ["phase", phase]),
    );
  });

  it("writes the begin, the bytes and the end of a copy", () => {
    const { started_at: startedAt } = slow;

    expect(linesOf(importIn({ slow }), importIn({ slow }), importIn({ slow: stored }))).toEqual([
      { event: "store", store: "slow", state: "copying", started_at: startedAt },
      expect.objectContaining({ event: "progress", store: "slow", done_bytes: 79 * MIB }),
      { event: "store", store: "slow", ...stored },
    ]);
  });

  it("writes each failed attempt once, also while the next one moves bytes", () => {
    const failed = { state: "copying", attempt: 4, last_failure: "no answer" } as const;
    const next = secondsAgo(-12);
    const report = { event: "attempt_failed", work: "copying", store: "slow" };

    const lines = linesOf(
      importIn({ slow: { ...failed, next_attempt_at: next } }),
      importIn({ slow: failed }),
      importIn({ slow: { ...failed, attempt: 5, last_failure: "it is full" } }),
    );

    expect(lines.slice(1)).toEqual([
      { ...report, attempt: 3, next_attempt_at: next, message: "no answer" },
      { ...report, attempt: 4, message: "it is full" },
    ]);
  });

  it("writes a pause and its end", () => {
    const paused = importIn({}, { pause: "paused", paused_at: secondsAgo(90) });

    expect(linesOf(importIn({}), paused, paused, importIn({}))).toEqual([
      { event: "paused", paused_at: secondsAgo(90) },
      { event: "resumed" },
    ]);
  });
});
