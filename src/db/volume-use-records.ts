import { and, eq, sql } from "drizzle-orm";
import { ImportError } from "../domain/import-failure.ts";
import { thisProcess } from "../processes/process-identity.ts";
import type { Database } from "./connect.ts";
import { volumeUses } from "./schema.ts";

/** The staging volumes that this host has used. */
export class VolumeUseRecords {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /**
   * The id of the volume that this host last used at this path; undefined: none, or the catalogue
   * has no tables yet.
   *
   * @throws ImportError `DatabaseUnavailable`
   */
  async find(root: string): Promise<string | undefined> {
    const { machine } = await thisProcess();
    try {
      const [use] = await this.#database.query((db) =>
        db
          .select({ node: volumeUses.node })
          .from(volumeUses)
          .where(and(eq(volumeUses.machine, machine), eq(volumeUses.root, root))),
      );
      return use?.node;
    } catch (error) {
      if (isLasting(error)) return undefined;
      throw error;
    }
  }

  /**
   * Records the volume that this host uses at this path. The volume works without that: if the
   * catalogue cannot take it now, the next start records it.
   */
  async record(root: string, node: string): Promise<void> {
    const { machine } = await thisProcess();
    const isNew = sql`${volumeUses.node} <> excluded.node`;
    try {
      await this.#database.query((db) =>
        db
          .insert(volumeUses)
          .values({ machine, root, node })
          .onConflictDoUpdate({
            target: [volumeUses.machine, volumeUses.root],
            set: { node, recordedAt: sql`now()` },
            setWhere: isNew,
          }),
      );
    } catch (error) {
      if (!(error instanceof ImportError)) throw error;
    }
  }
}

/** True if the table is missing or may not be read. The steps of an import report that. */
function isLasting(error: unknown): boolean {
  return error instanceof ImportError && error.code !== "DatabaseUnavailable";
}
