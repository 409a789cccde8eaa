import { recordGivenUp } from "../db/outcome-records.ts";
import type { Dependencies } from "./dependencies.ts";

/** A store without which an import continues. */
export interface GiveUpOrder {
  readonly image_id: string;
  readonly epoch: number;
  readonly store: string;
  /** True if it failed; false if a user dropped it. */
  readonly has_failed: boolean;
}

/**
 * The record that an import continues without a store. The bytes in that store were removed before.
 */
export function giveUpStoreActivities({ database }: Dependencies) {
  return {
    /**
     * Removes the store from `os_glance_importing_to_stores`, and adds it to
     * `os_glance_failed_import` if it failed.
     */
    async giveUpStore(order: GiveUpOrder): Promise<void> {
      const claim = { imageId: order.image_id, epoch: order.epoch };
      await database.query((db) => recordGivenUp(db, claim, order.store, order.has_failed));
    },
  };
}
