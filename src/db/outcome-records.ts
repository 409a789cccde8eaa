import { and, eq, inArray, like, or, sql, type SQL } from "drizzle-orm";
import type { AnyPgColumn } from "drizzle-orm/pg-core";
import type { ContainerFormat, DiskFormat } from "../domain/disk-format.ts";
import type { Digests } from "../domain/digests.ts";
import type { Preparation } from "../domain/image-history.ts";
import { storePlace } from "../domain/place.ts";
import { importLost, isClaimedBy, type ImportId } from "./claim-guard.ts";
import type { Queries } from "./connect.ts";
import { appendToHistory } from "./history-records.ts";
import { writeProperties } from "./image-records.ts";
import { findLease } from "./lease-records.ts";
import { publicationOf, readEndingImport } from "./publication-event.ts";
import { imageLocations, images, leases } from "./schema.ts";
import { DEFAULT_TASK_TIME_TO_LIVE_MS, succeedTask } from "./task-records.ts";

/**
 * The condition that more copies of a published image are made. It stays active meanwhile, unless a
 * user deactivates it.
 */
const isBeingCopied = and(
  eq(images.claimEarlierStatus, "active"),
  inArray(images.status, ["active", "deactivated"]),
);

const isBeingImported = or(inArray(images.status, ["importing", "saving"]), isBeingCopied);

/** The result of the copies of an import. */
export interface SavedImage extends ImportId {
  readonly digests: Digests;
  readonly virtualSizeBytes: number | null;
  readonly locations: readonly { readonly store: string; readonly url: string }[];
}

/**
 * `importing → saving`: records size and digests, and a pending location per copy. An image of
 * which more copies are made stays active. Idempotent.
 *
 * After it {@link publish} has no effect any more: the result is final.
 *
 * @returns true if this import has published the image already; then nothing is changed
 * @throws ImportError `ImportLost` when the image was deleted or taken meanwhile
 */
export async function recordSaved(db: Queries, saved: SavedImage): Promise<boolean> {
  if (await save(db, saved, isBeingImported)) return false;
  return requireActivatedByUs(db, saved);
}

/** Returns false when the image is not in a state to save. */
async function save(db: Queries, saved: SavedImage, isSavable: SQL | undefined): Promise<boolean> {
  const { digests } = saved;
  const moved = await db
    .update(images)
    .set({
      status: sql`CASE WHEN ${images.claimEarlierStatus} = 'active' THEN ${images.status} ELSE 'saving' END`,
      sizeBytes: digests.sizeBytes,
      virtualSizeBytes: saved.virtualSizeBytes,
      checksum: digests.checksum,
      osHashAlgo: digests.osHashAlgo,
      osHashValue: digests.osHashValue,
      updatedAt: sql`now()`,
    })
    .where(and(isClaimedBy(saved), isSavable))
    .returning({ id: images.id });
  if (moved.length === 0) return false;
  for (const location of saved.locations) await insertPendingLocation(db, saved, location);
  return true;
}

async function insertPendingLocation(
  db: Queries,
  saved: SavedImage,
  location: SavedImage["locations"][number],
): Promise<void> {
  const place = storePlace(location.store);
  const lease = await findLease(db, { ...saved, place });
  if (lease?.state !== "whole" || lease.copy === null) throw importLost(saved.imageId);
  await db
    .insert(imageLocations)
    .values({
      imageId: saved.imageId,
      store: location.store,
      epoch: saved.epoch,
      status: "pending",
      node: lease.node,
      key: lease.path,
      url: location.url,
      ...lease.copy,
    })
    // A repeated call is not a conflict; another live copy in this store is, and must not go
    // unnoticed.
    .onConflictDoNothing({
      target: [imageLocations.imageId, imageLocations.store, imageLocations.epoch],
    });
}

/**
 * Changes of an image by transforms. They are applied with its activation: a failed import leaves
 * the image as it was.
 */
export interface Transformations {
  /** Default: as it was declared. */
  readonly diskFormat?: DiskFormat | undefined;
  /** Default: as it was declared. */
  readonly containerFormat?: ContainerFormat | undefined;
  /** Added to those that users have set meanwhile. Default: none. */
  readonly properties?: Readonly<Record<string, string>> | undefined;
  /** The steps before the copies, for the history of the image. Default: unknown. */
  readonly preparation?: Preparation | undefined;
  /** Version of this software, for the history of the image. Default: unknown. */
  readonly version?: string | undefined;
}

/** The result of an activation. */
export interface Activation {
  /** False when the task was gone or had ended already; the image is active nevertheless. */
  readonly taskEnded: boolean;
}

/**
 * `saving → active`, or the end of copying an active image. This is the point of no return: in the
 * caller's one transaction, locations go live, the task succeeds, the claim is free, the leases of
 * copies and of transforms end, and the history has the publication. Idempotent: after a COMMIT
 * whose response was lost, the live locations of this epoch show that it took effect.
 *
 * @throws ImportError `ImportLost` when the image was deleted or taken meanwhile
 */
export async function activate(
  db: Queries,
  claim: ImportId & { readonly taskId: string },
  transformed: Transformations = {},
  taskTimeToLiveMs = DEFAULT_TASK_TIME_TO_LIVE_MS,
): Promise<Activation> {
  const { diskFormat, containerFormat, properties = {}, preparation, version } = transformed;
  const ending = await readEndingImport(db, claim);
  const [moved] = await db
    .update(images)
    .set({
      status: sql`CASE WHEN ${images.claimEarlierStatus} = 'active' THEN ${images.status} ELSE 'active' END`,
      ...(diskFormat === undefined ? {} : { diskFormat }),
      ...(containerFormat === undefined ? {} : { containerFormat }),
      claimTaskId: null,
      claimWorkflowId: null,
      claimRunId: null,
      claimEarlierStatus: null,
      directUpload: null,
      importingToStores: [],
      updatedAt: sql`now()`,
    })
    .where(
      and(
        isClaimedBy(claim),
        eq(images.claimTaskId, claim.taskId),
        or(eq(images.status, "saving"), isBeingCopied),
      ),
    )
    .returning();
  if (moved === undefined || ending === undefined) {
    return { taskEnded: await requireActivatedByUs(db, claim) };
  }
  await writeProperties(db, claim.imageId, properties);
  const isOurs = and(
    eq(imageLocations.imageId, claim.imageId),
    eq(imageLocations.epoch, claim.epoch),
  );
  const live = await db.update(imageLocations).set({ status: "active" }).where(isOurs).returning();
  const isOfImport = and(eq(leases.imageId, claim.imageId), eq(leases.epoch, claim.epoch));
  const places = live.map(({ store }) => storePlace(store));
  // The lease of a store that was given up stays while bytes may be left there: the reconciler
  // removes them.
  const published = await db
    .delete(leases)
    .where(and(isOfImport, inArray(leases.place, places), eq(leases.state, "whole")))
    .returning({ place: leases.place });
  // An undo has taken a copy away, and removes it.
  if (published.length < live.length) throw importLost(claim.imageId);
  const { imageId, taskId } = claim;
  const event = publicationOf(ending, moved, live, { taskId, preparation, version });
  // Side by side: they do not depend on each other, and a small image waits for each round trip.
  const [taskEnded] = await Promise.all([
    succeedTask(db, taskId, imageId, taskTimeToLiveMs),
    appendToHistory(db, imageId, event),
    // The outside effects of transforms are permanent from here on.
    db.delete(leases).where(and(isOfImport, like(leases.place, "transform/%"))),
  ]);
  return { taskEnded };
}

/** The result of a publication. */
export interface Publication extends Activation {
  /** False when an earlier attempt saved the image, and so decided that it is activated later. */
  readonly isPublished: boolean;
}

/**
 * `importing → active` in the caller's one transaction: saves and activates an image. It has no
 * effect on an image that is saved already: an attempt that comes late must not activate an image
 * of which a later one has found that it needs more checks. Idempotent.
 *
 * @throws ImportError `ImportLost` when the image was deleted or taken meanwhile
 */
export async function publish(
  db: Queries,
  saved: SavedImage & { readonly taskId: string },
  transformed: Transformations = {},
  taskTimeToLiveMs = DEFAULT_TASK_TIME_TO_LIVE_MS,
): Promise<Publication> {
  if (!(await save(db, saved, eq(images.status, "importing")))) {
    return { isPublished: await recordSaved(db, saved), taskEnded: true };
  }
  return { isPublished: true, ...(await activate(db, saved, transformed, taskTimeToLiveMs)) };
}

async function requireActivatedByUs(db: Queries, claim: ImportId): Promise<boolean> {
  if (!(await isActivatedByUs(db, claim))) throw importLost(claim.imageId);
  return true;
}

async function isActivatedByUs(db: Queries, claim: ImportId): Promise<boolean> {
  const rows = await db
    .select({ store: imageLocations.store })
    .from(imageLocations)
    .innerJoin(images, eq(images.id, imageLocations.imageId))
    .where(
      and(
        eq(imageLocations.imageId, claim.imageId),
        eq(imageLocations.epoch, claim.epoch),
        or(
          eq(imageLocations.status, "active"),
          // A copy of a published image that was live may be on its way out by now.
          and(
            eq(imageLocations.status, "pending_delete"),
            inArray(images.status, ["active", "deactivated"]),
          ),
        ),
      ),
    );
  return rows.length > 0;
}

/** Removes a store that has its copy from `os_glance_importing_to_stores`. */
export async function recordStored(db: Queries, claim: ImportId, store: string): Promise<void> {
  await db
    .update(images)
    .set({
      importingToStores: sql`array_remove(${images.importingToStores}, ${store})`,
      updatedAt: sql`now()`,
    })
    .where(isClaimedBy(claim));
}

/**
 * Removes a store from `os_glance_importing_to_stores`: the import continues without it.
 * Idempotent.
 *
 * @param hasFailed - true to add the store to `os_glance_failed_import`
 */
export async function recordGivenUp(
  db: Queries,
  claim: ImportId,
  store: string,
  hasFailed: boolean,
): Promise<void> {
  const without = (stores: AnyPgColumn) => sql`array_remove(${stores}, ${store})`;
  await db
    .update(images)
    .set({
      importingToStores: without(images.importingToStores),
      ...(hasFailed
        ? { failedImport: sql`array_append(${without(images.failedImport)}, ${store})` }
        : {}),
      updatedAt: sql`now()`,
    })
    .where(isClaimedBy(claim));
}
