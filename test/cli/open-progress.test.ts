import type { WriteStream } from "node:tty";
import { beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { PLAIN } from "../../src/cli/paint.ts";
import { openProgressDisplay } from "../../src/cli/open-progress.ts";
import type { ProgressDisplay, ProgressWishes } from "../../src/cli/progress-display.ts";
import type { WorkState } from "../../src/cli/work-state.ts";
import { MIB } from "../support/mib.ts";
import { Screen } from "../support/screen.ts";

interface Shown {
  readonly progress: ProgressDisplay;
  readonly screen: Screen;
}

function open(wishes: Partial<ProgressWishes> & { readonly columns?: number } = {}): Shown {
  const screen = new Screen(wishes);
  const progress = openProgressDisplay(screen as unknown as WriteStream, {
    isQuiet: false,
    isPlain: false,
    isVerbose: false,
    paint: PLAIN,
    ...wishes,
  });
  onTestFinished(() => {
    progress.stop();
  });
  return { progress, screen };
}

function ended(text: string, tookMs?: number): WorkState {
  return { kind: "ended", text, isFailed: false, tookMs };
}

// Time passes when a test says so.
beforeEach(() => {
  vi.useFakeTimers();
  return () => {
    vi.useRealTimers();
  };
});

describe("openProgressDisplay() on a terminal", () => {
  it("shows a bar for each piece of work, which takes what the numbers leave", () => {
    const { progress, screen } = open();

    progress.bytes("store fast", 16 * MIB, 64 * MIB);
    progress.bytes("store slow", 8 * MIB, 64 * MIB);
    vi.advanceTimersByTime(1_000);

    expect(screen.text).toBe(
      [
        "store fast  [==========--------------------------------]  25 %  16 MiB of 64 MiB",
        "store slow  [=====-------------------------------------]  12 %  8 MiB of 64 MiB",
      ].join("\n"),
    );
  });

  it("moves the bar", () => {
    const { progress, screen } = open({ columns: 60 });
    progress.bytes("staging", 16 * MIB, 64 * MIB);
    vi.advanceTimersByTime(1_000);

    progress.bytes("staging", 32 * MIB, 64 * MIB);
    vi.advanceTimersByTime(1_000);

    expect(screen.text).toBe("staging     [===========-----------]  50 %  32 MiB of 64 MiB");
  });

  it("draws again at once when the terminal has another width", () => {
    const { progress, screen } = open({ columns: 80 });
    progress.bytes("staging", 16 * MIB, 64 * MIB);
    vi.advanceTimersByTime(1_000);

    screen.columns = 40;
    screen.emit("resize");

    expect(screen.text).toContain("staging  25 %, 16 MiB of 64 MiB");
  });

  it("draws as on an ordinary terminal where the terminal has a size of 0", () => {
    const { progress, screen } = open({ columns: 0 });

    progress.bytes("staging", 16 * MIB, 64 * MIB);
    vi.advanceTimersByTime(1_000);

    expect(screen.text).toMatch(/^staging {5}\[=+-+\] {2}25 % {2}16 MiB of 64 MiB$/);
  });

  it.each([false, true])("obeys no escape sequence in a text, plain: %s", (isPlain) => {
    const { progress, screen } = open({ isPlain });
    const reason = "refused\u001b[31m";

    progress.note("Left \u001b]0;title\u0007");
    progress.work("store \u009b2J", {
      kind: "retrying",
      attempt: 2,
      nextAttemptAt: undefined,
      reason,
    });
    vi.advanceTimersByTime(1_000);

    expect(screen.text).toContain("Left \\u001b]0;title\\u0007\n");
    expect(screen.text).toContain("store \\u009b2J  try 2 runs, after: refused\\u001b[31m");
  });

  it("shows notes above the work that runs", () => {
    const { progress, screen } = open();
    progress.note("image 1");
    progress.bytes("staging", MIB, MIB);
    vi.advanceTimersByTime(1_000);

    progress.note("Temporal does not answer");
    vi.advanceTimersByTime(1_000);

    expect(screen.text.split("\n")).toEqual([
      "image 1",
      "Temporal does not answer",
      expect.stringMatching(/^staging .*1 MiB of 1 MiB$/),
    ]);
  });

  it("keeps the work that has ended, in the order in which it began", () => {
    const { progress, screen } = open();
    const moving = { kind: "moving", doneBytes: 1, totalBytes: 2, bytesPerSecond: 1 } as const;
    progress.work("staging", moving);
    progress.work("staging", ended("staged", 3_200));
    progress.work("store slow", moving);
    progress.work("store fast", moving);
    progress.work("store fast", ended("stored", 41_000));
    vi.advanceTimersByTime(1_000);
    progress.note("note");

    progress.work("store slow", ended("stored", 50_000));
    progress.work("storing", ended("", 50_100));
    progress.stop();
    screen.write("answer\n");

    expect(screen.text.split("\n")).toEqual([
      "staging     staged in 3.2 s",
      "note",
      "store slow  stored in 50 s",
      "store fast  stored in 41 s",
      "storing     50 s",
      "answer",
    ]);
  });

  it("shows the last amount and note that came right before the end", () => {
    const { progress, screen } = open({ columns: 60 });
    progress.bytes("staging", MIB, 2 * MIB);
    vi.advanceTimersByTime(1_000);

    progress.bytes("staging", 2 * MIB, 2 * MIB);
    progress.note("Left; the import continues.");
    progress.stop();
    screen.write("answer\n");

    expect(screen.text).toBe(
      [
        "Left; the import continues.",
        "staging     [========================] 100 %  2 MiB of 2 MiB",
        "answer",
      ].join("\n"),
    );
  });

  it("shows details with --verbose alone", () => {
    const plain = open();
    const verbose = open({ isVerbose: true });

    for (const { progress } of [plain, verbose]) progress.detail("run 1");

    expect([plain.screen.text, verbose.screen.text]).toEqual(["", "run 1"]);
  });

  it("keeps each failed attempt with --verbose, above the live lines", () => {
    const { progress, screen } = open({ isVerbose: true });

    for (const attempt of [2, 2, 3]) {
      const state = { kind: "retrying", attempt, nextAttemptAt: undefined, reason: "no" } as const;
      progress.work("store slow", state);
    }
    vi.advanceTimersByTime(1_000);

    expect(screen.text.split("\n")).toEqual([
      "store slow: attempt 1 failed: no",
      "store slow: attempt 2 failed: no",
      "store slow  try 3 runs, after: no",
    ]);
  });
});

describe("openProgressDisplay() elsewhere", () => {
  it("writes no line for work of this process that ends within 5 s", () => {
    const { progress, screen } = open({ isPlain: true });

    progress.bytes("staging", 1 * MIB, 2 * MIB);
    vi.advanceTimersByTime(4_999);
    progress.bytes("staging", 2 * MIB, 2 * MIB);
    progress.work("staging", ended("staged", 4_999));

    expect(screen.text).toBe("");
  });

  it("writes a line for each tenth of the bytes, at most every 5 s", () => {
    const { progress, screen } = open({ isPlain: true });

    for (const doneMib of [10, 11, 12, 30, 31, 40]) {
      progress.bytes("staging", doneMib * MIB, 100 * MIB);
      vi.advanceTimersByTime(2_500);
    }

    expect(screen.text.split("\n")).toEqual([
      "staging     30 %, 30 MiB of 100 MiB, 2.7 MiB/s, 26 s left",
      "staging     40 %, 40 MiB of 100 MiB, 2.9 MiB/s, 21 s left",
    ]);
  });

  it("writes a line for each change of a state, and each reason once", () => {
    const { progress, screen } = open({ isPlain: true });
    const retrying = (attempt: number, reason: string): void => {
      const nextAttemptAt = new Date(Date.now() + 2_000).toISOString();
      progress.work("store slow", { kind: "retrying", attempt, nextAttemptAt, reason });
    };

    progress.work("store slow", { kind: "still", text: "copying" });
    retrying(2, "no answer");
    retrying(3, "it is full");
    retrying(4, "no answer");
    progress.work("store slow", ended("stored", 41_000));
    progress.work("store slow", ended("stored", 41_000));

    expect(screen.text.split("\n")).toEqual([
      "store slow  waiting for try 2 in 2.0 s: no answer",
      "store slow  waiting for try 3 in 2.0 s: it is full",
      "store slow  stored in 41 s",
    ]);
  });

  it("writes each attempt with --verbose", () => {
    const { progress, screen } = open({ isPlain: true, isVerbose: true });

    for (const attempt of [2, 3]) {
      const state = { kind: "retrying", attempt, nextAttemptAt: undefined, reason: "no" } as const;
      progress.work("store slow", state);
    }

    expect(screen.text).toBe(
      "store slow  try 2 runs, after: no\nstore slow  try 3 runs, after: no",
    );
  });

  it("writes each note at once", () => {
    const { progress, screen } = open({ isPlain: true });

    progress.note("image 1");

    expect(screen.text).toBe("image 1");
  });
});

describe("openProgressDisplay() with --quiet", () => {
  it("writes warnings alone", () => {
    const { progress, screen } = open({ isQuiet: true });

    progress.note("image 1");
    progress.bytes("staging", 1 * MIB, 2 * MIB);
    vi.advanceTimersByTime(60_000);
    progress.work("staging", ended("staged"));
    progress.warn("a copy is damaged");
    progress.stop();

    expect(screen.text).toBe("a copy is damaged");
  });
});
