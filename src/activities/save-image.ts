import { recordSaved, type SavedImage } from "../db/outcome-records.ts";
import type { Digests } from "../domain/digests.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { Dependencies } from "./dependencies.ts";
import type { StoredCopy } from "./store-image.ts";

/** The result of the copies. */
export interface SaveOrder {
  readonly image_id: string;
  readonly epoch: number;
  readonly digests: Digests;
  readonly virtual_size: number | null;
  readonly copies: readonly StoredCopy[];
}

/** The record of a finished set of copies. Its undo is the claim's. */
export function saveImageActivities({ database }: Dependencies) {
  return {
    /**
     * Image → `saving`: all copies agree with the digests; size and digests are recorded, and a
     * pending location for each copy. Safe to repeat.
     *
     * @throws ImportError `StagedDataChanged` when a copy and the digests disagree, `ImportLost`
     */
    async saveImage(order: SaveOrder): Promise<void> {
      for (const copy of order.copies) requireAgreement(copy, order.digests);
      await database.transaction((db) => recordSaved(db, savedBy(order)));
    },
  };
}

/** The facts in an order, as the catalogue records them. */
export function savedBy(order: SaveOrder): SavedImage {
  return {
    imageId: order.image_id,
    epoch: order.epoch,
    digests: order.digests,
    virtualSizeBytes: order.virtual_size,
    locations: order.copies.map(({ store, url }) => ({ store, url })),
  };
}

/**
 * Copy and digests were read from the same staged bytes at different times: if they differ, the
 * bytes changed.
 */
export function requireAgreement(copy: StoredCopy, digests: Digests): void {
  if (copy.crc32 === digests.crc32 && copy.size === digests.sizeBytes) return;
  throw new ImportError(
    "StagedDataChanged",
    `The copy in store "${copy.store}" and the digests disagree: the staged data changed while it was imported`,
  );
}
