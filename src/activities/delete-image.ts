import {
  dropLocation,
  endDeletion,
  findCopyToRemove,
  findNodeBytes,
  findRemains,
} from "../db/deletion-records.ts";
import type { LocationRow } from "../db/image-records.ts";
import { dropLease, type LeaseRow, namesOf } from "../db/lease-records.ts";
import { dropStagedRow, type StagedRow } from "../db/staged-records.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { RemovalOrder } from "../domain/undo-order.ts";
import type { Dependencies, NodeDependencies } from "./dependencies.ts";
import { StoreCalls } from "./store-calls.ts";

/** What the deletion of an image still has to do. */
export interface DeletionPlan {
  /** The import to cancel first. */
  readonly import_workflow_id: string | null;
  /** Where bytes of the image lie. */
  readonly nodes: readonly string[];
}

/**
 * The database steps of a deletion. It has no undo: it was promised when the image became
 * `pending_delete`.
 */
export function deleteImageActivities({ database }: Dependencies) {
  return {
    /**
     * What is left of an image in `pending_delete`; nothing when it is deleted, or never was to be.
     */
    async planDeletion(imageId: string): Promise<DeletionPlan> {
      const remains = await database.query((db) => findRemains(db, imageId));
      return {
        import_workflow_id: remains?.claimWorkflowId ?? null,
        nodes: remains?.nodes ?? [],
      };
    },

    /**
     * Waits for the import that holds the image to let go, by being retried.
     *
     * @throws ImportError `ImageBusy` while it does
     */
    async awaitRelease(imageId: string): Promise<void> {
      const remains = await database.query((db) => findRemains(db, imageId));
      if (remains?.claimWorkflowId === undefined) return;
      throw new ImportError("ImageStillClaimed", `Image "${imageId}" is still being imported`);
    },

    /** `pending_delete → deleted`, once nothing is left. Says whether it is done. */
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
  const removing = { database, stores, removals };
  return {
    /**
     * Removes all bytes of a deleted image on this node, and the rows that named them. Nothing
     * there is success, and nothing is touched of an image that is not being deleted. A store that
     * is away keeps no other from being emptied.
     *
     * @throws ImportError `StoreUnavailable`, retried until the store is back
     */
    async removeImageBytes(imageId: string): Promise<void> {
      const remains = await database.query((db) => findRemains(db, imageId));
      if (remains === undefined) return;
      const bytes = await database.query((db) => findNodeBytes(db, imageId, staging.node));
      const removals = await Promise.allSettled([
        ...bytes.locations.map((location) => removeLocation(removing, location)),
        ...bytes.leases.map((lease) => removeLeased(removing, lease)),
        ...bytes.staged.map((staged) => removeStaged(dependencies, staged)),
      ]);
      for (const removal of removals) if (removal.status === "rejected") throw removal.reason;
    },

    /**
     * Removes the bytes of one copy on this node whose removal has begun, and then its row. Nothing
     * there is success, and nothing is touched of a copy that readers see.
     *
     * @throws ImportError `StoreUnavailable`, retried until the store is back
     */
    async removePublishedCopy({ image_id, epoch, store }: RemovalOrder): Promise<void> {
      const copy = { imageId: image_id, epoch, store };
      const location = await database.query((db) => findCopyToRemove(db, copy, staging.node));
      if (location !== undefined) await removeLocation(removing, location);
    },
  };
}

/** What the removal from stores needs. */
interface Removing extends Pick<NodeDependencies, "database" | "stores"> {
  readonly removals: StoreCalls;
}

async function removeLocation(
  { database, ...from }: Removing,
  location: LocationRow,
): Promise<void> {
  await removeFrom(from, location.store, [location.key]);
  await database.query((db) => dropLocation(db, location));
}

async function removeLeased({ database, ...from }: Removing, lease: LeaseRow): Promise<void> {
  await removeFrom(from, lease.store, namesOf(lease));
  await database.query((db) => dropLease(db, lease));
}

async function removeStaged(
  { database, staging }: NodeDependencies,
  { imageId, token, part, path }: StagedRow,
): Promise<void> {
  await staging.discard({ part, path });
  await database.transaction((db) => dropStagedRow(db, imageId, token));
}

/**
 * A removal was promised: it waits for a person who gives the right, or configures the store again,
 * too.
 */
async function removeFrom(
  { stores, removals }: Pick<Removing, "stores" | "removals">,
  name: string,
  names: readonly string[],
): Promise<void> {
  try {
    const store = stores.get(name);
    await removals.run(name, () => store.remove(names));
  } catch (error) {
    if (!(error instanceof ImportError) || error.retryable) throw error;
    throw new ImportError("StoreUnavailable", error.message, { cause: error, hint: error.hint });
  }
}
