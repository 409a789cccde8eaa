import { BlockDisplay } from "./block-display.ts";
import { LineDisplay } from "./line-display.ts";
import { printableLines } from "./printable.ts";
import type { ProgressDisplay, ProgressWishes } from "./progress-display.ts";
import { TextDisplay } from "./text-display.ts";

const NOTHING = (): undefined => undefined;

/** A live block on a terminal, a line for each change elsewhere. */
export function openProgressDisplay(
  stream: NodeJS.WriteStream,
  wishes: ProgressWishes,
): ProgressDisplay {
  if (wishes.isQuiet) return new QuietDisplay(stream);
  return wishes.isPlain ? new LineDisplay(stream, wishes) : new BlockDisplay(stream, wishes);
}

/** Warnings alone. */
class QuietDisplay extends TextDisplay {
  readonly #stream: NodeJS.WriteStream;

  constructor(stream: NodeJS.WriteStream) {
    super();
    this.#stream = stream;
  }

  warn(text: string): void {
    this.#stream.write(`${printableLines(text)}\n`);
  }

  readonly bytes = NOTHING;
  readonly work = NOTHING;
  readonly note = NOTHING;
  readonly detail = NOTHING;
  readonly stop = NOTHING;
}
