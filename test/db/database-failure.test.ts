import { randomUUID } from "node:crypto";
import { sql, type SQL } from "drizzle-orm";
import { describe, expect, it, onTestFinished } from "vitest";
import { Database, type DatabaseOptions } from "../../src/db/connect.ts";
import { databaseFailure, DatabaseRefusal, StatementError } from "../../src/db/database-failure.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { createTestDatabase } from "../support/database.ts";
import { failureOf } from "../support/failure-of.ts";

const catalogue = useCatalogue();

function open(options: Partial<DatabaseOptions> = {}): Database {
  const database = new Database({ url: catalogue.url, ...options });
  onTestFinished(() => database.close());
  return database;
}

/** A new role for the running test, without any rights. */
async function newRole(options: string): Promise<string> {
  const name = `role_${randomUUID().slice(0, 8)}`;
  await catalogue.execute(sql.raw(`CREATE ROLE ${name} LOGIN PASSWORD 'secret' ${options}`));
  onTestFinished(() => catalogue.execute(sql.raw(`DROP ROLE ${name}`)));
  const url = new URL(catalogue.url);
  url.username = name;
  url.password = "secret";
  return url.href;
}

/** The error with which a statement fails. */
async function thrownBy(statement: SQL, database = open()): Promise<Error> {
  try {
    await database.query((db) => db.execute(statement));
  } catch (error) {
    if (error instanceof Error) return error;
  }
  throw new Error("The statement did not fail");
}

/** An error with this SQLSTATE, as Postgres sends it. */
function raised(state: string): SQL {
  return sql.raw(`DO $$ BEGIN RAISE EXCEPTION 'it went wrong' USING ERRCODE = '${state}'; END $$`);
}

describe("databaseFailure()", () => {
  it("treats a write to a read-only database as retryable, and sends the next one to a new session", async () => {
    const own = await createTestDatabase();
    onTestFinished(() => own.drop());
    const { url } = own;
    const readOnly = (state: "on" | "off") =>
      catalogue.execute(
        sql.raw(
          `ALTER DATABASE ${new URL(url).pathname.slice(1)} SET default_transaction_read_only = ${state}`,
        ),
      );
    const insert = sql`INSERT INTO images (id) VALUES (${randomUUID()})`;
    await readOnly("on");
    const database = open({ url });

    const failure = await thrownBy(insert, database);
    await readOnly("off");

    expect(failure).toMatchObject({
      code: "DatabaseUnavailable",
      retryable: true,
      message: "Postgres: cannot execute INSERT in a read-only transaction",
      hint: expect.stringContaining("The database is read-only") as string,
    });
    await database.query((db) => db.execute(insert));
  });

  it("is retryable when Postgres has no connection left", async () => {
    const url = await newRole("CONNECTION LIMIT 0");

    expect(await thrownBy(sql`SELECT 1`, open({ url }))).toMatchObject({
      code: "DatabaseUnavailable",
      hint: expect.stringContaining("max_connections") as string,
    });
  });

  it("is retryable while the password is wrong, and names the setting to correct", async () => {
    const url = new URL(await newRole(""));
    url.password = "another";

    const failure = await thrownBy(sql`SELECT 1`, open({ url: url.href }));

    expect(failure).toMatchObject({
      code: "DatabaseUnavailable",
      hint: expect.stringContaining("user and password in DATABASE_URL") as string,
    });
    expect(failure.message).not.toContain("another");
  });

  it("is retryable when the server does not support TLS, and names the setting to correct", async () => {
    const url = `${catalogue.url}?sslmode=verify-full`;

    expect(await thrownBy(sql`SELECT 1`, open({ url }))).toMatchObject({
      code: "DatabaseUnavailable",
    });
  });

  it("reports the missing right when the user may not run the statement", async () => {
    const failure = await thrownBy(sql`SELECT * FROM images`, open({ url: await newRole("") }));

    expect(failure).toBeInstanceOf(DatabaseRefusal);
    expect(failure).toMatchObject({
      code: "BadConfiguration",
      message: "Postgres: permission denied for table images",
      hint: expect.stringContaining("GRANT") as string,
    });
  });

  it.each([
    ["a table", sql`SELECT * FROM not_there`],
    ["a column", sql`SELECT not_there FROM images`],
    ["a schema", sql`CREATE TABLE not_there.x (id int)`],
  ])("names `migrate` when %s is missing", async (_, statement) => {
    expect(await thrownBy(statement)).toMatchObject({
      code: "BadConfiguration",
      hint: "`image-import migrate` brings the database up to date.",
    });
  });

  it.each([
    ...["08006", "0A000", "25006", "25P02", "26000", "28000", "3D000", "40001", "40003", "40P01"],
    ...["42P05", "53000", "53100", "53200", "53300", "53400", "54000", "55000", "55006", "55P03"],
    ...["57000", "57014", "57P01", "57P02", "57P03", "57P04", "57P05", "58000", "58030", "58P01"],
    ...["72000", "F0000", "XX000", "XX001", "XX002", "ZZ999"],
  ])("treats SQLSTATE %s as retryable", async (state) => {
    expect(await thrownBy(raised(state))).toMatchObject({
      code: "DatabaseUnavailable",
      retryable: true,
      message: "Postgres: it went wrong",
    });
  });

  it.each(["21000", "22023", "23505", "42601", "54001", "P0001"])(
    "treats SQLSTATE %s as a bug",
    async (state) => {
      const failure = await thrownBy(raised(state));

      expect(failure).toBeInstanceOf(StatementError);
      expect(failure).toMatchObject({ code: state, message: `Postgres ${state}: it went wrong` });
    },
  );

  it.each([
    [
      "a constraint",
      (secret: string) => sql`INSERT INTO images (id, status) VALUES (NULL, ${secret})`,
    ],
    ["a type", (secret: string) => sql`SELECT ${secret}::uuid`],
    ["a syntax error", (secret: string) => sql`SELEKT ${secret}`],
    ["a missing table", (secret: string) => sql`SELECT ${secret} FROM not_there`],
  ])("never repeats a statement or its parameters when %s stops it", async (_, statement) => {
    const secret = `hidden-${randomUUID()}`;

    const failure = await thrownBy(statement(secret));

    const told: string[] = [];
    for (let cause: unknown = failure; cause instanceof Error; cause = cause.cause) {
      told.push(cause.message, cause.stack ?? "", JSON.stringify(cause));
    }
    expect(told.join("\n")).not.toContain(secret);
    expect(told.join("\n")).not.toMatch(/Failed query|SELEKT \$1/);
  });

  it("returns an ImportError and an error of the work unchanged", async () => {
    const ours = new ImportError("ImageBusy", "Not now");

    expect(await failureOf(open().transaction(async () => Promise.reject(ours)))).toBe(ours);
    expect(databaseFailure(new TypeError("x is not a function"))).toBeInstanceOf(TypeError);
  });
});
