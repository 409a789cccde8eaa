import type { Paint } from "./paint.ts";
import { printable } from "./printable.ts";
import {
  amountText,
  percentOf,
  shareOf,
  stateText,
  type Work,
  type WorkState,
} from "./work-state.ts";
import { padded, widthOf, wrapped } from "./wrapped.ts";

/** The terminal for which lines are made. */
export interface Page {
  /** Columns. */
  readonly width: number;
  /** Time for countdowns, in ms since the epoch. */
  readonly nowMs: number;
  readonly paint: Paint;
}

// Below it there are numbers only.
const NARROWEST_WITH_BARS = 60;
// A shorter bar shows nothing.
const SHORTEST_BAR = 8;
/** Columns of the shortest label. Most labels of phases fit; `transforming` needs more. */
export const SHORTEST_LABEL = 10;
const HANGING_INDENT = 2;

/**
 * The lines of several pieces of work. Each has a line of its own, or several if it does not fit:
 * nothing is cut. Bars take what the numbers leave.
 */
export function workLines(given: readonly Work[], page: Page): string[] {
  const works = given.map(({ label, state }) => ({ label: printable(label), state }));
  const labelWidth = labelWidthOf(works, page.width);
  const barWidth = barWidthOf(works, labelWidth, page.width);
  return works.flatMap((work) => {
    const label = `${padded(work.label, labelWidth)}  `;
    const { state } = work;
    if (state.kind === "moving" && state.totalBytes !== undefined && barWidth > 0) {
      return [`${label}${barText(state, state.totalBytes, barWidth)}`];
    }
    const indent = page.width < NARROWEST_WITH_BARS ? HANGING_INDENT : labelWidth + 2;
    const lines = wrapped(`${label}${printable(stateText(state, page.nowMs))}`, page.width, indent);
    return lines.map((line) => painted(line, state, page.paint));
  });
}

/** The common width of the labels: that of the widest, and at most a third of the line. */
function labelWidthOf(works: readonly Work[], width: number): number {
  if (width < NARROWEST_WITH_BARS) return 0;
  const widest = Math.max(SHORTEST_LABEL, ...works.map(({ label }) => widthOf(label)));
  return Math.min(widest, Math.floor(width / 3));
}

/** Room for the bars between the labels and the numbers; 0 if it is too little. */
function barWidthOf(works: readonly Work[], labelWidth: number, width: number): number {
  if (width < NARROWEST_WITH_BARS) return 0;
  const taken = works.map(({ label, state }) =>
    state.kind === "moving" && state.totalBytes !== undefined
      ? Math.max(labelWidth, widthOf(label)) + 2 + widthOf(` ${numbersText(state)}`) + 2
      : 0,
  );
  const room = width - Math.max(0, ...taken);
  return room < SHORTEST_BAR ? 0 : room;
}

function barText(
  state: WorkState & { readonly kind: "moving" },
  totalBytes: number,
  width: number,
): string {
  const full = Math.floor(width * shareOf(state.doneBytes, totalBytes));
  return `[${"=".repeat(full)}${"-".repeat(width - full)}] ${numbersText(state)}`;
}

function numbersText(state: WorkState & { readonly kind: "moving" }): string {
  return `${percentOf(state).padStart(5)}  ${amountText(state)}`;
}

/** A line, in colour if a user should look at it: an end with a text, a retry, or a pause. */
function painted(line: string, state: WorkState, paint: Paint): string {
  switch (state.kind) {
    case "ended":
      if (state.text === "") return line;
      return state.isFailed ? paint.bad(line) : paint.good(line);
    case "retrying":
    case "paused":
      return paint.notice(line);
    case "moving":
    case "still":
      return line;
  }
}
