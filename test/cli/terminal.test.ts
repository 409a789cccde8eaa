import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { bareEnvironment, BUILT_COMMAND_LINE } from "../support/command-line.ts";
import { HELD_BYTES, SharedStack, writeDisk } from "../support/shared-stack.ts";
import { TmuxWindow } from "../support/tmux-window.ts";

const stack = new SharedStack();
const { commandLine, dataDir } = stack;
const WIDTHS = [40, 80, 200] as const;

/** The live line of the copy that is held at a quarter of its bytes. */
const COPYING = {
  40: /^store slow {2}25 %, 1 MiB of 4 MiB$/,
  80: /^store slow {2}\[[=-]{30,50}\] {2}25 % {2}1 MiB of 4 MiB$/,
  200: /^store slow {2}\[[=-]{150,170}\] {2}25 % {2}1 MiB of 4 MiB$/,
} as const;

/** An import in a window, whose copy is held in the middle of its bytes. */
function openImport(columns: number): { readonly imageId: string; readonly window: TmuxWindow } {
  const imageId = randomUUID();
  stack.holds.hold("slow", imageId);
  const args = ["import", writeDisk(HELD_BYTES), "--id", imageId, "--store", "slow"];
  const command = [process.execPath, BUILT_COMMAND_LINE, ...args, "--data-dir", dataDir];
  return { imageId, window: new TmuxWindow(command, columns, bareEnvironment()) };
}

/** The pieces of work in these lines, in their order. */
function workIn(lines: readonly string[]): string[] {
  return lines.flatMap((line) => /^(store slow|[a-z]+ing) {2}/.exec(line)?.[1] ?? []);
}

const BEFORE_COPY = ["staging", "accepting", "verifying"];
const AFTER_COPY = ["storing", "saving", "activating", "unstaging"];

/**
 * Requires that the lines of finished work are complete and in order, and that the copy has one
 * line. tmux may move the beginning of a line that it had to wrap out of the screen.
 */
function requireWhole(window: TmuxWindow): void {
  const isOfCopy = (line: string): boolean => line === "store slow";
  expect(workIn(window.everything).filter((line) => !isOfCopy(line))).toEqual(BEFORE_COPY);
  expect(workIn(window.screen).filter(isOfCopy)).toHaveLength(1);
}

describe("import at a terminal", () => {
  it.each(WIDTHS)("fits %d columns in each state, also when it is resized", async (columns) => {
    const { imageId, window } = openImport(columns);

    for (const width of [columns, ...WIDTHS.toReversed(), ...WIDTHS, columns]) {
      window.resize(width);
      await window.shows(COPYING[width], width);
      requireWhole(window);
    }

    await commandLine.answer("pause", imageId);
    await window.shows(/^store slow {2}paused at 1 MiB \(25 %\) since( |$)/, columns);
    requireWhole(window);
    await commandLine.answer("resume", imageId);
    stack.release(imageId);

    await window.shows(/^ended with 0$/, columns);
    const lines = window.everything;
    const work = workIn(lines);
    expect(work.slice(work.lastIndexOf("store slow"))).toEqual(["store slow", ...AFTER_COPY]);
    expect(lines.some((line) => /^store slow {2}stored in \d/.test(line))).toBe(true);
    const answer = lines.slice(lines.findIndex((line) => line.startsWith("image_id")));
    expect(answer.find((line) => line.includes(imageId))).toMatch(/^(image_id)? +[0-9a-f-]{36}$/);
    // A digest is one word, which is not cut.
    const isDigest = (line: string): boolean => /[0-9a-f]{128}$/.test(line);
    expect(answer.filter((line) => line.length > columns && !isDigest(line))).toEqual([]);
  });
});
