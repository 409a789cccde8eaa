import { and, desc, eq, ne, or, sql } from "drizzle-orm";
import type { Database, Queries } from "./connect.ts";
import { imageLocations, storeMarks } from "./schema.ts";

/** A mark, and the store whose mark it is. */
type MarkRow = Pick<typeof storeMarks.$inferSelect, "store" | "mark">;

/**
 * The marks of stores: the id that the place of each store must carry.
 *
 * All methods throw `DatabaseUnavailable` when the catalogue cannot be reached.
 */
export class StoreMarkRecords {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** The mark that a store must carry; undefined when none is recorded. */
  async find(store: string): Promise<string | undefined> {
    const [row] = await this.#database.query((db) =>
      db.select().from(storeMarks).where(eq(storeMarks.store, store)),
    );
    return row?.mark;
  }

  /**
   * Lists `limit` copies in a store at most: first those that readers see, each group newest first.
   */
  async listCopies(store: string, limit: number): Promise<{ readonly key: string }[]> {
    return this.#database.query((db) =>
      db
        .select({ key: imageLocations.key })
        .from(imageLocations)
        .where(eq(imageLocations.store, store))
        .orderBy(sql`${imageLocations.status} <> 'active'`, desc(imageLocations.createdAt))
        .limit(limit),
    );
  }

  /**
   * Records a mark for a store that has none.
   *
   * @returns the mark that the store has now; or the other store whose mark this is, and then
   *   nothing is recorded
   */
  async record(store: string, mark: string): Promise<MarkRow> {
    return this.#database.transaction(async (db) => {
      await db.insert(storeMarks).values({ store, mark }).onConflictDoNothing();
      return whoHas(db, store, mark);
    });
  }

  /**
   * Records a mark in place of the store's earlier one. @returns as {@link StoreMarkRecords.record}
   */
  async replace(store: string, mark: string): Promise<MarkRow> {
    return this.#database.transaction(async (db) => {
      const [other] = await db
        .select()
        .from(storeMarks)
        .where(and(eq(storeMarks.mark, mark), ne(storeMarks.store, store)));
      if (other !== undefined) return other;
      await db
        .insert(storeMarks)
        .values({ store, mark })
        .onConflictDoUpdate({ target: storeMarks.store, set: { mark, recordedAt: sql`now()` } });
      return { store, mark };
    });
  }

  /** Forgets the mark of a store. */
  async forget(store: string): Promise<void> {
    await this.#database.query((db) => db.delete(storeMarks).where(eq(storeMarks.store, store)));
  }
}

async function whoHas(db: Queries, store: string, mark: string): Promise<MarkRow> {
  const rows = await db
    .select()
    .from(storeMarks)
    .where(or(eq(storeMarks.store, store), eq(storeMarks.mark, mark)));
  return rows.find((row) => row.store === store) ?? rows[0] ?? { store, mark };
}
