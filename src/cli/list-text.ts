import { Table } from "./table.ts";

/** The formats of a list. */
export const LIST_FORMATS = ["table", "json", "jsonl", "csv", "yaml"] as const;

/** The format of a list. */
export type ListFormat = (typeof LIST_FORMATS)[number];

/** A column of a list. */
export interface ListColumn<Row> {
  /** As users choose it, and as the documents have it. */
  readonly name: string;
  /** In a table. Default: the name in capital letters. */
  readonly heading?: string;
  /** The value for programs. */
  readonly value: (row: Row) => unknown;
  /** The value for people. Default: the value for programs. */
  readonly text?: (row: Row) => string;
  /** Characters to which a table may cut it. Default: it is never cut. */
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
      yield* csvText(pages, columns);
      return;
    case "json":
      yield* jsonText(pages, documentOf);
      return;
    case "jsonl":
      for await (const rows of pages) {
        yield rows.map((row) => `${JSON.stringify(documentOf(row))}\n`).join("");
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
): AsyncGenerator<string> {
  const { stringify } = await import("csv-stringify/sync");
  yield stringify([columns.map(({ name }) => name)]);
  for await (const rows of pages) {
    yield stringify(rows.map((row) => columns.map(({ value }) => plain(value(row)))));
  }
}

async function* jsonText<Row>(
  pages: AsyncIterable<readonly Row[]>,
  documentOf: (row: Row) => unknown,
): AsyncGenerator<string> {
  let separator = "";
  for await (const rows of pages) {
    for (const row of rows) {
      const document = JSON.stringify(documentOf(row), null, 2).replaceAll("\n", "\n  ");
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
  const { stringify } = await import("yaml");
  let isEmpty = true;
  for await (const rows of pages) {
    if (rows.length === 0) continue;
    isEmpty = false;
    // Sequences one after another are one sequence.
    yield stringify(rows.map(documentOf), { aliasDuplicateObjects: false });
  }
  if (isEmpty) yield "[]\n";
}
