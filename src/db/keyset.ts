import { and, asc, desc, eq, gt, gte, lt, lte, ne, or, sql, type SQL } from "drizzle-orm";
import type { AnyPgColumn, PgTable } from "drizzle-orm/pg-core";
import type { Sort, TimeFilter } from "../domain/image-filter.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { Queries } from "./connect.ts";

/** A value by which a list is sorted. It is never NULL, or an index could not begin after it. */
export interface SortKey {
  readonly value: SQL;
  /** The type of the column, in the words of Postgres. */
  readonly type: string;
}

/** The sort key of a column without NULLs. */
export function known(column: AnyPgColumn): SortKey {
  return { value: sql`${column}`, type: column.getSQLType() };
}

/** The sort key of a column where an unknown value counts as an empty one. */
export function knownOrEmpty(column: AnyPgColumn): SortKey {
  const type = column.getSQLType();
  return {
    value: type === "text" ? sql`coalesce(${column}, '')` : sql`coalesce(${column}, 0)`,
    type,
  };
}

/** One key of the order of a list. */
interface Ordered extends SortKey {
  readonly key: string;
  readonly direction: Sort<string>["direction"];
}

const TIE_BREAKERS = ["created_at", "id"] as const;
type TieBreaker = (typeof TIE_BREAKERS)[number];

/**
 * The order of a list: its keys, then `created_at`, then `id`, in the direction of the keys, or
 * descending if the keys have different directions. No two rows are equal in it.
 */
export function orderOf<Key extends string>(
  keys: Readonly<Record<Key, SortKey> & Record<TieBreaker, SortKey>>,
  sort: Sort<Key> | readonly Sort<Key>[] = [],
): Ordered[] {
  const sorts: readonly Sort<Key | TieBreaker>[] = [sort].flat();
  const isAscending = sorts.length > 0 && sorts.every(({ direction }) => direction === "asc");
  const ties = TIE_BREAKERS.map((key) => ({
    key,
    direction: isAscending ? ("asc" as const) : ("desc" as const),
  }));
  const order = new Map<string, Ordered>();
  for (const each of [...sorts, ...ties]) {
    if (!order.has(each.key)) order.set(each.key, { ...keys[each.key], ...each });
    // Ids are unique: later keys decide nothing.
    if (each.key === "id") break;
  }
  return [...order.values()];
}

/** An order in the words of ORDER BY. */
export function orderBy(order: readonly Ordered[]): SQL[] {
  return order.map(({ value, direction }) => (direction === "asc" ? asc(value) : desc(value)));
}

/**
 * The condition that a row comes after another one in a list.
 *
 * @param marker - the id of the other row, which need not be in the list any more
 * @param isKnown - a condition on the other row. Default: none
 * @throws ImportError `BadRequest` if there is no such row
 */
export async function isAfter(
  db: Queries,
  table: PgTable & { readonly id: AnyPgColumn },
  order: readonly Ordered[],
  marker: string,
  isKnown?: SQL,
): Promise<SQL | undefined> {
  // As text: a Date of JavaScript has no microseconds.
  const values = order.map(({ value }, index) => [String(index), sql<string>`${value}::text`]);
  const [last] = await db
    .select(Object.fromEntries(values) as Record<string, SQL<string>>)
    .from(table)
    .where(and(eq(table.id, marker), isKnown));
  if (last === undefined) {
    throw new ImportError("BadRequest", `Cannot continue the list after "${marker}": it is gone`, {
      hint: "Begin again, without a marker.",
    });
  }
  const isNext = isNotBefore(
    order.map((each, index) => ({
      ...each,
      last: sql`${last[String(index)]}::${sql.raw(each.type)}`,
    })),
  );
  return and(isNext, ne(table.id, marker));
}

/**
 * The condition that the values of a row do not come before the last ones, in a form with which an
 * index can begin there.
 */
function isNotBefore(order: readonly (Ordered & { readonly last: SQL })[]): SQL | undefined {
  const [first, ...others] = order;
  if (first === undefined) return undefined;
  const { value, last, direction } = first;
  if (order.every((each) => each.direction === direction)) {
    const row = (cells: readonly SQL[]): SQL => sql`(${sql.join([...cells], sql`, `)})`;
    const values = row(order.map((each) => each.value));
    const lasts = row(order.map((each) => each.last));
    // Not `<` or `>`: Postgres estimates a comparison of rows by their first values alone. It would
    // expect no rows with the same first value as the marker, and so read and sort them all.
    return direction === "asc" ? sql`${values} >= ${lasts}` : sql`${values} <= ${lasts}`;
  }
  const isLater = direction === "asc" ? gt(value, last) : lt(value, last);
  return and(
    direction === "asc" ? gte(value, last) : lte(value, last),
    or(isLater, isNotBefore(others)),
  );
}

/** The condition that the times of a row are within limits. */
export function isInTime(
  { createdAt, updatedAt }: { readonly createdAt: AnyPgColumn; readonly updatedAt: AnyPgColumn },
  { createdAfter, createdBefore, updatedAfter, updatedBefore }: TimeFilter,
): SQL | undefined {
  return and(
    createdAfter === undefined ? undefined : gte(createdAt, createdAfter),
    createdBefore === undefined ? undefined : lt(createdAt, createdBefore),
    updatedAfter === undefined ? undefined : gte(updatedAt, updatedAfter),
    updatedBefore === undefined ? undefined : lt(updatedAt, updatedBefore),
  );
}
