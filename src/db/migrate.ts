import { fileURLToPath } from "node:url";
import { drizzle } from "drizzle-orm/postgres-js";
import { migrate } from "drizzle-orm/postgres-js/migrator";
import postgres from "postgres";
import { databaseFailure } from "./connect.ts";

// Any number that no other program on this database uses: the letters "img".
const MIGRATION_LOCK = 0x69_6d_67;

/** Folder of the SQL files, in their order. */
export const MIGRATIONS = fileURLToPath(new URL("./migrations", import.meta.url));

/**
 * Brings a database to this version: runs the SQL files that it lacks, in order. Safe when many processes do it at
 * once, also on an empty database: an advisory lock of the session lets one at a time look and migrate. It runs on
 * one connection of its own, because the lock belongs to a session and drizzle's migrator must run inside it.
 *
 * @throws ImportError `DatabaseUnavailable`
 */
export async function migrateDatabase(url: string): Promise<void> {
  const sql = postgres(url, {
    max: 1,
    connect_timeout: 10,
    // Until the connection ends by itself: a reconnect would have lost the lock.
    idle_timeout: 0,
    max_lifetime: null,
    onnotice: () => undefined,
    connection: { application_name: "image-import migrate" },
  });
  try {
    await sql`SELECT pg_advisory_lock(${MIGRATION_LOCK})`;
    await migrate(drizzle(sql), { migrationsFolder: MIGRATIONS });
  } catch (error) {
    throw databaseFailure(error);
  } finally {
    // Ends the session, and so the lock.
    await sql.end({ timeout: 5 });
  }
}
