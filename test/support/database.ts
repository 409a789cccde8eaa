import { randomBytes } from "node:crypto";
import postgres from "postgres";
import { inject } from "vitest";
import { migrateDatabase } from "../../src/db/migrate.ts";

// The letters "tpl". Test files run in processes of their own; one of them makes the template.
const TEMPLATE_LOCK = 0x74_70_6c;

const TEMPLATE = "image_import_template";

/** A database of one test's own. */
export interface TestDatabase {
  /** Its address, with the right to do everything in it. */
  readonly url: string;
  /** Drops it, and ends every connection to it. */
  drop(): Promise<void>;
}

/**
 * Makes a database at this version's schema, empty, in some 70 ms: a copy of a template that is
 * migrated once.
 */
export async function createTestDatabase(): Promise<TestDatabase> {
  return makeDatabase(async (sql, name) => {
    await sql`SELECT pg_advisory_lock(${TEMPLATE_LOCK})`;
    await ensureTemplate(sql);
    await sql`CREATE DATABASE ${sql(name)} TEMPLATE ${sql(TEMPLATE)}`;
  });
}

/** Makes a database without any table. */
export async function createEmptyTestDatabase(): Promise<TestDatabase> {
  return makeDatabase(async (sql, name) => {
    await sql`CREATE DATABASE ${sql(name)}`;
  });
}

async function makeDatabase(
  create: (sql: postgres.Sql, name: string) => Promise<void>,
): Promise<TestDatabase> {
  const name = `test_${randomBytes(6).toString("hex")}`;
  await withAdmin(async (sql) => create(sql, name));
  const drop = async (): Promise<void> => {
    await withAdmin(async (sql) => sql`DROP DATABASE IF EXISTS ${sql(name)} WITH (FORCE)`);
  };
  return { url: databaseUrl(name), drop };
}

/** Migrated under another name and renamed, so that a template that exists is complete. */
async function ensureTemplate(sql: postgres.Sql): Promise<void> {
  const found = await sql`SELECT 1 FROM pg_database WHERE datname = ${TEMPLATE}`;
  if (found.length > 0) return;
  const unfinished = `${TEMPLATE}_new`;
  await sql`DROP DATABASE IF EXISTS ${sql(unfinished)} WITH (FORCE)`;
  await sql`CREATE DATABASE ${sql(unfinished)}`;
  await migrateDatabase(databaseUrl(unfinished));
  await sql`ALTER DATABASE ${sql(unfinished)} RENAME TO ${sql(TEMPLATE)}`;
}

/** One session, so that the advisory lock is held until its end. */
async function withAdmin<Answer>(work: (sql: postgres.Sql) => Promise<Answer>): Promise<Answer> {
  const sql = postgres(inject("adminDatabaseUrl"), { max: 1, onnotice: () => undefined });
  try {
    return await work(sql);
  } finally {
    await sql.end({ timeout: 5 });
  }
}

function databaseUrl(name: string): string {
  const url = new URL(inject("adminDatabaseUrl"));
  url.pathname = `/${name}`;
  return url.href;
}
