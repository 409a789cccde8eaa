import { getTableName, sql } from "drizzle-orm";
import type { PgTable } from "drizzle-orm/pg-core";
import { vi } from "vitest";
import type { Queries } from "../../src/db/connect.ts";
import type { Catalogue } from "./catalogue.ts";
import { PATIENCE } from "./patience.ts";

/**
 * Begins to read, and commits a change when the reader is about to read this table. What it read
 * before is of the time before the change.
 *
 * @returns the result of the reader
 */
export async function changeBetweenReads<T>(
  { database }: Pick<Catalogue, "database">,
  table: PgTable,
  { read, change }: { read: () => Promise<T>; change: (db: Queries) => Promise<unknown> },
): Promise<T> {
  const name = sql.identifier(getTableName(table));
  const begun = await database.transaction(async (db) => {
    await db.execute(sql`LOCK TABLE ${name} IN ACCESS EXCLUSIVE MODE`);
    const result = read();
    result.catch(() => undefined);
    await vi.waitUntil(async () => (await countReaders({ database }, table)) > 0, PATIENCE);
    await change(db);
    return { result };
  });
  return begun.result;
}

/** The readers that wait for a table: a database made from the same template has its id, too. */
async function countReaders(
  { database }: Pick<Catalogue, "database">,
  table: PgTable,
): Promise<number> {
  const [row] = await database.query((db) =>
    db.execute<{ readers: number }>(sql`
      SELECT count(*)::int AS readers FROM pg_locks
      WHERE relation = ${getTableName(table)}::regclass
        AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND mode = 'AccessShareLock' AND NOT granted`),
  );
  return row?.readers ?? 0;
}
