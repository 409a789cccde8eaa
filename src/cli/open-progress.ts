import { BlockDisplay } from "./block-display.ts";
import { LineDisplay } from "./line-display.ts";
import { printableLines } from "./table.ts";
import type { ProgressDisplay, ProgressWishes } from "./progress-display.ts";

/** A live block on a terminal, a line for each change elsewhere. */
export function openProgressDisplay(
  stream: NodeJS.WriteStream,
  wishes: ProgressWishes,
): ProgressDisplay {
  if (wishes.isQuiet) return quietOn(stream);
  return wishes.isPlain ? new LineDisplay(stream, wishes) : new BlockDisplay(stream, wishes);
}

/** Warnings alone. */
function quietOn(stream: NodeJS.WriteStream): ProgressDisplay {
  const nothing = () => undefined;
  const warn = (text: string): void => {
    stream.write(`${printableLines(text)}\n`);
  };
  return { bytes: nothing, work: nothing, note: nothing, warn, detail: nothing, stop: nothing };
}
