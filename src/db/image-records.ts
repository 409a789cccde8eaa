import {
  and,
  asc,
  eq,
  getTableColumns,
  gt,
  inArray,
  ne,
  notInArray,
  or,
  sql,
  type SQL,
} from "drizzle-orm";
import { alias, type AnyPgColumn } from "drizzle-orm/pg-core";
import type { ContainerFormat, DiskFormat } from "../domain/disk-format.ts";
import { imageStatusesBefore, nextImageStatus, type ImageStatus } from "../domain/image-status.ts";
import { requireImageFields, type ImageChanges } from "../domain/image-fields.ts";
import type { IMAGE_SORT_KEYS, ImageFilter } from "../domain/image-filter.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { Limits } from "../domain/quota.ts";
import type { MemberStatus, Visibility } from "../domain/visibility.ts";
import type { Queries } from "./connect.ts";
import { appendToHistory } from "./history-records.ts";
import { known, knownOrEmpty, orderBy, orderOf, type SortKey } from "./keyset.ts";
import { requireQuotas, requireRoomForImage } from "./quota-records.ts";
import { imageLocations, imageMembers, imageProperties, images, imageTags } from "./schema.ts";

/** A row of the catalogue. */
export type ImageRow = typeof images.$inferSelect;
/** A location of an image: a row of the catalogue. */
export type LocationRow = typeof imageLocations.$inferSelect;

/** An image with all that belongs to it. */
export interface ImageRecord {
  readonly image: ImageRow;
  readonly properties: Readonly<Record<string, string>>;
  readonly tags: readonly string[];
  /** The live copies only. */
  readonly locations: readonly LocationRow[];
  /**
   * The answer of the project for which the image was read; null: the project is not a member, or
   * none was named.
   */
  readonly membership: MemberStatus | null;
}

/** The fields of a new image. */
export interface NewImage {
  readonly id: string;
  readonly name?: string | undefined;
  readonly owner?: string | undefined;
  readonly diskFormat?: DiskFormat | undefined;
  readonly containerFormat?: ContainerFormat | undefined;
  /** Default: `shared`. */
  readonly visibility?: Visibility | undefined;
  /** Default: false. */
  readonly protected?: boolean | undefined;
  /** Default: false. */
  readonly osHidden?: boolean | undefined;
  /** GiB. Default: 0. */
  readonly minDisk?: number | undefined;
  /** MiB. Default: 0. */
  readonly minRam?: number | undefined;
  readonly properties?: Readonly<Record<string, string>> | undefined;
  readonly tags?: readonly string[] | undefined;
}

/**
 * Adds an image in status `queued`.
 *
 * @throws ImportError `BadRequest` for a reserved name; `ImageExists` when the id is taken;
 *   `QuotaExceeded`
 */
export async function insertImage(db: Queries, limits: Limits, image: NewImage): Promise<void> {
  requireImageFields(image);
  const inserted = await db
    .insert(images)
    .values({
      id: image.id,
      name: image.name ?? null,
      owner: image.owner ?? null,
      diskFormat: image.diskFormat ?? null,
      containerFormat: image.containerFormat ?? null,
      visibility: image.visibility,
      protected: image.protected,
      osHidden: image.osHidden,
      minDisk: image.minDisk,
      minRam: image.minRam,
    })
    .onConflictDoNothing()
    .returning({ id: images.id });
  if (inserted.length === 0) {
    throw new ImportError("ImageExists", `Cannot create image "${image.id}": the id is taken`);
  }
  await writeProperties(db, image.id, image.properties ?? {});
  await writeTags(db, image.id, image.tags ?? []);
  await requireQuotas(db, limits, image.owner ?? null, { image_count_total: 1 });
}

/**
 * Sets these properties of an image, and leaves the others as they are.
 *
 * @throws ImportError `BadRequest` for a reserved name
 */
export async function writeProperties(
  db: Queries,
  imageId: string,
  properties: Readonly<Record<string, string>>,
): Promise<void> {
  const rows = Object.entries(properties).map(([name, value]) => ({ imageId, name, value }));
  const reserved = rows.find((row) => row.name.startsWith("os_glance_"));
  if (reserved !== undefined) {
    throw new ImportError("BadRequest", `Attribute '${reserved.name}' is reserved`, {
      hint: "Choose a property name that does not begin with os_glance_.",
    });
  }
  if (rows.length === 0) return;
  await db
    .insert(imageProperties)
    .values(rows)
    .onConflictDoUpdate({
      target: [imageProperties.imageId, imageProperties.name],
      set: { value: sql`excluded.value` },
    });
}

async function writeTags(db: Queries, imageId: string, tags: readonly string[]): Promise<void> {
  if (tags.length === 0) return;
  await db
    .insert(imageTags)
    .values(tags.map((tag) => ({ imageId, tag })))
    .onConflictDoNothing();
}

/** Locks the row of an image in any status for this transaction; undefined: there is none. */
export async function lockImageRow(db: Queries, imageId: string): Promise<ImageRow | undefined> {
  const [image] = await db.select().from(images).where(eq(images.id, imageId)).for("update");
  return image;
}

/**
 * Locks the row of an image for this transaction.
 *
 * @throws ImportError `ImageNotFound` also for an image that is being deleted
 */
export async function lockImage(db: Queries, imageId: string): Promise<ImageRow> {
  const image = await lockImageRow(db, imageId);
  if (image === undefined || image.status === "pending_delete" || image.status === "deleted") {
    throw new ImportError("ImageNotFound", `No image has the id "${imageId}"`);
  }
  return image;
}

/**
 * Reads one image and what belongs to it; an image that is being deleted is found, a deleted one is
 * not.
 *
 * @param project - the project whose membership is read. Default: none
 * @throws ImportError `ImageNotFound`
 */
export async function findImage(
  db: Queries,
  imageId: string,
  project: string | null = null,
): Promise<ImageRecord> {
  const isIt = and(eq(images.id, imageId), ne(images.status, "deleted"));
  const [record] = await recordsOf(db, isIt, { limit: 1, project });
  if (record === undefined) {
    throw new ImportError("ImageNotFound", `No image has the id "${imageId}"`);
  }
  return record;
}

/** The live copies of an image, in the order in which they were made. */
export async function listLiveLocations(db: Queries, imageId: string): Promise<LocationRow[]> {
  return db
    .select()
    .from(imageLocations)
    .where(and(eq(imageLocations.imageId, imageId), eq(imageLocations.status, "active")))
    .orderBy(asc(imageLocations.createdAt), asc(imageLocations.store));
}

/** The copies that an import saved and has not published yet. */
export async function listPendingLocations(
  db: Queries,
  imageId: string,
  epoch: number,
): Promise<LocationRow[]> {
  return db
    .select()
    .from(imageLocations)
    .where(
      and(
        eq(imageLocations.imageId, imageId),
        eq(imageLocations.epoch, epoch),
        eq(imageLocations.status, "pending"),
      ),
    )
    .orderBy(asc(imageLocations.store));
}

/** The condition that a location is this copy. */
export function isLocation({ imageId, store, epoch }: LocationId) {
  return and(
    eq(imageLocations.imageId, imageId),
    eq(imageLocations.store, store),
    eq(imageLocations.epoch, epoch),
  );
}

/** The key of a location. */
type LocationId = Pick<LocationRow, "imageId" | "store" | "epoch">;

/** Records the version in which a copy was last read and found to be the image. */
export async function recordVersion(
  db: Queries,
  location: LocationId,
  version: string,
): Promise<void> {
  await db.update(imageLocations).set({ version }).where(isLocation(location));
}

/**
 * Records the result of a look at a copy: readers take those that are not known to be damaged
 * first.
 *
 * @param damage - the reason why it is not the image; null: it is the image
 */
export async function recordDamage(
  db: Queries,
  location: LocationId & Pick<LocationRow, "damage">,
  damage: string | null,
): Promise<void> {
  if (location.damage === damage) return;
  await db.update(imageLocations).set({ damage }).where(isLocation(location));
}

/**
 * The ids of active and deactivated images after `afterId`, in the order of ids: for a walk through
 * all of them.
 */
export async function listPublished(
  db: Queries,
  afterId: string | undefined,
  limit: number,
): Promise<{ readonly id: string }[]> {
  return db
    .select({ id: images.id })
    .from(images)
    .where(
      and(
        inArray(images.status, ["active", "deactivated"]),
        afterId === undefined ? undefined : gt(images.id, afterId),
      ),
    )
    .orderBy(asc(images.id))
    .limit(limit);
}

type SortedColumn =
  | "createdAt"
  | "updatedAt"
  | "name"
  | "owner"
  | "status"
  | "sizeBytes"
  | "diskFormat"
  | "containerFormat"
  | "id";

/** The keys by which images are sorted, from the columns of their table or of a subquery. */
export function imageKeys(
  image: Readonly<Record<SortedColumn, AnyPgColumn>>,
): Readonly<Record<(typeof IMAGE_SORT_KEYS)[number], SortKey>> {
  return {
    created_at: known(image.createdAt),
    updated_at: known(image.updatedAt),
    name: knownOrEmpty(image.name),
    owner: knownOrEmpty(image.owner),
    status: known(image.status),
    size: knownOrEmpty(image.sizeBytes),
    disk_format: knownOrEmpty(image.diskFormat),
    container_format: knownOrEmpty(image.containerFormat),
    id: known(image.id),
  };
}

/** The order of images, the largest number of them, and whose membership is read. */
interface RecordOrder {
  readonly sort?: ImageFilter["sort"];
  readonly limit: number;
  /** The project whose membership is read. Default: none. */
  readonly project?: string | null;
}

/** The images to which a condition applies, with all that belongs to them. */
export async function recordsOf(
  db: Queries,
  isWanted: SQL | undefined,
  order: RecordOrder,
): Promise<ImageRecord[]> {
  const rows = await selectWithLocations(db, isWanted, order);
  const found = new Map(rows.map(({ image }) => [image.id, image]));
  const ids = [...found.keys()];
  if (ids.length === 0) return [];
  const [properties, tags] = await Promise.all([
    db
      .select()
      .from(imageProperties)
      .where(inArray(imageProperties.imageId, ids))
      .orderBy(imageProperties.name),
    db.select().from(imageTags).where(inArray(imageTags.imageId, ids)).orderBy(imageTags.tag),
  ]);
  return [...found.values()].map(({ membership, ...image }) => ({
    image,
    membership,
    properties: Object.fromEntries(
      properties
        .filter((property) => property.imageId === image.id)
        .map((property) => [property.name, property.value]),
    ),
    tags: tags.filter((tag) => tag.imageId === image.id).map((tag) => tag.tag),
    locations: rows.flatMap(({ image: { id }, location }) =>
      id === image.id && location !== null ? [location] : [],
    ),
  }));
}

/**
 * Images and their live copies, a row for each copy. One statement, and so one moment: no reader
 * sees an image from before its activation with copies from after it.
 */
async function selectWithLocations(
  db: Queries,
  isWanted: SQL | undefined,
  { sort, limit, project = null }: RecordOrder,
) {
  const membership = db
    .select({ status: imageMembers.status })
    .from(imageMembers)
    .where(and(eq(imageMembers.imageId, images.id), eq(imageMembers.member, project ?? "")));
  const image = db
    .select({
      ...getTableColumns(images),
      membership: sql<MemberStatus | null>`(${project === null ? sql`NULL` : membership})`.as(
        "membership",
      ),
    })
    .from(images)
    .where(isWanted)
    .orderBy(...orderBy(orderOf(imageKeys(images), sort)))
    .limit(limit)
    .as("image");
  const location = alias(imageLocations, "location");
  return db
    .select()
    .from(image)
    .leftJoin(location, and(eq(location.imageId, image.id), eq(location.status, "active")))
    .orderBy(
      ...orderBy(orderOf(imageKeys(image), sort)),
      asc(location.createdAt),
      asc(location.store),
    );
}

/**
 * Changes only the columns that are named, so that a running import and a user do not undo each
 * other's changes.
 *
 * @throws ImportError `BadRequest` for a reserved name; `ImageNotFound`; `ImageConflict` when
 *   formats are changed after the import froze them; `QuotaExceeded` by the new owner
 */
export async function changeImage(
  db: Queries,
  limits: Limits,
  imageId: string,
  changes: ImageChanges,
): Promise<void> {
  requireImageFields({
    ...changes,
    properties: changes.setProperties,
    tags: [...(changes.tags ?? []), ...(changes.addTags ?? [])],
  });
  const image = await lockImage(db, imageId);
  const { diskFormat, containerFormat, owner } = changes;
  const changesFormat = diskFormat !== undefined || containerFormat !== undefined;
  if (changesFormat && image.status !== "queued" && image.status !== "uploading") {
    throw new ImportError(
      "ImageConflict",
      `Cannot change the formats of image "${imageId}": it is ${image.status}, and formats are frozen once an import begins`,
    );
  }
  await db
    .update(images)
    .set({
      name: changes.name,
      owner,
      diskFormat,
      containerFormat,
      visibility: changes.visibility,
      protected: changes.protected,
      osHidden: changes.osHidden,
      minDisk: changes.minDisk,
      minRam: changes.minRam,
      updatedAt: sql`now()`,
    })
    .where(eq(images.id, imageId));
  await removeNamed(db, imageId, changes);
  await writeProperties(db, imageId, changes.setProperties ?? {});
  await writeTags(db, imageId, [...(changes.tags ?? []), ...(changes.addTags ?? [])]);
  if (owner !== undefined && owner !== image.owner) await requireRoomForImage(db, limits, imageId);
}

async function removeNamed(db: Queries, imageId: string, changes: ImageChanges): Promise<void> {
  const { removeProperties = [], removeTags = [], tags } = changes;
  if (removeProperties.length > 0) {
    await db
      .delete(imageProperties)
      .where(
        and(
          eq(imageProperties.imageId, imageId),
          inArray(imageProperties.name, [...removeProperties]),
        ),
      );
  }
  const isRemoved = or(
    inArray(imageTags.tag, [...removeTags]),
    tags === undefined ? undefined : notInArray(imageTags.tag, [...tags]),
  );
  if (removeTags.length > 0 || tags !== undefined) {
    await db.delete(imageTags).where(and(eq(imageTags.imageId, imageId), isRemoved));
  }
}

/**
 * Moves an image that no import holds to another status.
 *
 * @throws ImportError `ImageNotFound`; `IllegalTransition` naming both statuses; `ImageBusy`
 */
export async function moveImage(db: Queries, imageId: string, to: ImageStatus): Promise<void> {
  const image = await lockImage(db, imageId);
  const status = nextImageStatus(image.status, to);
  // Only the import itself may do some legal moves (`saving → active`). Copies of an active image
  // leave its status alone.
  if (image.claimTaskId !== null && image.claimEarlierStatus !== "active") {
    throw new ImportError(
      "ImageBusy",
      `Cannot make image "${imageId}" ${to}: task ${image.claimTaskId} imports it`,
    );
  }
  await db
    .update(images)
    .set({ status, updatedAt: sql`now()` })
    .where(and(eq(images.id, imageId), inArray(images.status, imageStatusesBefore(to))));
  if (to === "deactivated") await appendToHistory(db, imageId, { event: "deactivated" });
  if (to === "active") await appendToHistory(db, imageId, { event: "reactivated" });
}
