import { dropStagedRow, listStagedOf } from "../db/staged-records.ts";
import type { NodeDependencies } from "./dependencies.ts";

/** Whose staged data to delete. */
export interface UnstageOrder {
  readonly image_id: string;
}

/** The end of staged data. It comes after the activation and never turns an image back. */
export function unstageImageActivities({ database, staging }: NodeDependencies) {
  return {
    /**
     * Deletes the staged data of a published image, and all that transforms made of it; a linked
     * copy is its own from then on. Nothing there is success.
     */
    async unstageImage({ image_id: imageId }: UnstageOrder): Promise<void> {
      const all = await database.query((db) => listStagedOf(db, imageId));
      // What lies elsewhere was left by an earlier import, and the sweeper of its node removes it.
      for (const staged of all.filter(({ node }) => node === staging.node)) {
        await staging.discard({ part: staged.part, path: staged.path });
        await database.transaction((db) => dropStagedRow(db, imageId, staged.token));
      }
    },
  };
}
