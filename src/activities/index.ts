import { activateImageActivities } from "./activate-image.ts";
import { claimImportActivities } from "./claim-import.ts";
import { confirmCopiesActivities } from "./confirm-copies.ts";
import { deleteImageActivities, removeImageBytesActivities } from "./delete-image.ts";
import type { Dependencies, NodeDependencies } from "./dependencies.ts";
import { digestStagedActivities } from "./digest-staged.ts";
import { expireTasksActivities } from "./expire-tasks.ts";
import { findAbandonedActivities } from "./find-abandoned.ts";
import { findLastFailuresActivities } from "./find-last-failures.ts";
import { discardFetchedActivities, fetchImageActivities } from "./fetch-image.ts";
import { keepAlive } from "./keep-alive.ts";
import { giveUpStoreActivities } from "./give-up-store.ts";
import { publishImageActivities, settlePublicationActivities } from "./publish-image.ts";
import { probeStoresActivities } from "./probe-stores.ts";
import { saveImageActivities } from "./save-image.ts";
import { StoreCalls } from "./store-calls.ts";
import { removeCopyActivities, storeImageActivities } from "./store-image.ts";
import { sweepNodeActivities } from "./sweep-node.ts";
import { discardProductsActivities, transformStagedActivities } from "./transform-staged.ts";
import { unstageImageActivities } from "./unstage-image.ts";
import { verifyStagingActivities } from "./verify-staging.ts";

/** The steps that need no bytes, only the catalogue and Temporal: any worker runs them. */
export function createControlActivities(dependencies: Dependencies) {
  return {
    ...claimImportActivities(dependencies),
    ...giveUpStoreActivities(dependencies),
    ...saveImageActivities(dependencies),
    ...activateImageActivities(dependencies),
    ...settlePublicationActivities(dependencies),
    ...deleteImageActivities(dependencies),
    ...findAbandonedActivities(dependencies),
    ...findLastFailuresActivities(dependencies),
    ...expireTasksActivities(dependencies),
  };
}

/**
 * The steps that move or read bytes for a long time: a few at once, where the staging volume is.
 */
export function createByteActivities(dependencies: NodeDependencies) {
  return {
    ...fetchImageActivities(dependencies),
    ...verifyStagingActivities(dependencies),
    ...transformStagedActivities(dependencies),
    ...digestStagedActivities(dependencies),
    ...storeImageActivities(dependencies),
  };
}

/**
 * The short steps that need the staging volume or a store, and must not wait behind copies: undos,
 * clean-up, and the last look before the activation. All of them have heartbeats.
 */
export function createCleanUpActivities(dependencies: NodeDependencies) {
  const removals = new StoreCalls();
  const steps = keepAlive({
    ...discardFetchedActivities(dependencies),
    ...removeCopyActivities(dependencies, removals),
    ...discardProductsActivities(dependencies),
    ...publishImageActivities(dependencies),
    ...unstageImageActivities(dependencies),
    ...removeImageBytesActivities(dependencies, removals),
    ...probeStoresActivities(dependencies),
    ...sweepNodeActivities(dependencies),
  });
  return { ...steps, ...confirmCopiesActivities(dependencies) };
}

/** Types of the steps, for the workflow's proxies. */
export type ControlActivities = ReturnType<typeof createControlActivities>;
/** Types of the byte steps. */
export type ByteActivities = ReturnType<typeof createByteActivities>;
/** Types of undos and clean-up on a node. */
export type CleanUpActivities = ReturnType<typeof createCleanUpActivities>;
