import { readFileSync } from "node:fs";
import { generateDrizzleJson, generateMigration } from "drizzle-kit/api";
import postgres from "postgres";
import { describe, expect, it, onTestFinished } from "vitest";
import { Database } from "../../src/db/connect.ts";
import { listImages } from "../../src/db/image-list.ts";
import { migrateDatabase } from "../../src/db/migrate.ts";
import * as schema from "../../src/db/schema.ts";
import { findFreePort } from "../../src/stack/ports.ts";
import { createEmptyTestDatabase } from "../support/database.ts";
import { failureOf } from "../support/failure-of.ts";
import { Relay } from "../support/relay.ts";
import { PATIENCE } from "../support/patience.ts";

const TABLES = [
  "image_history",
  "image_locations",
  "image_members",
  "image_properties",
  "image_tags",
  "images",
  "leases",
  "staged_files",
  "store_marks",
  "tasks",
  "volume_uses",
];

/** A new empty database for the running test, and a connection to it. */
async function emptyDatabase(): Promise<{ url: string; sql: postgres.Sql }> {
  const database = await createEmptyTestDatabase();
  const sql = postgres(database.url, { max: 1, onnotice: () => undefined });
  onTestFinished(async () => {
    await sql.end({ timeout: 1 });
    await database.drop();
  });
  return { url: database.url, sql };
}

async function tablesOf(sql: postgres.Sql): Promise<string[]> {
  const rows = await sql<{ name: string }[]>`
    SELECT table_name AS name FROM information_schema.tables
    WHERE table_schema = 'public' ORDER BY table_name`;
  return rows.map(({ name }) => name);
}

async function migrationsOf(sql: postgres.Sql): Promise<number> {
  return (await sql`SELECT 1 FROM drizzle.__drizzle_migrations`).length;
}

async function waitersOf(sql: postgres.Sql): Promise<number> {
  const rows = await sql`
    SELECT 1 FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database
    WHERE datname = current_database() AND NOT granted`;
  return rows.length;
}

function journal(): { entries: readonly { tag: string }[] } {
  const path = new URL("../../src/db/migrations/meta/_journal.json", import.meta.url);
  return JSON.parse(readFileSync(path, "utf8")) as { entries: { tag: string }[] };
}

function statementsOf(migration: string): string[] {
  const path = new URL(`../../src/db/migrations/${migration}.sql`, import.meta.url);
  return readFileSync(path, "utf8").split("--> statement-breakpoint");
}

describe("migrateDatabase()", () => {
  it("makes all tables in an empty database", async () => {
    const { url, sql } = await emptyDatabase();

    await migrateDatabase(url);

    expect(await tablesOf(sql)).toEqual(TABLES);
  });

  it("makes them once when eight processes migrate an empty database at the same time", async () => {
    const { url, sql } = await emptyDatabase();

    await Promise.all(Array.from({ length: 8 }, () => migrateDatabase(url)));

    expect(await tablesOf(sql)).toEqual(TABLES);
    expect(await migrationsOf(sql)).toBe(journal().entries.length);
  });

  it("changes nothing in a database that is up to date", async () => {
    const { url, sql } = await emptyDatabase();
    await migrateDatabase(url);
    await sql`INSERT INTO images (id) VALUES ('6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b')`;

    await migrateDatabase(url);

    expect(await sql`SELECT id FROM images`).toHaveLength(1);
    expect(await migrationsOf(sql)).toBe(journal().entries.length);
  });

  it("waits for another migration, and continues when that one dies", async () => {
    const { url, sql } = await emptyDatabase();
    const other = postgres(url, { max: 1 });
    await other`SELECT pg_advisory_lock(${0x69_6d_67})`;

    const migrating = migrateDatabase(url);
    await expect.poll(async () => waitersOf(sql), PATIENCE).toBe(1);
    const tablesMeanwhile = await tablesOf(sql);
    await other.end({ timeout: 0 });
    await migrating;

    expect(tablesMeanwhile).toEqual([]);
    expect(await tablesOf(sql)).toEqual(TABLES);
  });

  it("leaves nothing half done when a migration fails", async () => {
    const { url, sql } = await emptyDatabase();
    await sql`CREATE TABLE tasks (id text)`;

    await expect(migrateDatabase(url)).rejects.toThrow();

    expect(await tablesOf(sql)).toEqual(["tasks"]);
  });

  it("writes nothing to a database that is up to date, even if it is read-only", async () => {
    const { url, sql } = await emptyDatabase();
    await migrateDatabase(url);
    await sql.unsafe(
      `ALTER DATABASE ${new URL(url).pathname.slice(1)} SET default_transaction_read_only = on`,
    );

    await expect(migrateDatabase(url)).resolves.toBeUndefined();
  });

  it("fails with DatabaseUnavailable, and leaves nothing half done, when the connection breaks in the middle", async () => {
    const { url, sql } = await emptyDatabase();
    const relay = await Relay.open(url);
    relay.cutInsteadOfAnswerTo("__drizzle_migrations (hash");

    const failure = await failureOf(migrateDatabase(relay.through(url)));
    await migrateDatabase(url);

    expect(failure).toMatchObject({ code: "DatabaseUnavailable" });
    expect(await tablesOf(sql)).toEqual(TABLES);
  });

  it("fails with DatabaseUnavailable when no server listens", async () => {
    const url = `postgres://user@127.0.0.1:${await findFreePort()}/nothing`;

    expect(await failureOf(migrateDatabase(url))).toMatchObject({
      code: "DatabaseUnavailable",
      retryable: true,
    });
  });

  it("gives failed tasks of 0.1.0 the code that their message has", async () => {
    const { url, sql } = await emptyDatabase();
    await migrateDatabase(url);
    await sql`ALTER TABLE tasks DROP code, DROP hint, DROP step, DROP store`;
    const tasks = [
      ["failure", 'Error: NoSpace: store "fast": it is full', "NoSpace"],
      ["failure", "ended by hand", null],
      ["success", "", null],
    ] as const;
    for (const [status, message] of tasks) {
      await sql`INSERT INTO tasks (id, status, image_id, workflow_id, run_id, input, message)
        VALUES (gen_random_uuid(), ${status}, gen_random_uuid(), 'w', 'r', '{}', ${message})`;
    }

    for (const statement of statementsOf("0007_task_failures")) await sql.unsafe(statement);

    const migrated = await sql<{ status: string; message: string; code: string | null }[]>`
      SELECT status, message, code FROM tasks ORDER BY message DESC`;
    expect(migrated.map(({ status, message, code }) => [status, message, code])).toEqual([
      tasks[1],
      tasks[0],
      tasks[2],
    ]);
  });

  it("keeps the images of the release before, as shared ones with their members to come", async () => {
    const { url, sql } = await emptyDatabase();
    const [before, after] = [
      journal().entries.filter(({ tag }) => tag < "0011"),
      journal().entries.filter(({ tag }) => tag >= "0011"),
    ];
    const migrate = async (entries: readonly { tag: string }[]): Promise<void> => {
      await sql.begin(async (transaction) => {
        for (const { tag } of entries) {
          for (const statement of statementsOf(tag)) await transaction.unsafe(statement);
        }
      });
    };
    await migrate(before);
    const long = "x".repeat(65_535);
    await sql`INSERT INTO images (id, name, owner) VALUES
      ('6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b', 'debian', 'ann')`;
    await sql`INSERT INTO image_properties (image_id, name, value) VALUES
      ('6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b', 'os', ${long})`;
    await sql`INSERT INTO tasks (id, image_id, workflow_id, run_id, input)
      VALUES (gen_random_uuid(), '6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b', 'w', 'r', '{}')`;

    await migrate(after);

    const database = new Database({ url });
    onTestFinished(() => database.close());
    const listed = await database.query((db) => listImages(db, { properties: { os: long } }));
    expect(listed).toMatchObject([
      {
        image: {
          name: "debian",
          owner: "ann",
          visibility: "shared",
          protected: false,
          osHidden: false,
          minDisk: 0,
          minRam: 0,
        },
        properties: { os: long },
      },
    ]);
    expect(await sql`SELECT user_id FROM tasks`).toMatchObject([{ user_id: null }]);
  });

  it("leads to the tables of the schema", async () => {
    const last = journal().entries.at(-1)?.tag.slice(0, 4) ?? "";
    const path = new URL(`../../src/db/migrations/meta/${last}_snapshot.json`, import.meta.url);
    // drizzle-kit's type of it can't be resolved here.
    const migrated = JSON.parse(readFileSync(path, "utf8")) as never;

    expect(await generateMigration(migrated, generateDrizzleJson({ ...schema }))).toEqual([]);
  });
});
