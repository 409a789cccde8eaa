import { BlockDisplay } from "./block-display.ts";
import { LineDisplay } from "./line-display.ts";
import { printableLines } from "./printable.ts";
import type { ProgressDisplay, ProgressWishes } from "./progress-display.ts";
import { TextDisplay } from "./text-display.ts";

const NOTHING = (): undefined => undefined;

/**
 * Opens the display that the user wishes: a live block, a line for each change, or warnings only.
 */
export function openProgressDisplay(
  stream: NodeJS.WriteStream,
  wishes: ProgressWishes,
): ProgressDisplay {
  if (wishes.isQuiet) return new QuietDisplay(stream);
  return wishes.isPlain ? new LineDisplay(stream, wishes) : new BlockDisplay(stream, wishes);
}

/** A display of warnings only. */
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
