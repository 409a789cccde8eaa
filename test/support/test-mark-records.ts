import { sql } from "drizzle-orm";
import type { Database } from "../../src/db/connect.ts";
import { StoreMarkRecords } from "../../src/db/store-mark-records.ts";
import type { Catalogue } from "./catalogue.ts";

/**
 * The marks of the running test's stores: copies that other tests made are in stores of the same
 * names elsewhere.
 */
export class TestMarkRecords extends StoreMarkRecords {
  readonly #earlier: ReadonlySet<string>;

  private constructor(database: Database, earlier: ReadonlySet<string>) {
    super(database);
    this.#earlier = earlier;
  }

  /** Forgets the marks of earlier tests. */
  static async of({ database }: Catalogue): Promise<TestMarkRecords> {
    const copies = await database.query((db) =>
      db.execute<{ key: string }>(sql`SELECT key FROM image_locations`),
    );
    await database.query((db) => db.execute(sql`DELETE FROM store_marks`));
    return new TestMarkRecords(database, new Set([...copies].map(({ key }) => key)));
  }

  override async listCopies(store: string, limit: number): Promise<{ readonly key: string }[]> {
    const copies = await super.listCopies(store, limit + this.#earlier.size);
    return copies.filter(({ key }) => !this.#earlier.has(key)).slice(0, limit);
  }
}
