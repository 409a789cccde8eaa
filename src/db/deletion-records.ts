import { and, eq, lt, ne, notLike, sql } from "drizzle-orm";
import { nextImageStatus } from "../domain/image-status.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { Queries } from "./connect.ts";
import { appendToHistory } from "./history-records.ts";
import {
  isLocation,
  lockImage,
  lockImageRow,
  type ImageRow,
  type LocationRow,
} from "./image-records.ts";
import type { LeaseRow } from "./lease-records.ts";
import { imageLocations, imageMembers, images, leases } from "./schema.ts";

/**
 * Begins the deletion of an image, in one transaction with its locations: from here on no reader
 * sees it, it has no members, and only its bytes remain to be removed.
 *
 * Does nothing for an image whose deletion has begun already.
 *
 * @throws ImportError `ImageNotFound`; `ImageProtected`
 */
export async function beginDeletion(db: Queries, imageId: string): Promise<void> {
  const image = await lockImageRow(db, imageId);
  if (image === undefined || image.status === "deleted") {
    throw new ImportError("ImageNotFound", `No image has the id "${imageId}"`);
  }
  if (image.status === "pending_delete") return;
  if (image.protected) {
    throw new ImportError(
      "ImageProtected",
      `Image "${imageId}" is protected and cannot be deleted.`,
    );
  }
  await db
    .update(images)
    .set({ status: nextImageStatus(image.status, "pending_delete"), updatedAt: sql`now()` })
    .where(eq(images.id, imageId));
  await db
    .update(imageLocations)
    .set({ status: "pending_delete" })
    .where(eq(imageLocations.imageId, imageId));
  await db.delete(imageMembers).where(eq(imageMembers.imageId, imageId));
}

/**
 * Begins the deletion of an image, as {@link beginDeletion} does, if no import holds it, it was
 * never published, and it is not protected.
 *
 * @returns false, and changes nothing, for any other image
 * @throws ImportError `ImageNotFound` also for an image that is being deleted
 */
export async function beginDiscarding(db: Queries, imageId: string): Promise<boolean> {
  const image = await lockImage(db, imageId);
  const { status, claimTaskId } = image;
  if (image.protected || claimTaskId !== null || (status !== "queued" && status !== "uploading"))
    return false;
  await beginDeletion(db, imageId);
  return true;
}

/** Ends a deletion, once no bytes and no claim are left. Returns true if this call ended it. */
export async function endDeletion(db: Queries, imageId: string): Promise<boolean> {
  const moved = await db
    .update(images)
    .set({
      status: nextImageStatus("pending_delete", "deleted"),
      deletedAt: sql`now()`,
      updatedAt: sql`now()`,
    })
    .where(and(eq(images.id, imageId), eq(images.status, "pending_delete")))
    .returning({ id: images.id });
  return moved.length > 0;
}

/**
 * Images whose deletion began more than `olderThanMs` ago and has not ended: their workflow may
 * have been lost.
 */
export async function listUnfinishedDeletions(db: Queries, olderThanMs: number): Promise<string[]> {
  const rows = await db
    .select({ id: images.id })
    .from(images)
    .where(
      and(
        eq(images.status, "pending_delete"),
        lt(images.updatedAt, sql`now() - make_interval(secs => ${olderThanMs / 1000})`),
      ),
    );
  return rows.map((row) => row.id);
}

/** A deletion does not wait for the effects of transforms: the sweeper of the node undoes them. */
const hasBytes = notLike(leases.place, "transform/%");

/** The remains of an image that is being deleted. */
export interface Remains {
  /** Workflow of the import that still holds the image. */
  readonly claimWorkflowId: string | undefined;
  /** Staging volumes whose workers reach bytes of the image. */
  readonly nodes: readonly string[];
}

/** Finds the remains of an image that is being deleted; undefined for any other image. */
export async function findRemains(db: Queries, imageId: string): Promise<Remains | undefined> {
  const [image] = await db
    .select({ claim: images.claimWorkflowId })
    .from(images)
    .where(and(eq(images.id, imageId), eq(images.status, "pending_delete")));
  if (image === undefined) return undefined;
  const bytes = await Promise.all([
    db
      .select({ node: imageLocations.node })
      .from(imageLocations)
      .where(eq(imageLocations.imageId, imageId)),
    db
      .select({ node: leases.node })
      .from(leases)
      .where(and(eq(leases.imageId, imageId), hasBytes)),
  ]);
  return {
    claimWorkflowId: image.claim ?? undefined,
    nodes: [...new Set(bytes.flat().map((row) => row.node))].sort(),
  };
}

/** The bytes of an image on one node. */
export interface NodeBytes {
  readonly locations: readonly LocationRow[];
  /** The leases of its upload, downloads, products and unpublished copies. */
  readonly leases: readonly LeaseRow[];
}

/** The bytes of a deleted image on one node. */
export async function findNodeBytes(
  db: Queries,
  imageId: string,
  node: string,
): Promise<NodeBytes> {
  const [locations, leaseRows] = await Promise.all([
    db
      .select()
      .from(imageLocations)
      .where(
        and(
          eq(imageLocations.imageId, imageId),
          eq(imageLocations.node, node),
          eq(imageLocations.status, "pending_delete"),
        ),
      ),
    db
      .select()
      .from(leases)
      .where(and(eq(leases.imageId, imageId), eq(leases.node, node), hasBytes)),
  ]);
  return { locations, leases: leaseRows };
}

/**
 * Begins the removal of one copy of a published image: from here on readers do not see it, and only
 * its bytes remain to be removed. The last copy of an image is never removed.
 *
 * @returns the copy; also when its removal began before and has not ended
 * @throws ImportError `ImageNotFound` also for an image that is being deleted; `ImageConflict` when
 *   it is not published, this is its last copy, or this is its last copy that is not known to be
 *   damaged; `CopyNotFound`
 */
export async function beginCopyRemoval(
  db: Queries,
  imageId: string,
  store: string,
): Promise<LocationRow> {
  // The lock lets one removal at a time count the copies: two at once could remove the last two.
  requirePublished(await lockImage(db, imageId));
  const locations = await db
    .select()
    .from(imageLocations)
    .where(eq(imageLocations.imageId, imageId))
    .orderBy(imageLocations.createdAt, imageLocations.store);
  const live = locations.filter(({ status }) => status === "active");
  const copy = live.find((location) => location.store === store);
  if (copy === undefined) {
    const begun = locations.find(
      (location) => location.store === store && location.status === "pending_delete",
    );
    if (begun !== undefined) return begun;
    throw copyNotFound(imageId, store, live);
  }
  if (live.length === 1) throw lastCopy(imageId, store);
  const isGood = ({ damage }: LocationRow): boolean => damage === null;
  if (isGood(copy) && live.filter(isGood).length === 1) throw lastGoodCopy(imageId, store);
  await db
    .update(imageLocations)
    .set({ status: "pending_delete" })
    .where(and(isLocation(copy), eq(imageLocations.status, "active")));
  await db
    .update(images)
    .set({ updatedAt: sql`now()` })
    .where(eq(images.id, imageId));
  await appendToHistory(db, imageId, { event: "copy_removed", stores: [{ store, url: copy.url }] });
  return { ...copy, status: "pending_delete" };
}

function requirePublished({ id, status }: ImageRow): void {
  if (status === "active" || status === "deactivated") return;
  throw new ImportError(
    "ImageConflict",
    `Cannot remove a copy of image "${id}": it is ${status}, and only a published image has copies`,
  );
}

function copyNotFound(imageId: string, store: string, live: readonly LocationRow[]): ImportError {
  const stores = live.map((location) => `"${location.store}"`).join(", ");
  return new ImportError(
    "CopyNotFound",
    `Image "${imageId}" has no copy in store "${store}"; it has copies in ${stores}`,
  );
}

function lastCopy(imageId: string, store: string): ImportError {
  return new ImportError(
    "ImageConflict",
    `Cannot remove the copy of image "${imageId}" in store "${store}": it is the last one`,
    { hint: "`image-import image delete <image-id>` deletes the image with its last copy." },
  );
}

function lastGoodCopy(imageId: string, store: string): ImportError {
  return new ImportError(
    "ImageConflict",
    `Cannot remove the copy of image "${imageId}" in store "${store}": the other copies are known to be damaged`,
    {
      hint: `\`image-import image copy ${imageId} --store NAME\` makes another copy; \`image-import image verify ${imageId}\` looks at those that are there.`,
    },
  );
}

/** A copy on this node whose removal has begun and not ended. */
export async function findCopyToRemove(
  db: Queries,
  copy: Pick<LocationRow, "imageId" | "store" | "epoch">,
  node: string,
): Promise<LocationRow | undefined> {
  const [location] = await db
    .select()
    .from(imageLocations)
    .where(
      and(
        isLocation(copy),
        eq(imageLocations.node, node),
        eq(imageLocations.status, "pending_delete"),
      ),
    );
  return location;
}

/**
 * Copies whose removal has begun and not ended, of images that were last changed more than
 * `olderThanMs` ago: the workflow of the removal may have been lost. The images stay.
 */
export async function listUnfinishedCopyRemovals(
  db: Queries,
  olderThanMs: number,
): Promise<LocationRow[]> {
  const rows = await db
    .select({ location: imageLocations })
    .from(imageLocations)
    .innerJoin(images, eq(images.id, imageLocations.imageId))
    .where(
      and(
        eq(imageLocations.status, "pending_delete"),
        // The deletion of the image removes its copies.
        ne(images.status, "pending_delete"),
        lt(images.updatedAt, sql`now() - make_interval(secs => ${olderThanMs / 1000})`),
      ),
    );
  return rows.map((row) => row.location);
}

/** Forgets a location whose bytes are gone. */
export async function dropLocation(db: Queries, location: LocationRow): Promise<void> {
  await db
    .delete(imageLocations)
    .where(and(isLocation(location), eq(imageLocations.status, "pending_delete")));
}

/** Lists the staging volumes whose workers reach leased bytes, or copies to remove. */
export async function listDeletionSites(db: Queries): Promise<string[]> {
  const rows = await db.execute<{ node: string }>(sql`
    SELECT node FROM leases
    UNION SELECT node FROM image_locations WHERE status = 'pending_delete'`);
  return [...rows].map((row) => row.node);
}
