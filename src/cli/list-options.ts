import { InvalidArgumentError, Option, type Command } from "commander";
import { reported } from "../config/terminal-settings.ts";
import { parseInstant } from "../domain/instant.ts";
import type { Sort, TimeFilter } from "../domain/image-filter.ts";
import { countOf } from "./arguments.ts";
import { LIST_FORMATS, listText, type ListColumn, type ListFormat } from "./list-text.ts";
import type { Session } from "./session.ts";

/** The options of every list, as commander gives them. */
export interface ListOptions<Key extends string> extends TimeFilter {
  readonly sort?: readonly Sort<Key>[];
  readonly limit?: number;
  readonly marker?: string;
  readonly column?: readonly string[];
  readonly format?: ListFormat;
}

/** Adds the options of {@link ListOptions}. */
export function addListOptions(
  command: Command,
  keys: readonly string[],
  columns: readonly ListColumn<never>[],
): void {
  const names = columns.map(({ name }) => name);
  const time = (flag: string, description: string): Option =>
    new Option(`--${flag} <time>`, description).argParser(instantOf);
  command
    .addOption(
      time(
        "created-after",
        "only those created at this time or later: a date, or an age such as 7d",
      ),
    )
    .addOption(time("created-before", "only those created before this time"))
    .addOption(time("updated-after", "only those changed at this time or later"))
    .addOption(time("updated-before", "only those changed before this time"))
    .addOption(
      new Option(
        "--sort <key:direction>",
        "order, by several keys if they are separated by commas; default: created_at:desc",
      )
        .choices(keys.flatMap((key) => [`${key}:asc`, `${key}:desc`]))
        .argParser((value: string) => value.split(",").map((each) => sortOf(each, keys))),
    )
    .addOption(new Option("--limit <count>", "largest number; default: all").argParser(countOf))
    .option("--marker <id>", "begin after this id, the last one of the previous page")
    .addOption(
      new Option("-c, --column <name>", "column to show, may be repeated")
        .choices(names)
        .argParser(columnsOf(names)),
    )
    .addOption(
      new Option(
        "-f, --format <format>",
        "form of the list; default: table, with --json: json",
      ).choices(LIST_FORMATS),
    );
}

/** Parses a time: a date, or an age such as 7d. */
export function instantOf(value: string): Date {
  const instant = parseInstant(value);
  if (instant !== undefined) return instant;
  throw new InvalidArgumentError(
    "It must be a time such as 2026-11-30, 2026-11-30T06:00Z or 7d (ago).",
  );
}

function sortOf(value: string, keys: readonly string[]): Sort<string> {
  const [key = "", direction = "asc", ...more] = value.split(":");
  const isRight = (direction === "asc" || direction === "desc") && more.length === 0;
  if (isRight && keys.includes(key)) return { key, direction };
  throw new InvalidArgumentError(
    `It must be KEY, KEY:asc or KEY:desc, with KEY one of ${keys.join(", ")}.`,
  );
}

function columnsOf(names: readonly string[]) {
  return (value: string, earlier?: readonly string[]): readonly string[] => {
    const named = value.split(",");
    const unknown = named.find((name) => !names.includes(name));
    if (unknown === undefined) return [...(earlier ?? []), ...named];
    throw new InvalidArgumentError(
      `There is no column "${unknown}"; the columns are ${names.join(", ")}.`,
    );
  };
}

/** The part of a filter that every list has, from the options of the command. */
export function pageOf<Key extends string>({
  createdAfter,
  createdBefore,
  updatedAfter,
  updatedBefore,
  sort,
}: ListOptions<Key>) {
  return { createdAfter, createdBefore, updatedAfter, updatedBefore, sort };
}

/** The rows of a list, and its columns. */
export interface List<Row> {
  /** Such as `images`. */
  readonly what: string;
  readonly columns: readonly ListColumn<Row>[];
  /** Names of the columns that are shown by default. */
  readonly usual: readonly string[];
  /** Reads the rows, page after page. */
  readonly pages: (page: { readonly limit?: number }) => AsyncIterable<readonly Row[]>;
}

/** Answers with a list. If rows are left out because of `--limit`, a note says how to continue. */
export async function answerList<Row extends { readonly id: string }>(
  session: Session,
  { what, columns, usual, pages }: List<Row>,
  { limit = Infinity, column, format }: ListOptions<string>,
): Promise<void> {
  const named = (names: readonly string[]): ListColumn<Row>[] =>
    names.flatMap((name) => columns.find((each) => each.name === name) ?? []);
  const end: { lastId?: string; isMore: boolean } = { isMore: false };
  const shown = async function* (): AsyncGenerator<readonly Row[]> {
    let left = limit;
    // One row more than is shown, to find out if there are more.
    for await (const rows of pages(limit < MOST_AT_ONCE ? { limit: limit + 1 } : {})) {
      const some = rows.slice(0, left);
      left -= some.length;
      const last = some.at(-1);
      if (last !== undefined) end.lastId = last.id;
      if (some.length > 0) yield some;
      end.isMore = some.length < rows.length;
      if (end.isMore) return;
    }
  };
  await session.stream(
    listText(shown(), {
      format: format ?? (session.isJson ? "json" : "table"),
      chosen: column === undefined ? undefined : named(column),
      usual: named(usual),
      width: process.stdout.isTTY ? reported(process.stdout.columns) : undefined,
      isTerminal: process.stdout.isTTY,
    }),
  );
  // For a program, standard error holds one document at most.
  if (!end.isMore || session.isJson) return;
  session.progress.warn(
    `There are more ${what}: \`--marker ${end.lastId ?? ""}\` continues the list`,
  );
}

// The size of a page of the client: a longer list is read page after page.
const MOST_AT_ONCE = 500;
