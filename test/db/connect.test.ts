import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { sql, type SQL } from "drizzle-orm";
import { describe, expect, it, onTestFinished } from "vitest";
import { Database, type DatabaseOptions, type Queries } from "../../src/db/connect.ts";
import { insertImage } from "../../src/db/image-records.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import { findFreePort } from "../../src/stack/ports.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import { Relay } from "../support/relay.ts";
import { PATIENCE } from "../support/patience.ts";

const IMAGE_ID = "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b";

const catalogue = useCatalogue();

/** The catalogue's database, with a separate pool for the running test. */
function open(options: Partial<DatabaseOptions> = {}): Database {
  const database = new Database({ url: catalogue.url, ...options });
  onTestFinished(() => database.close());
  return database;
}

/** The same, through a relay. */
async function openRelayed(
  options: Partial<DatabaseOptions> = {},
): Promise<{ database: Database; relay: Relay }> {
  const relay = await Relay.open(catalogue.url);
  return { database: open({ url: relay.through(catalogue.url), ...options }), relay };
}

async function valueOf(db: Queries, expression: SQL): Promise<unknown> {
  const [row] = await db.execute(sql`SELECT ${expression} AS value`);
  return row?.["value"];
}

/** The process id of the server session that serves this pool. */
async function sessionOf(db: Queries): Promise<number> {
  return (await valueOf(db, sql`pg_backend_pid()`)) as number;
}

async function endSession(pid: number): Promise<void> {
  await catalogue.execute(sql`SELECT pg_terminate_backend(${pid}, 10000)`);
}

/** Waits until the pool has a new connection: statements on the ending one still fail. */
async function expectToBeBack(database: Database): Promise<void> {
  await expect.poll(() => database.query((db) => valueOf(db, sql`42`)), PATIENCE).toBe(42);
}

async function imageExists(imageId: string): Promise<boolean> {
  return catalogue.image(imageId).then(
    () => true,
    () => false,
  );
}

describe("Database", () => {
  it("does not count the wait for other statements as silence of the server", async () => {
    // The client's limit is 5 s behind that of the server.
    const database = open({ maxConnections: 1, statementTimeoutMs: 1_500 });

    const answers = await Promise.all(
      Array.from({ length: 8 }, () =>
        database.query((db) => valueOf(db, sql`42 + length(pg_sleep(0.9)::text)`)),
      ),
    );

    expect(new Set(answers)).toEqual(new Set([42]));
  });

  it("rejects the waiting statements at once when the server is silent", async () => {
    const { database, relay } = await openRelayed({ maxConnections: 1, statementTimeoutMs: 100 });
    await database.query((db) => valueOf(db, sql`1`));
    relay.freeze();

    const failures = await Promise.all(
      Array.from({ length: 5 }, () => failureOf(database.query((db) => valueOf(db, sql`1`)))),
    );

    expect(failures[0]).toMatchObject({ code: "DatabaseUnavailable" });
    // They did not meet the silence one after the other.
    for (const failure of failures) expect(failure).toBe(failures[0]);
  });
});

describe("Database.renewal()", () => {
  it("does not wait for the connections of other statements", async () => {
    const database = open({ maxConnections: 1 });
    let end: () => void = () => undefined;
    const isEnded = new Promise<void>((resolve) => {
      end = resolve;
    });
    const held = database.transaction(async (db) => {
      await valueOf(db, sql`1`);
      await isEnded;
    });

    expect(await database.renewal((db) => valueOf(db, sql`42`))).toBe(42);

    end();
    await held;
  });

  it("gives up a lock soon, and then lets the next one pass", async () => {
    const database = open();
    await catalogue.execute(sql`CREATE TABLE locked (id int)`);
    const failure = await database.transaction(async (holder) => {
      await holder.execute(sql`LOCK TABLE locked`);
      const [waiting, behind] = [
        failureOf(database.renewal((db) => db.execute(sql`TABLE locked`))),
        database.renewal((db) => valueOf(db, sql`42`)),
      ];
      expect(await behind).toBe(42);
      return waiting;
    });

    expect(failure).toMatchObject({ code: "DatabaseUnavailable" });
  });
});

describe("Database.query()", () => {
  it("returns the result of the work", async () => {
    expect(await open().query((db) => valueOf(db, sql`6 * 7`))).toBe(42);
  });

  it("gives every statement a time limit in the server", async () => {
    const database = open({ statementTimeoutMs: 1234 });

    const limits = await database.query((db) =>
      valueOf(
        db,
        sql`concat_ws(' ', current_setting('statement_timeout'), current_setting('lock_timeout'), current_setting('idle_in_transaction_session_timeout'))`,
      ),
    );

    expect(limits).toBe("1234ms 1234ms 30s");
  });

  it("limits a statement to 20 s by default", async () => {
    expect(await open().query((db) => valueOf(db, sql`current_setting('statement_timeout')`))).toBe(
      "20s",
    );
  });

  it("fails with DatabaseUnavailable when a statement takes too long", async () => {
    const database = open({ statementTimeoutMs: 100 });

    const failure = await failureOf(database.query((db) => valueOf(db, sql`pg_sleep(60)`)));

    expect(failure).toMatchObject({
      code: "DatabaseUnavailable",
      retryable: true,
      message: "Postgres: canceling statement due to statement timeout",
    });
  });

  it("fails with DatabaseUnavailable when it waits too long for a lock", async () => {
    const imageId = await catalogue.newImage();
    const lock = sql`SELECT 1 FROM images WHERE id = ${imageId} FOR UPDATE`;

    const failure = await catalogue.database.transaction(async (db) => {
      await db.execute(lock);
      return failureOf(open({ statementTimeoutMs: 100 }).query((other) => other.execute(lock)));
    });

    expect(failure).toMatchObject({ code: "DatabaseUnavailable", retryable: true });
  });

  it("fails with DatabaseUnavailable when the socket does not exist", async () => {
    const url = "postgres://user@%2Fno%2Fsuch%2Fdirectory/nothing";

    const failure = await failureOf(open({ url }).query((db) => db.execute(sql`SELECT 1`)));

    expect(failure).toMatchObject({ code: "DatabaseUnavailable", retryable: true });
  });

  it("fails with DatabaseUnavailable when no server listens", async () => {
    const url = `postgres://user@127.0.0.1:${await findFreePort()}/nothing`;

    const failure = await failureOf(open({ url }).query((db) => db.execute(sql`SELECT 1`)));

    expect(failure).toMatchObject({
      code: "DatabaseUnavailable",
      retryable: true,
      message: expect.stringContaining("ECONNREFUSED") as string,
      hint: "Check Postgres and DATABASE_URL; `image-import doctor` helps.",
    });
  });

  it.each([
    ["a database that does not exist", (url: URL) => (url.pathname = "/nothing")],
    ["a user that does not exist", (url: URL) => (url.username = "no-such-user")],
  ])("fails with DatabaseUnavailable when DATABASE_URL names %s", async (_, change) => {
    const url = new URL(catalogue.url);
    change(url);

    const failure = await failureOf(
      open({ url: url.href }).query((db) => db.execute(sql`SELECT 1`)),
    );

    expect(failure).toMatchObject({ code: "DatabaseUnavailable", retryable: true });
  });

  it("fails with DatabaseUnavailable when its session is ended, and opens a new one next time", async () => {
    const database = open({ maxConnections: 1 });
    const pid = await database.query(sessionOf);
    const sleeping = failureOf(database.query((db) => valueOf(db, sql`pg_sleep(60)`)));

    await endSession(pid);
    const failure = await sleeping;

    expect(failure).toMatchObject({ code: "DatabaseUnavailable", retryable: true });
    await expectToBeBack(database);
  });

  it("fails with DatabaseUnavailable when the connection breaks, and opens a new one next time", async () => {
    const { database, relay } = await openRelayed();
    await database.query(sessionOf);
    const sleeping = failureOf(database.query((db) => valueOf(db, sql`pg_sleep(60)`)));

    relay.cut();
    const failure = await sleeping;

    expect(failure).toMatchObject({ code: "DatabaseUnavailable", retryable: true });
    await expectToBeBack(database);
  });

  it("gives up when the server accepts connections and never answers", async () => {
    const { database, relay } = await openRelayed({ statementTimeoutMs: 100 });
    relay.freeze();

    const failure = await failureOf(database.query((db) => db.execute(sql`SELECT 1`)));

    expect(failure).toMatchObject({
      code: "DatabaseUnavailable",
      retryable: true,
      message: "Postgres did not respond within 5100 ms",
    });
  });

  it("gives up when the server stops answering, and reconnects when it answers again", async () => {
    const { database, relay } = await openRelayed({ statementTimeoutMs: 100 });
    await database.query(sessionOf);
    relay.freeze();
    const failure = await failureOf(database.query((db) => db.execute(sql`SELECT 1`)));
    relay.thaw();

    const answer = await database.query((db) => valueOf(db, sql`42`));

    expect(failure).toMatchObject({ code: "DatabaseUnavailable", retryable: true });
    expect(answer).toBe(42);
  });

  it("reports a wrong configuration without its password when DATABASE_URL is not a URL", async () => {
    const database = new Database({ url: "postgres://image_import:h/idden@:nowhere" });

    const failure = await failureOf(database.query((db) => db.execute(sql`SELECT 1`)));

    expect(failure).toMatchObject({ code: "BadConfiguration" });
    expect(failure.message).not.toContain("idden");
  });
});

describe("Database.transaction()", () => {
  it("makes all statements take effect together", async () => {
    const database = open();

    await database.transaction(async (db) => {
      await insertImage(db, NO_LIMITS, { id: IMAGE_ID, tags: ["new"] });
      expect(await imageExists(IMAGE_ID)).toBe(false);
    });

    expect(await imageExists(IMAGE_ID)).toBe(true);
  });

  it("undoes all statements, and passes the failure on, when the work fails", async () => {
    const imageId = IMAGE_ID.replace("6", "7");
    const reason = new ImportError("ImageBusy", "Not now");

    const failing = open().transaction(async (db) => {
      await insertImage(db, NO_LIMITS, { id: imageId });
      throw reason;
    });

    await expect(failing).rejects.toBe(reason);
    expect(await imageExists(imageId)).toBe(false);
  });

  it("passes on a failure of the work outside of the database", async () => {
    const failing = open().transaction(async () => readFile("/no/such/file"));

    await expect(failing).rejects.toMatchObject({ code: "ENOENT", path: "/no/such/file" });
  });

  it("undoes all statements when its session is ended in the middle", async () => {
    const imageId = IMAGE_ID.replace("6", "8");

    const failure = await failureOf(
      open().transaction(async (db) => {
        await insertImage(db, NO_LIMITS, { id: imageId });
        await endSession(await sessionOf(db));
        await insertImage(db, NO_LIMITS, { id: imageId });
      }),
    );

    expect(failure).toMatchObject({ code: "DatabaseUnavailable", retryable: true });
    expect(await imageExists(imageId)).toBe(false);
  });

  it("fails with DatabaseUnavailable when the answer to COMMIT is lost, though it took effect", async () => {
    const imageId = IMAGE_ID.replace("6", "9");
    const { database, relay } = await openRelayed();
    relay.cutInsteadOfAnswerTo("commit");

    const failure = await failureOf(
      database.transaction((db) => insertImage(db, NO_LIMITS, { id: imageId })),
    );

    expect(failure).toMatchObject({ code: "DatabaseUnavailable", retryable: true });
    expect(await imageExists(imageId)).toBe(true);
  });
});

describe("Database.transaction() whose connection breaks", () => {
  type Work = (db: Queries, cut: () => Promise<void>) => Promise<unknown>;

  // postgres.js then throws an error that no caller can catch if it gets another statement. Vitest
  // reports an uncaught error as a failure of the run.
  it.each<[string, Work]>([
    [
      "while a statement is under way",
      async (db, cut) => Promise.all([valueOf(db, sql`pg_sleep(60)`), cut()]),
    ],
    [
      "between two statements",
      async (db, cut) => {
        await cut();
        await valueOf(db, sql`2`);
      },
    ],
    [
      "while the work fails for another reason",
      async (_db, cut) => {
        await cut();
        throw new ImportError("ImageBusy", "Not now");
      },
    ],
    [
      "though the work ignores it",
      async (db, cut) => {
        await Promise.allSettled([valueOf(db, sql`pg_sleep(60)`), cut()]);
        await valueOf(db, sql`2`);
      },
    ],
  ])("fails %s, takes no effect, and opens a new connection next time", async (_, work) => {
    const imageId = randomUUID();
    const { database, relay } = await openRelayed({ maxConnections: 1 });

    const failure = await failureOf(
      database.transaction(async (db) => {
        await insertImage(db, NO_LIMITS, { id: imageId });
        await work(db, async () => {
          await sleep(50);
          relay.cut();
          await sleep(50);
        });
      }),
    );

    expect(failure).toMatchObject({ code: "DatabaseUnavailable", retryable: true });
    expect(await imageExists(imageId)).toBe(false);
    expect(await database.query((db) => valueOf(db, sql`42`))).toBe(42);
  });
});

describe("Database.close()", () => {
  it("ends all sessions", async () => {
    const database = open();
    const pid = await database.query(sessionOf);

    await database.close();

    await expect
      .poll(
        () =>
          catalogue.database.query((db) =>
            valueOf(db, sql`(SELECT count(*)::int FROM pg_stat_activity WHERE pid = ${pid})`),
          ),
        PATIENCE,
      )
      .toBe(0);
  });

  it("does nothing before the first statement", async () => {
    await expect(open().close()).resolves.toBeUndefined();
  });
});
