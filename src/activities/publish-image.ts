import { log } from "@temporalio/activity";
import { findLease } from "../db/lease-records.ts";
import { publish, recordSaved, type Publication } from "../db/outcome-records.ts";
import { storePlace } from "../domain/place.ts";
import { within } from "../domain/within.ts";
import { mayHaveChanged } from "../stores/store.ts";
import { reportOtherEnd, transformedBy, type ActivateOrder } from "./activate-image.ts";
import type { Dependencies, NodeDependencies } from "./dependencies.ts";
import { requireAgreement, savedBy, type SaveOrder } from "./save-image.ts";
import type { StoredCopy } from "./store-image.ts";
import { unstage } from "./unstage-image.ts";

/** The image to publish: what is saved, and what is activated. */
export interface PublishOrder extends SaveOrder, ActivateOrder {}

/** The result of the step. */
export interface Published {
  /** False if the copies need more than a look: the image is saved, and not active. */
  readonly isPublished: boolean;
  /** True if the staged data is deleted. */
  readonly isUnstaged: boolean;
}

// A store that works responds within a few round trips. A cancel waits for the response.
const LOOK_PATIENCE_MS = 2_000;
// The end of the run waits for the deletion of the staged data. If that takes longer, it runs again
// in a step of its own, which has a time limit.
const UNSTAGE_PATIENCE_MS = 5_000;

/** The publication of a small image. It has no undo: after it the import only goes forward. */
export function publishImageActivities(dependencies: NodeDependencies) {
  const { database } = dependencies;
  return {
    /**
     * Saves and activates an image in one transaction, if no copy has changed since it was checked,
     * and deletes its staged data. If a copy may have changed, or a store does not answer, it saves
     * the image only, which is final: no attempt activates the image after that. Safe to repeat.
     *
     * @throws ImportError `StagedDataChanged` when a copy and the digests disagree, `ImportLost`
     */
    async publishImage(order: PublishOrder): Promise<Published> {
      for (const copy of order.copies) requireAgreement(copy, order.digests);
      const { isPublished, taskEnded } = (await areUnchanged(dependencies, order))
        ? await publishNow(dependencies, order)
        : await saveOnly(dependencies, order);
      if (!isPublished) return { isPublished, isUnstaged: false };
      if (!taskEnded) reportOtherEnd(order);
      return { isPublished, isUnstaged: await tryToUnstage(dependencies, order) };
    },
  };

  function publishNow(
    { taskTimeToLiveMs, version }: NodeDependencies,
    order: PublishOrder,
  ): Promise<Publication> {
    const saved = { ...savedBy(order), taskId: order.task_id };
    const transformed = { ...transformedBy(order), version };
    return database.transaction((db) => publish(db, saved, transformed, taskTimeToLiveMs));
  }
}

/** The end of a publication whose result was lost. Any worker can run it. */
export function settlePublicationActivities(dependencies: Dependencies) {
  return {
    /**
     * Finds out whether an attempt of `publishImage` has published the image. If not, the image is
     * saved, and no attempt publishes it after that. Safe to repeat.
     *
     * @throws ImportError `ImportLost` when the image was deleted or taken meanwhile
     */
    async settlePublication(order: SaveOrder): Promise<Pick<Published, "isPublished">> {
      const { isPublished } = await saveOnly(dependencies, order);
      return { isPublished };
    },
  };
}

/**
 * Saves the image without publishing it. If an earlier attempt has published it, and its result was
 * lost, nothing changes.
 */
async function saveOnly({ database }: Dependencies, order: SaveOrder): Promise<Publication> {
  const isPublished = await database.transaction((db) => recordSaved(db, savedBy(order)));
  return { isPublished, taskEnded: true };
}

/** True if all copies are as they were when they were checked. */
async function areUnchanged(dependencies: NodeDependencies, order: PublishOrder): Promise<boolean> {
  try {
    const signal = AbortSignal.timeout(LOOK_PATIENCE_MS);
    const looks = order.copies.map((copy) => isUnchanged(dependencies, order, copy, signal));
    const unchanged = await within(LOOK_PATIENCE_MS, silent(LOOK_PATIENCE_MS), Promise.all(looks));
    return unchanged.every((each) => each);
  } catch (error) {
    log.debug("Cannot look at a copy; it is confirmed in a step of its own", { error });
    return false;
  }
}

async function isUnchanged(
  { database, stores }: NodeDependencies,
  { image_id, epoch }: PublishOrder,
  { store }: StoredCopy,
  signal: AbortSignal,
): Promise<boolean> {
  const id = { imageId: image_id, epoch, place: storePlace(store) };
  const lease = await database.query((db) => findLease(db, id));
  // Either the copy is published already, or the import has lost it. The transaction finds out
  // which.
  if (lease === undefined) return true;
  const found = await stores.get(store).find(lease.path, signal);
  return found !== undefined && !mayHaveChanged(lease.copy?.version ?? null, found.version);
}

/**
 * Deletes the staged data, after the activation. A failure must not fail the step: the workflow
 * tries again in a step of its own.
 */
async function tryToUnstage(
  dependencies: NodeDependencies,
  { image_id }: PublishOrder,
): Promise<boolean> {
  try {
    await within(UNSTAGE_PATIENCE_MS, silent(UNSTAGE_PATIENCE_MS), unstage(dependencies, image_id));
    return true;
  } catch (error) {
    log.warn("Cannot delete the staged data yet", { error });
    return false;
  }
}

function silent(patienceMs: number): Error {
  return new Error(`No answer within ${String(patienceMs)} ms`);
}
