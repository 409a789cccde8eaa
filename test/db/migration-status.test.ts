import { readFileSync } from "node:fs";
import { describe, expect, it, onTestFinished } from "vitest";
import { Database } from "../../src/db/connect.ts";
import { migrateDatabase } from "../../src/db/migrate.ts";
import { countMissingMigrations, countNewerMigrations } from "../../src/db/migration-status.ts";
import { findFreePort } from "../../src/stack/ports.ts";
import { createEmptyTestDatabase } from "../support/database.ts";
import { failureOf } from "../support/failure-of.ts";

const JOURNAL = new URL("../../src/db/migrations/meta/_journal.json", import.meta.url);

/** The number of migrations in this version. */
function migrationCount(): number {
  return (JSON.parse(readFileSync(JOURNAL, "utf8")) as { entries: unknown[] }).entries.length;
}

function open(url: string): Database {
  const database = new Database({ url });
  onTestFinished(() => database.close());
  return database;
}

describe("countMissingMigrations()", () => {
  it("counts all of them in an empty database", async () => {
    const empty = await createEmptyTestDatabase();
    onTestFinished(() => empty.drop());

    expect(await countMissingMigrations(open(empty.url))).toBe(migrationCount());
  });

  it("counts none in a database that is up to date", async () => {
    const empty = await createEmptyTestDatabase();
    onTestFinished(() => empty.drop());
    await migrateDatabase(empty.url);

    expect(await countMissingMigrations(open(empty.url))).toBe(0);
  });

  it("fails when the database is unreachable", async () => {
    const url = `postgres://user@127.0.0.1:${await findFreePort()}/nothing`;

    expect(await failureOf(countMissingMigrations(open(url)))).toMatchObject({
      code: "DatabaseUnavailable",
    });
  });
});

describe("countNewerMigrations()", () => {
  it("counts what a newer version has added, in a database that has all of this version", async () => {
    const empty = await createEmptyTestDatabase();
    onTestFinished(() => empty.drop());
    const database = open(empty.url);
    const neverMigrated = await countNewerMigrations(database);
    await migrateDatabase(empty.url);
    const upToDate = await countNewerMigrations(database);
    const later = String(Date.now() + 1_000 * 86_400_000);
    await database.query((db) =>
      db.execute(
        `INSERT INTO drizzle.__drizzle_migrations (hash, created_at) VALUES ('of later', ${later})`,
      ),
    );

    const newer = await countNewerMigrations(database);

    expect([neverMigrated, upToDate, newer]).toEqual([0, 0, 1]);
  });
});
