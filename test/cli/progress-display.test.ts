import type { WriteStream } from "node:tty";
import { beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { openProgressDisplay, type ProgressDisplay } from "../../src/cli/progress-display.ts";
import { MIB } from "../support/mib.ts";
import { Screen } from "../support/screen.ts";

interface Shown {
  readonly progress: ProgressDisplay;
  readonly screen: Screen;
}

function open({ isTerminal, isJson = false }: { isTerminal: boolean; isJson?: boolean }): Shown {
  const screen = new Screen({ isTerminal });
  const progress = openProgressDisplay(screen as unknown as WriteStream, isJson);
  onTestFinished(() => {
    progress.stop();
  });
  return { progress, screen };
}

// Time passes when a test says so.
beforeEach(() => {
  vi.useFakeTimers();
  return () => {
    vi.useRealTimers();
  };
});

describe("openProgressDisplay() on a terminal", () => {
  it("shows a bar for each piece of work", () => {
    const { progress, screen } = open({ isTerminal: true });

    progress.bytes("store fast", 16 * MIB, 64 * MIB);
    progress.bytes("store slow", 8 * MIB, 64 * MIB);
    vi.advanceTimersByTime(1_000);

    expect(screen.text).toBe(
      [
        "store fast     [==========------------------------------] 25%  16 MiB of 64 MiB",
        "store slow     [=====-----------------------------------] 12%  8 MiB of 64 MiB",
      ].join("\n"),
    );
  });

  it("moves the bar", () => {
    const { progress, screen } = open({ isTerminal: true });
    progress.bytes("staging", 16 * MIB, 64 * MIB);
    vi.advanceTimersByTime(1_000);

    progress.bytes("staging", 32 * MIB, 64 * MIB);
    vi.advanceTimersByTime(1_000);

    expect(screen.text).toBe(
      "staging        [====================--------------------] 50%  32 MiB of 64 MiB",
    );
  });

  it("shows the amount done when the total is not known", () => {
    const { progress, screen } = open({ isTerminal: true });

    progress.bytes("verifying", 3 * MIB, undefined);
    vi.advanceTimersByTime(1_000);

    expect(screen.text).toBe("verifying      3 MiB");
  });

  it("shows notes above the bars", () => {
    const { progress, screen } = open({ isTerminal: true });
    progress.note("image 1");
    progress.bytes("staging", MIB, MIB);
    vi.advanceTimersByTime(1_000);

    progress.note("accepting  60 ms");
    vi.advanceTimersByTime(1_000);

    expect(screen.text).toBe(
      [
        "image 1",
        "accepting  60 ms",
        "staging        [========================================] 100%  1 MiB of 1 MiB",
      ].join("\n"),
    );
  });

  it("shows the last amount and note that came right before the end", () => {
    const { progress, screen } = open({ isTerminal: true });
    progress.bytes("staging", MIB, 2 * MIB);
    vi.advanceTimersByTime(1_000);

    progress.bytes("staging", 2 * MIB, 2 * MIB);
    progress.note("Left; the import goes on.");
    progress.stop();
    screen.write("answer\n");

    expect(screen.text).toBe(
      [
        "Left; the import goes on.",
        "staging        [========================================] 100%  2 MiB of 2 MiB",
        "answer",
      ].join("\n"),
    );
  });

  it("shows bars with --json too: no program reads a terminal", () => {
    const { progress, screen } = open({ isTerminal: true, isJson: true });

    progress.bytes("staging", MIB, MIB);
    vi.advanceTimersByTime(1_000);

    expect(screen.text).toContain("1 MiB of 1 MiB");
  });
});

describe("openProgressDisplay() elsewhere", () => {
  it("writes no line for work that ends within 5 s", () => {
    const { progress, screen } = open({ isTerminal: false });

    progress.bytes("staging", 1 * MIB, 2 * MIB);
    vi.advanceTimersByTime(4_999);
    progress.bytes("staging", 2 * MIB, 2 * MIB);

    expect(screen.text).toBe("");
  });

  it("writes a line for each piece of work every 5 s", () => {
    const { progress, screen } = open({ isTerminal: false });

    for (const doneMib of [1, 2, 3]) {
      progress.bytes("store fast", doneMib * MIB, 4 * MIB);
      progress.bytes("verifying", doneMib * MIB, undefined);
      vi.advanceTimersByTime(2_500);
    }

    expect(screen.text).toBe(
      ["store fast: 3 MiB of 4 MiB, 409.6 KiB/s, 2.5 s left", "verifying: 3 MiB, 409.6 KiB/s"].join(
        "\n",
      ),
    );
  });

  it("writes each note at once", () => {
    const { progress, screen } = open({ isTerminal: false });

    progress.note("image 1");

    expect(screen.text).toBe("image 1");
  });

  it("is silent with --json", () => {
    const { progress, screen } = open({ isTerminal: false, isJson: true });

    progress.note("image 1");
    progress.bytes("staging", 1 * MIB, 2 * MIB);
    vi.advanceTimersByTime(60_000);
    progress.bytes("staging", 2 * MIB, 2 * MIB);
    progress.stop();

    expect(screen.text).toBe("");
  });
});
