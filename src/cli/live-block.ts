import { reported } from "../config/terminal-settings.ts";
import { widthOf, wrapped } from "./wrapped.ts";

/** The part of a terminal that a {@link LiveBlock} uses. */
export interface Terminal {
  readonly columns?: number;
  readonly rows?: number;
  write(text: string): unknown;
  on(event: "resize", listener: () => void): unknown;
  off(event: "resize", listener: () => void): unknown;
}

const UP = (rows: number) => (rows === 0 ? "" : `\u001B[${String(rows)}A`);
const ERASE_LINE = "\u001B[K";
const ERASE_BELOW = "\u001B[J";
// A terminal that does not report its size.
const USUAL_COLUMNS = 80;
const USUAL_ROWS = 24;

/**
 * The last lines of a terminal, which are written again when they change, and the lines above them,
 * which stay. The cursor waits in the line below the block, and is not hidden: a command that is
 * killed leaves a terminal as it should be.
 */
export class LiveBlock {
  readonly #terminal: Terminal;
  readonly #linesOf: (width: number) => readonly string[];
  #drawn: readonly string[] = [];
  readonly #onResize = (): void => {
    this.draw();
  };

  /** @param linesOf - the lines of the block, for a terminal of this width */
  constructor(terminal: Terminal, linesOf: (width: number) => readonly string[]) {
    this.#terminal = terminal;
    this.#linesOf = linesOf;
    terminal.on("resize", this.#onResize);
  }

  /** Writes lines above the block, which stay, and draws the block again. */
  print(lines: readonly string[]): void {
    this.#replace(lines.flatMap((line) => wrapped(line, this.width)));
  }

  /** Draws the block again if it has changed. */
  draw(): void {
    this.#replace([]);
  }

  /** Leaves the block as it is now. */
  close(): void {
    this.draw();
    this.#drawn = [];
    this.#terminal.off("resize", this.#onResize);
  }

  /** Columns. */
  get width(): number {
    return reported(this.#terminal.columns) ?? USUAL_COLUMNS;
  }

  #replace(printed: readonly string[]): void {
    const lines = this.#fitting(this.#linesOf(this.width));
    const isSame = lines.length === this.#drawn.length && lines.every(this.#isDrawn);
    if (printed.length === 0 && isSame) return;
    const text = [...printed, ...lines].map((line) => `${ERASE_LINE}${line}\n`).join("");
    this.#terminal.write(`\r${UP(this.#rowsOf(this.#drawn))}${text}${ERASE_BELOW}`);
    this.#drawn = lines;
  }

  readonly #isDrawn = (line: string, index: number): boolean => line === this.#drawn[index];

  /** Rows that lines take now: a terminal that became narrower has wrapped them. */
  #rowsOf(lines: readonly string[]): number {
    return lines
      .map((line) => Math.max(1, Math.ceil(widthOf(line) / this.width)))
      .reduce((sum, rows) => sum + rows, 0);
  }

  /**
   * The lines that fit on the screen: the cursor cannot reach a row that has left it at the top.
   */
  #fitting(lines: readonly string[]): readonly string[] {
    const rows = (reported(this.#terminal.rows) ?? USUAL_ROWS) - 1;
    if (this.#rowsOf(lines) <= rows) return lines;
    let shown = lines.length - 1;
    while (shown > 0 && this.#rowsOf(lines.slice(0, shown)) >= rows) shown -= 1;
    return [...lines.slice(0, shown), `… and ${String(lines.length - shown)} more lines`];
  }
}
