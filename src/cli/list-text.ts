import { escapedInQuotes, isUnprintable, printable, printableJson } from "./printable.ts";
import { Table } from "./table.ts";

/** The formats of a list. */
export const LIST_FORMATS = ["table", "json", "jsonl", "csv", "yaml"] as const;

/** The format of a list. */
export type ListFormat = (typeof LIST_FORMATS)[number];

/** A column of a list. */
export interface ListColumn<Row> {
  /** The name by which users choose it, and the field of documents. */
  readonly name: string;
  /** The heading in a table. Default: the name in capital letters. */
  readonly heading?: string;
  /** The value for programs. */
  readonly value: (row: Row) => unknown;
  /** The value for people. Default: the value for programs. */
  readonly text?: (row: Row) => string;
  /** The width to which a table may cut it. Default: it is never cut. */
  readonly minWidth?: number;
}

/** The layout of a list. */
export interface ListLayout<Row> {
  readonly format: ListFormat;
  /** The chosen columns. Default: those of {@link usual}, and complete rows in documents. */
  readonly chosen?: readonly ListColumn<Row>[] | undefined;
  readonly usual: readonly ListColumn<Row>[];
  /** Columns of the terminal. Default: no limit */
  readonly width?: number | undefined;
  /** True if a terminal shows the list: control characters are escaped. Default: false */
  readonly isTerminal?: boolean;
}

/** The text of a list, page after page. */
export async function* listText<Row>(
  pages: AsyncIterable<readonly Row[]>,
  layout: ListLayout<Row>,
): AsyncGenerator<string> {
  const { chosen, usual } = layout;
  const columns = chosen ?? usual;
  const documentOf = (row: Row): unknown =>
    chosen === undefined
      ? row
      : Object.fromEntries(chosen.map(({ name, value }) => [name, value(row)]));
  switch (layout.format) {
    case "table":
      yield* tableText(pages, columns, layout.width);
      return;
    case "csv":
      yield* csvText(pages, columns, layout.isTerminal === true ? printable : (value) => value);
      return;
    case "json":
      yield* jsonText(pages, documentOf);
      return;
    case "jsonl":
      for await (const rows of pages) {
        yield rows.map((row) => `${printableJson(documentOf(row))}\n`).join("");
      }
      return;
    case "yaml":
      yield* yamlText(pages, documentOf);
  }
}

async function* tableText<Row>(
  pages: AsyncIterable<readonly Row[]>,
  columns: readonly ListColumn<Row>[],
  width: number | undefined,
): AsyncGenerator<string> {
  const table = new Table(
    columns.map(({ name, heading = name.toUpperCase(), minWidth }) => ({ heading, minWidth })),
    width,
  );
  let isFirst = true;
  for await (const rows of pages) {
    const cells = rows.map((row) => columns.map((column) => cellOf(column, row)));
    table.makeRoom(cells);
    if (isFirst) yield table.heading();
    isFirst = false;
    yield table.lines(cells);
  }
  if (isFirst) yield table.heading();
}

function cellOf<Row>({ value, text }: ListColumn<Row>, row: Row): string {
  return text === undefined ? plain(value(row)) || "-" : text(row);
}

/** A value as one text: lists with commas, objects as JSON. */
function plain(value: unknown): string {
  if (value === null || value === undefined) return "";
  if (typeof value === "string") return value;
  if (Array.isArray(value) && value.every((each) => typeof each === "string")) {
    return value.join(", ");
  }
  return JSON.stringify(value);
}

async function* csvText<Row>(
  pages: AsyncIterable<readonly Row[]>,
  columns: readonly ListColumn<Row>[],
  shown: (value: string) => string,
): AsyncGenerator<string> {
  const { stringify } = await import("csv-stringify/sync");
  yield stringify([columns.map(({ name }) => name)]);
  for await (const rows of pages) {
    yield stringify(rows.map((row) => columns.map(({ value }) => shown(plain(value(row))))));
  }
}

async function* jsonText<Row>(
  pages: AsyncIterable<readonly Row[]>,
  documentOf: (row: Row) => unknown,
): AsyncGenerator<string> {
  let separator = "";
  for await (const rows of pages) {
    for (const row of rows) {
      const document = printableJson(documentOf(row), 2).replaceAll("\n", "\n  ");
      yield `${separator === "" ? "[" : separator}\n  ${document}`;
      separator = ",";
    }
  }
  yield separator === "" ? "[]\n" : "\n]\n";
}

async function* yamlText<Row>(
  pages: AsyncIterable<readonly Row[]>,
  documentOf: (row: Row) => unknown,
): AsyncGenerator<string> {
  const { Document, Scalar, visit } = await import("yaml");
  const sequence = (rows: readonly unknown[]): string => {
    const document = new Document(rows, { aliasDuplicateObjects: false });
    visit(document, {
      Scalar: (_key, scalar) => {
        // The library leaves most characters as they are, and escapes none without quotes.
        const isQuoted = typeof scalar.value === "string" && isUnprintable(scalar.value);
        if (isQuoted) scalar.type = Scalar.QUOTE_DOUBLE;
      },
    });
    return escapedInQuotes(document.toString());
  };
  let isEmpty = true;
  for await (const rows of pages) {
    if (rows.length === 0) continue;
    isEmpty = false;
    // Sequences one after another are one sequence.
    yield sequence(rows.map(documentOf));
  }
  if (isEmpty) yield "[]\n";
}
