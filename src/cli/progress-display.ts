import { MultiBar, type SingleBar } from "cli-progress";
import { formatBytes } from "../domain/byte-size.ts";
import { Pace } from "./pace.ts";

/** Shows the progress of a command on stderr: stdout belongs to the answer. */
export interface ProgressDisplay {
  /**
   * Shows the bytes of a piece of work.
   *
   * @param label - names the piece
   * @param totalBytes - undefined if unknown
   */
  bytes(label: string, doneBytes: number, totalBytes: number | undefined): void;
  /** Writes a line. */
  note(text: string): void;
  /** Ends the display. */
  stop(): void;
}

// Often enough to see that something moves, seldom enough for a log.
const LINE_EVERY_MS = 5_000;

/**
 * Bars on a terminal, a line now and then elsewhere. With `--json` the lines are left out: stderr
 * then holds the document of a failure, or nothing.
 */
export function openProgressDisplay(stream: NodeJS.WriteStream, isJson: boolean): ProgressDisplay {
  if (stream.isTTY) return new Bars(stream);
  return isJson ? silence : new Lines(stream);
}

const silence: ProgressDisplay = {
  bytes: () => undefined,
  note: () => undefined,
  stop: () => undefined,
};

class Bars implements ProgressDisplay {
  readonly #stream: NodeJS.WriteStream;
  readonly #bars = new Map<string, SingleBar>();
  readonly #paces = new Paces();
  #multiBar: MultiBar | undefined;

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  bytes(label: string, doneBytes: number, totalBytes: number | undefined): void {
    const amount = amountOf(doneBytes, totalBytes, this.#paces.of(label, doneBytes));
    const bar = this.#bars.get(label) ?? this.#create(label, totalBytes);
    if (totalBytes !== undefined) bar.setTotal(totalBytes);
    bar.update(doneBytes, { label: label.padEnd(14), amount });
  }

  note(text: string): void {
    if (this.#multiBar === undefined) this.#stream.write(`${text}\n`);
    else this.#multiBar.log(`${text}\n`);
  }

  stop(): void {
    // Notes wait for the next redraw, and after the end there is none.
    this.#multiBar?.update();
    this.#multiBar?.stop();
    this.#multiBar = undefined;
    this.#bars.clear();
  }

  #create(label: string, totalBytes: number | undefined): SingleBar {
    this.#multiBar ??= new MultiBar({
      stream: this.#stream,
      hideCursor: true,
      emptyOnZero: true,
      // A note takes the line of a bar; one that has not moved would not be drawn again.
      forceRedraw: true,
      // Ctrl-C is ours: the command still has something to undo and to say.
      gracefulExit: false,
    });
    const format =
      totalBytes === undefined ? "{label} {amount}" : "{label} [{bar}] {percentage}%  {amount}";
    const bar = this.#multiBar.create(totalBytes ?? 0, 0, { label, amount: "" }, { format });
    this.#bars.set(label, bar);
    return bar;
  }
}

class Lines implements ProgressDisplay {
  readonly #stream: NodeJS.WriteStream;
  readonly #saidAtMs = new Map<string, number>();
  readonly #paces = new Paces();

  constructor(stream: NodeJS.WriteStream) {
    this.#stream = stream;
  }

  bytes(label: string, doneBytes: number, totalBytes: number | undefined): void {
    const nowMs = performance.now();
    const pace = this.#paces.of(label, doneBytes);
    // The first time only the clock starts: what takes no time needs no line.
    const saidAtMs = this.#saidAtMs.get(label);
    if (saidAtMs === undefined) this.#saidAtMs.set(label, nowMs);
    if (saidAtMs === undefined || nowMs - saidAtMs < LINE_EVERY_MS) return;
    this.#saidAtMs.set(label, nowMs);
    this.note(`${label}: ${amountOf(doneBytes, totalBytes, pace)}`);
  }

  note(text: string): void {
    this.#stream.write(`${text}\n`);
  }

  stop(): void {
    this.#saidAtMs.clear();
  }
}

/** The pace of each piece of work. */
class Paces {
  readonly #paces = new Map<string, Pace>();

  of(label: string, doneBytes: number): Pace {
    const pace = this.#paces.get(label) ?? new Pace();
    this.#paces.set(label, pace);
    pace.observe(doneBytes, performance.now());
    return pace;
  }
}

function amountOf(doneBytes: number, totalBytes: number | undefined, pace: Pace): string {
  const done = formatBytes(doneBytes);
  const amount = totalBytes === undefined ? done : `${done} of ${formatBytes(totalBytes)}`;
  return `${amount}${pace.describe(totalBytes)}`;
}
