import { fileURLToPath } from "node:url";
import { drizzle } from "drizzle-orm/postgres-js";
import { sql } from "drizzle-orm";
import { readMigrationFiles, type MigrationMeta } from "drizzle-orm/migrator";
import type postgres from "postgres";
import { connectTo, transact, type Queries } from "./connect.ts";
import { databaseFailure } from "./database-failure.ts";

// Any number that no other program on this database uses: the letters "img".
const MIGRATION_LOCK = 0x69_6d_67;

/** Folder of the SQL files, in their order. */
export const MIGRATIONS = fileURLToPath(new URL("./migrations", import.meta.url));

/**
 * Brings a database to this version: runs the SQL files that it lacks, in order, in one
 * transaction. Safe when many processes do it at once, also on an empty database: an advisory lock
 * of the session lets one at a time look and migrate. Writes nothing to a database that is up to
 * date, so that it may be read-only.
 *
 * Drizzle's own migrator is not used: it writes in any case, and a connection that breaks in the
 * middle of its transaction ends this process (see {@link transact}). The table is Drizzle's.
 *
 * @throws ImportError `DatabaseUnavailable`, `BadConfiguration`
 */
export async function migrateDatabase(url: string): Promise<void> {
  const pool = connectTo(url, {
    max: 1,
    connect_timeout: 10,
    // The connection must last: a reconnect would have lost the lock.
    idle_timeout: 0,
    max_lifetime: null,
    connection: { application_name: "image-import migrate" },
  });
  try {
    await pool`SELECT pg_advisory_lock(${MIGRATION_LOCK})`;
    const missing = await findMissingMigrations(drizzle(pool));
    if (missing.length > 0) await runMigrations(pool, missing);
  } catch (error) {
    throw databaseFailure(error);
  } finally {
    // Ends the session, and with it the lock. The connection may be gone already.
    await pool.end({ timeout: 5 }).catch(() => undefined);
  }
}

/**
 * The migrations of this version that the database lacks, in order; all of them when it was never
 * migrated.
 */
export async function findMissingMigrations(
  db: Pick<Queries, "execute">,
): Promise<MigrationMeta[]> {
  const wanted = readMigrationFiles({ migrationsFolder: MIGRATIONS });
  const [table] = await db.execute(sql`SELECT to_regclass('drizzle.__drizzle_migrations') AS name`);
  if (table?.["name"] == null) return wanted;
  const applied = await db.execute(sql`SELECT hash FROM drizzle.__drizzle_migrations`);
  const hashes = new Set(applied.map((row) => row["hash"]));
  return wanted.filter(({ hash }) => !hashes.has(hash));
}

/** Hashes of the migrations in the database that were made after the last one of this version. */
export async function findNewerMigrations(db: Pick<Queries, "execute">): Promise<unknown[]> {
  const last = readMigrationFiles({ migrationsFolder: MIGRATIONS }).at(-1)?.folderMillis ?? 0;
  const [table] = await db.execute(sql`SELECT to_regclass('drizzle.__drizzle_migrations') AS name`);
  if (table?.["name"] == null) return [];
  const newer = await db.execute(
    sql`SELECT hash FROM drizzle.__drizzle_migrations WHERE created_at > ${last}`,
  );
  return newer.map((row) => row["hash"]);
}

async function runMigrations(pool: postgres.Sql, missing: readonly MigrationMeta[]): Promise<void> {
  await transact(pool, async (db) => {
    await db.execute(sql`CREATE SCHEMA IF NOT EXISTS drizzle`);
    await db.execute(
      sql`CREATE TABLE IF NOT EXISTS drizzle.__drizzle_migrations (id SERIAL PRIMARY KEY, hash text NOT NULL, created_at bigint)`,
    );
    for (const { sql: statements, hash, folderMillis } of missing) {
      for (const statement of statements) await db.execute(sql.raw(statement));
      await db.execute(
        sql`INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES (${hash}, ${folderMillis})`,
      );
    }
  });
}
