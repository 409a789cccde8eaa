import { LiveBlock, type Terminal } from "./live-block.ts";
import { Paces } from "./paces.ts";
import type { ProgressWishes } from "./progress-display.ts";
import { printableLines } from "./printable.ts";
import { TextDisplay } from "./text-display.ts";
import { workLines } from "./work-lines.ts";
import type { WorkState } from "./work-state.ts";

const REDRAW_EVERY_MS = 100;

/**
 * A live line for each piece of work, and above them the notes and the work that has ended, in
 * order.
 */
export class BlockDisplay extends TextDisplay {
  readonly #wishes: Pick<ProgressWishes, "isVerbose" | "paint">;
  readonly #states = new Map<string, WorkState>();
  /** The number of the attempt after the last noted failure, by the label of its work. */
  readonly #attempts = new Map<string, number>();
  readonly #paces = new Paces();
  readonly #terminal: Terminal;
  #block: LiveBlock | undefined;
  #timer: NodeJS.Timeout | undefined;

  constructor(terminal: Terminal, wishes: Pick<ProgressWishes, "isVerbose" | "paint">) {
    super();
    this.#terminal = terminal;
    this.#wishes = wishes;
  }

  bytes(label: string, doneBytes: number, totalBytes: number | undefined): void {
    this.work(label, this.#paces.moving(label, doneBytes, totalBytes));
  }

  work(label: string, state: WorkState): void {
    this.#keepFailedAttempt(label, state);
    const isNew = !this.#states.has(label);
    const ended = isNew ? this.#takeEnded() : [];
    this.#states.set(label, state);
    const block = this.#open();
    if (ended.length > 0) block.print(ended);
  }

  /** The live line has only the last attempt: with `--verbose` each failed one stays. */
  #keepFailedAttempt(label: string, state: WorkState): void {
    if (!this.#wishes.isVerbose || state.kind !== "retrying") return;
    if (this.#attempts.get(label) === state.attempt) return;
    this.#attempts.set(label, state.attempt);
    this.note(`${label}: attempt ${String(state.attempt - 1)} failed: ${state.reason}`);
  }

  note(text: string): void {
    const ended = this.#takeEnded();
    this.#open().print([...ended, ...printableLines(text).split("\n")]);
  }

  warn(text: string): void {
    this.note(text);
  }

  detail(text: string): void {
    if (this.#wishes.isVerbose) this.note(text);
  }

  stop(): void {
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#block?.close();
    this.#block = undefined;
    this.#states.clear();
  }

  #open(): LiveBlock {
    this.#timer ??= setInterval(() => this.#block?.draw(), REDRAW_EVERY_MS);
    this.#block ??= new LiveBlock(this.#terminal, (width) => this.#lines(width));
    return this.#block;
  }

  /** Removes the ended work above the first running work from the block, and returns its lines. */
  #takeEnded(): string[] {
    const works = [...this.#states].map(([label, state]) => ({ label, state }));
    const running = works.findIndex(({ state }) => state.kind !== "ended");
    const ended = running === -1 ? works : works.slice(0, running);
    for (const { label } of ended) this.#states.delete(label);
    return ended.length === 0 ? [] : workLines(ended, this.#page(this.#open().width));
  }

  #lines(width: number): string[] {
    const works = [...this.#states].map(([label, state]) => ({ label, state }));
    return workLines(works, this.#page(width));
  }

  #page(width: number) {
    return { width, nowMs: Date.now(), paint: this.#wishes.paint };
  }
}
