import { Paces } from "./paces.ts";
import type { ProgressWishes } from "./progress-display.ts";
import { printable, printableLines } from "./printable.ts";
import { TextDisplay } from "./text-display.ts";
import { SHORTEST_LABEL } from "./work-lines.ts";
import { shareOf, stateText, type WorkState } from "./work-state.ts";
import { padded } from "./wrapped.ts";

// Often enough to see that something moves, seldom enough for a log.
const LINE_EVERY_MS = 5_000;
const TENTHS = 10;

interface Said {
  readonly change: string;
  readonly atMs: number;
  /** False if no line was written, and only the clock has started. */
  readonly isWritten: boolean;
}

/** A line for each change of the state of a piece of work, and for each tenth of its bytes. */
export class LineDisplay extends TextDisplay {
  readonly #stream: { write(text: string): unknown };
  readonly #wishes: Pick<ProgressWishes, "isVerbose">;
  readonly #said = new Map<string, Said>();
  /** Work of this process. */
  readonly #own = new Set<string>();
  readonly #reasons = new Set<string>();
  readonly #paces = new Paces();

  constructor(stream: { write(text: string): unknown }, wishes: Pick<ProgressWishes, "isVerbose">) {
    super();
    this.#stream = stream;
    this.#wishes = wishes;
  }

  bytes(label: string, doneBytes: number, totalBytes: number | undefined): void {
    this.#own.add(label);
    this.work(label, this.#paces.moving(label, doneBytes, totalBytes));
  }

  work(label: string, state: WorkState): void {
    if (this.#isKnownReason(label, state)) return;
    const change = changeOf(state);
    const atMs = performance.now();
    const said = this.#said.get(label);
    if (said?.change === change) return;
    if (state.kind === "moving" && said !== undefined && atMs - said.atMs < LINE_EVERY_MS) return;
    const isWritten = this.#isNews(label, state);
    this.#said.set(label, { change, atMs, isWritten });
    if (isWritten) this.note(`${padded(printable(label), SHORTEST_LABEL)}  ${stateText(state)}`);
  }

  /** False for the first bytes, which only start the clock, and for the end of brief work. */
  #isNews(label: string, state: WorkState): boolean {
    const said = this.#said.get(label);
    if (state.kind === "still") return false;
    if (state.kind === "moving") return said !== undefined;
    const isBriefWork = state.kind === "ended" && this.#own.has(label) && said?.isWritten !== true;
    return !isBriefWork || state.isFailed;
  }

  /** True if a line had this reason before: an unreachable store is tried hundreds of times. */
  #isKnownReason(label: string, state: WorkState): boolean {
    if (state.kind !== "retrying") return false;
    const attempt = this.#wishes.isVerbose ? `${String(state.attempt)} ` : "";
    const reason = `${label} ${attempt}${state.reason}`;
    const isKnown = this.#reasons.has(reason);
    this.#reasons.add(reason);
    return isKnown;
  }

  note(text: string): void {
    this.#stream.write(`${printableLines(text)}\n`);
  }

  warn(text: string): void {
    this.note(text);
  }

  detail(text: string): void {
    if (this.#wishes.isVerbose) this.note(text);
  }

  stop(): void {
    this.#said.clear();
  }
}

/** Identifies a state: two with the same text differ in numbers alone. */
function changeOf(state: WorkState): string {
  switch (state.kind) {
    case "moving":
      return `moving ${tenthOf(state)}`;
    case "retrying":
      return `retrying ${String(state.attempt)}`;
    case "paused":
    case "still":
      return state.kind;
    case "ended":
      return `ended ${state.text}`;
  }
}

/** The number of tenths that are done: of the total, or of a GiB if the total is unknown. */
function tenthOf(state: WorkState & { readonly kind: "moving" }): string {
  const { doneBytes, totalBytes } = state;
  const share = totalBytes === undefined ? doneBytes / 2 ** 30 : shareOf(doneBytes, totalBytes);
  return String(Math.floor(share * TENTHS));
}
