import { sql, type SQL } from "drizzle-orm";
import { onTestFinished, vi } from "vitest";
import type { Database } from "../../src/db/connect.ts";
import type { Catalogue } from "./catalogue.ts";
import { PATIENCE } from "./patience.ts";

/** Rows that the test's own transaction holds: every other transaction that wants one waits. */
export class HeldRows {
  readonly #database: Database;
  readonly #holding: Promise<void>;
  #letGo: () => void = () => undefined;

  private constructor(database: Database, select: SQL, isHeld: () => void) {
    this.#database = database;
    const letGo = new Promise<void>((resolve) => {
      this.#letGo = resolve;
    });
    this.#holding = database.transaction(async (db) => {
      await db.execute(sql`${select} FOR UPDATE`);
      isHeld();
      await letGo;
    });
  }

  /** Locks the rows that a `SELECT` finds. Releases them when the test ends, at the latest. */
  static async hold({ database }: Pick<Catalogue, "database">, select: SQL): Promise<HeldRows> {
    return new Promise((resolve, reject) => {
      const rows = new HeldRows(database, select, () => {
        resolve(rows);
      });
      rows.#holding.catch(reject);
      onTestFinished(() => rows.release());
    });
  }

  /** Waits until so many transactions wait for a row. */
  async awaitWaiters(count = 1): Promise<void> {
    await vi.waitUntil(async () => (await this.#countWaiters()) >= count, PATIENCE);
  }

  /** Releases the rows, and waits until that has happened. */
  async release(): Promise<void> {
    this.#letGo();
    await this.#holding;
  }

  async #countWaiters(): Promise<number> {
    const [row] = await this.#database.query((db) =>
      db.execute<{ waiters: number }>(sql`
        SELECT count(*)::int AS waiters FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'`),
    );
    return row?.waiters ?? 0;
  }
}
