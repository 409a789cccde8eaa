import { sql } from "drizzle-orm";
import { readMigrationFiles } from "drizzle-orm/migrator";
import { MIGRATIONS } from "./migrate.ts";
import type { Database } from "./connect.ts";

/**
 * How many migrations of this version the database lacks; all of them when it was never migrated.
 *
 * @throws ImportError `DatabaseUnavailable`
 */
export async function countMissingMigrations(database: Database): Promise<number> {
  const wanted = readMigrationFiles({ migrationsFolder: MIGRATIONS });
  const applied = await database.query(async (db) => {
    const [table] = await db.execute(
      sql`SELECT to_regclass('drizzle.__drizzle_migrations') AS name`,
    );
    if (table?.["name"] == null) return [];
    return db.execute(sql`SELECT hash FROM drizzle.__drizzle_migrations`);
  });
  const hashes = new Set(applied.map((row) => row["hash"]));
  return wanted.filter(({ hash }) => !hashes.has(hash)).length;
}
