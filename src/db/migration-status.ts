import { sql } from "drizzle-orm";
import type { Database } from "./connect.ts";
import { findMissingMigrations, findNewerMigrations } from "./migrate.ts";

/**
 * The number of migrations of this version that the database lacks; all of them if it was never
 * migrated.
 *
 * @throws ImportError `DatabaseUnavailable`, `BadConfiguration`
 */
export async function countMissingMigrations(database: Database): Promise<number> {
  return (await database.query((db) => findMissingMigrations(db))).length;
}

/**
 * The number of migrations of newer versions that the database has.
 *
 * @throws ImportError `DatabaseUnavailable`, `BadConfiguration`
 */
export async function countNewerMigrations(database: Database): Promise<number> {
  return database.query(async (db) => (await findNewerMigrations(db)).length);
}

/**
 * True if the database takes writes: it is neither a standby nor set to read-only.
 *
 * @throws ImportError `DatabaseUnavailable`
 */
export async function takesWrites(database: Database): Promise<boolean> {
  const [row] = await database.query((db) =>
    db.execute(sql`SELECT current_setting('transaction_read_only') = 'off' AS writes`),
  );
  return row?.["writes"] === true;
}
