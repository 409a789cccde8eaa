import { listLeasesOfImage } from "../db/lease-records.ts";
import { isInStaging } from "../domain/place.ts";
import type { NodeDependencies } from "./dependencies.ts";
import { releaseLease } from "./release-lease.ts";

/** The image whose staged bytes to delete. */
export interface UnstageOrder {
  readonly image_id: string;
}

/** The removal of staged bytes. It comes after the activation and never turns an image back. */
export function unstageImageActivities(dependencies: NodeDependencies) {
  return {
    /**
     * Deletes the upload or download of a published image, and all products. A linked copy is not
     * shared after that. Succeeds if nothing is there.
     */
    async unstageImage({ image_id: imageId }: UnstageOrder): Promise<void> {
      await unstage(dependencies, imageId);
    },
  };
}

/** Deletes what an image has in the staging area of this node. */
export async function unstage(dependencies: NodeDependencies, imageId: string): Promise<void> {
  const { database, staging } = dependencies;
  const all = await database.query((db) => listLeasesOfImage(db, imageId));
  // Files on other nodes are those of earlier imports; the sweepers of those nodes remove them.
  const staged = all.filter(({ node, place }) => node === staging.node && isInStaging(place));
  for (const lease of staged) await releaseLease(dependencies, lease);
}
