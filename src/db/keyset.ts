import { and, asc, desc, eq, gt, gte, isNull, lt, or, sql, type SQL } from "drizzle-orm";
import type { AnyPgColumn, PgTable } from "drizzle-orm/pg-core";
import type { Sort, TimeFilter } from "../domain/image-filter.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { Queries } from "./connect.ts";

/** The columns by which a list is sorted. */
export interface SortColumns {
  readonly key: AnyPgColumn;
  readonly id: AnyPgColumn;
}

/** The order of a list: by a column, then by id. As in an index, null is the largest value. */
export function orderOf({ key, id }: SortColumns, direction: Sort<string>["direction"]): SQL[] {
  const order = direction === "asc" ? asc : desc;
  return [order(key), order(id)];
}

/**
 * The condition that a row comes after another one in a list.
 *
 * @param marker - the id of the other row, which need not be in the list any more
 * @throws ImportError `BadRequest` if there is no such row
 */
export async function isAfter(
  db: Queries,
  table: PgTable,
  { key, id }: SortColumns,
  direction: Sort<string>["direction"],
  marker: string,
): Promise<SQL | undefined> {
  const [last] = await db
    .select({ isUnknown: sql<boolean>`${key} IS NULL` })
    .from(table)
    .where(eq(id, marker));
  if (last === undefined) {
    throw new ImportError("BadRequest", `Cannot continue the list after "${marker}": it is gone`, {
      hint: "Begin again, without a marker.",
    });
  }
  const isLater = direction === "asc" ? gt : lt;
  if (last.isUnknown) {
    const isNext = and(isNull(key), isLater(id, marker));
    return direction === "asc" ? isNext : or(isNext, sql`${key} IS NOT NULL`);
  }
  // Compared in the database: a Date of JavaScript has no microseconds.
  const row = db.select({ key, id }).from(table).where(eq(id, marker));
  const isNext =
    direction === "asc" ? sql`(${key}, ${id}) > ${row}` : sql`(${key}, ${id}) < ${row}`;
  return direction === "asc" ? or(isNext, isNull(key)) : isNext;
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
