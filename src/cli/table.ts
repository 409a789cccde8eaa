import stringWidth from "string-width";
import { printable } from "./printable.ts";

/** A column of a table. */
export interface TableColumn {
  readonly heading: string;
  /** Columns to which it may be cut, with `…` at the cut. Default: it is never cut. */
  readonly minWidth?: number | undefined;
}

const GAP = "  ";

/** Lays out rows below headings, aligned on the left. */
export class Table {
  readonly #columns: readonly TableColumn[];
  readonly #maxWidth: number;
  #widths: readonly number[];

  /** @param maxWidth - columns of the terminal. Default: no limit, and no text is cut */
  constructor(columns: readonly TableColumn[], maxWidth = Infinity) {
    this.#columns = columns;
    this.#maxWidth = maxWidth;
    this.#widths = columns.map(({ heading }) => stringWidth(heading));
  }

  /** The line of the headings, in the columns for which room was made so far. */
  heading(): string {
    return this.#line(this.#columns.map(({ heading }) => heading));
  }

  /** Makes room for these rows, and for later ones. */
  makeRoom(rows: readonly (readonly string[])[]): void {
    const natural = this.#widths.map((width, column) =>
      rows.reduce((widest, cells) => Math.max(widest, widthOf(cells[column])), width),
    );
    this.#widths = fitted(natural, this.#columns, this.#maxWidth);
  }

  /** The lines of rows. */
  lines(rows: readonly (readonly string[])[]): string {
    return rows.map((cells) => this.#line(cells.map(printable))).join("");
  }

  #line(cells: readonly string[]): string {
    const padded = cells.map((cell, column) => {
      const width = this.#widths[column] ?? 0;
      const isCut = this.#columns[column]?.minWidth !== undefined && this.#maxWidth < Infinity;
      const shown = isCut && stringWidth(cell) > width ? cut(cell, width) : cell;
      return shown + " ".repeat(Math.max(0, width - stringWidth(shown)));
    });
    return `${padded.join(GAP).trimEnd()}\n`;
  }
}

function widthOf(cell = ""): number {
  return stringWidth(printable(cell));
}

/** Cuts the widest column that may be cut, until the columns fit or none may be cut any more. */
function fitted(
  natural: readonly number[],
  columns: readonly TableColumn[],
  maxWidth: number,
): readonly number[] {
  const widths = [...natural];
  const total = (): number =>
    widths.reduce((sum, width) => sum + width, 0) + GAP.length * (widths.length - 1);
  while (total() > maxWidth) {
    const candidates = columns.flatMap(({ minWidth }, column) =>
      minWidth !== undefined && (widths[column] ?? 0) > minWidth ? [column] : [],
    );
    const [first, ...rest] = candidates;
    if (first === undefined) break;
    const widest = rest.reduce(
      (best, column) => ((widths[column] ?? 0) > (widths[best] ?? 0) ? column : best),
      first,
    );
    widths[widest] = (widths[widest] ?? 0) - 1;
  }
  return widths;
}

const CHARACTERS = new Intl.Segmenter(undefined, { granularity: "grapheme" });

/** The beginning of a text, with `…`. A character that takes two columns is never cut in half. */
function cut(text: string, width: number): string {
  let beginning = "";
  let left = width - 1;
  for (const { segment } of CHARACTERS.segment(text)) {
    left -= stringWidth(segment);
    if (left < 0) break;
    beginning += segment;
  }
  return `${beginning}…`;
}
