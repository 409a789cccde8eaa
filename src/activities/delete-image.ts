import {
  dropLocation,
  endDeletion,
  findCopyToRemove,
  findNodeBytes,
  findRemains,
} from "../db/deletion-records.ts";
import type { LocationRow } from "../db/image-records.ts";
import { dropLease, type LeaseRow } from "../db/lease-records.ts";
import { ImportError } from "../domain/import-failure.ts";
import { isInStaging } from "../domain/place.ts";
import type { RemovalOrder } from "../domain/undo-order.ts";
import type { Dependencies, NodeDependencies } from "./dependencies.ts";
import { removeLeased } from "./release-lease.ts";
import { StoreCalls } from "./store-calls.ts";

/** The remaining work of a deletion. */
export interface DeletionPlan {
  /** The import to cancel first. */
  readonly import_workflow_id: string | null;
  /** Nodes with bytes of the image. */
  readonly nodes: readonly string[];
}

/**
 * The database steps of a deletion. They have no undo: the deletion was promised when the image
 * became `pending_delete`.
 */
export function deleteImageActivities({ database }: Dependencies) {
  return {
    /**
     * Finds the remains of an image in `pending_delete`. There are none if it is deleted, or is not
     * to be deleted.
     */
    async planDeletion(imageId: string): Promise<DeletionPlan> {
      const remains = await database.query((db) => findRemains(db, imageId));
      return {
        import_workflow_id: remains?.claimWorkflowId ?? null,
        nodes: remains?.nodes ?? [],
      };
    },

    /**
     * Fails as long as an import holds the image. Temporal retries the step, which thus waits.
     *
     * @throws ImportError `ImageStillClaimed` while one does
     */
    async awaitRelease(imageId: string): Promise<void> {
      const remains = await database.query((db) => findRemains(db, imageId));
      if (remains?.claimWorkflowId === undefined) return;
      throw new ImportError("ImageStillClaimed", `Image "${imageId}" is still being imported`);
    },

    /**
     * `pending_delete → deleted`, once nothing is left. Returns false if something is left. Returns
     * true for an image that is not in `pending_delete`.
     */
    async finishDeletion(imageId: string): Promise<boolean> {
      return database.transaction(async (db) => {
        const remains = await findRemains(db, imageId);
        if (remains === undefined) return true;
        if (remains.claimWorkflowId !== undefined || remains.nodes.length > 0) return false;
        return endDeletion(db, imageId);
      });
    },
  };
}

/** The bytes of a deletion, on the node where they lie. */
export function removeImageBytesActivities(
  dependencies: NodeDependencies,
  removals = new StoreCalls(),
) {
  const { database, staging, stores } = dependencies;
  const removeLocation = async (location: LocationRow): Promise<void> => {
    const { store, key } = location;
    const remove = async () => removals.run(store, () => stores.get(store).remove([key]));
    await patiently(remove, "StoreUnavailable");
    await database.query((db) => dropLocation(db, location));
  };
  const removeLease = async (lease: LeaseRow): Promise<void> => {
    const code = isInStaging(lease.place) ? "StagingUnavailable" : "StoreUnavailable";
    await patiently(() => removeLeased(dependencies, lease, removals), code);
    await database.transaction((db) => dropLease(db, lease));
  };
  return {
    /**
     * Removes all bytes of a deleted image on this node, and the rows that named them. Succeeds if
     * nothing is there. An image that is not being deleted is not touched. An unreachable store
     * does not delay the removal from others.
     *
     * @throws ImportError `StoreUnavailable`, `StagingUnavailable`, retried until they are back
     */
    async removeImageBytes(imageId: string): Promise<void> {
      const remains = await database.query((db) => findRemains(db, imageId));
      if (remains === undefined) return;
      const bytes = await database.query((db) => findNodeBytes(db, imageId, staging.node));
      const removals = await Promise.allSettled([
        ...bytes.locations.map((location) => removeLocation(location)),
        ...bytes.leases.map((lease) => removeLease(lease)),
      ]);
      for (const removal of removals) if (removal.status === "rejected") throw removal.reason;
    },

    /**
     * Removes the bytes of one copy on this node, and then its row, if the removal of that copy has
     * begun. Succeeds if nothing is there. A copy that readers see is not touched.
     *
     * @throws ImportError `StoreUnavailable`, retried until the store is back
     */
    async removePublishedCopy({ image_id, epoch, store }: RemovalOrder): Promise<void> {
      const copy = { imageId: image_id, epoch, store };
      const location = await database.query((db) => findCopyToRemove(db, copy, staging.node));
      if (location !== undefined) await removeLocation(location);
    },
  };
}

/**
 * Runs a removal, and makes its permanent failures retryable. The removal was promised: it waits
 * until this process gets the permission, or until the store is configured again.
 */
async function patiently(
  remove: () => Promise<void>,
  code: "StoreUnavailable" | "StagingUnavailable",
): Promise<void> {
  try {
    await remove();
  } catch (error) {
    if (!(error instanceof ImportError) || error.retryable) throw error;
    throw new ImportError(code, error.message, { cause: error, hint: error.hint });
  }
}
