import { dropStagedRow, listStagedOf } from "../db/staged-records.ts";
import type { NodeDependencies } from "./dependencies.ts";

/** The image whose staged bytes to delete. */
export interface UnstageOrder {
  readonly image_id: string;
}

/** The removal of staged bytes. It comes after the activation and never turns an image back. */
export function unstageImageActivities({ database, staging }: NodeDependencies) {
  return {
    /**
     * Deletes the upload or download of a published image, and all products. A linked copy is not
     * shared after that. Nothing there is success.
     */
    async unstageImage({ image_id: imageId }: UnstageOrder): Promise<void> {
      const all = await database.query((db) => listStagedOf(db, imageId));
      // Files on other nodes are those of earlier imports; the sweepers of those nodes remove them.
      for (const staged of all.filter(({ node }) => node === staging.node)) {
        await staging.discard({ part: staged.part, path: staged.path });
        await database.transaction((db) => dropStagedRow(db, imageId, staged.token));
      }
    },
  };
}
