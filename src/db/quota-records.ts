import { and, eq, inArray, isNull, notInArray, sql } from "drizzle-orm";
import {
  quotaExceeded,
  quotaLimitsOf,
  QUOTAS,
  requireBelowCap,
  type Limits,
  type Quota,
  type QuotaLimits,
} from "../domain/quota.ts";
import type { Queries } from "./connect.ts";
import { requireClaim, type ImportId } from "./claim-guard.ts";
import { imageLocations, images, leases, stagedFiles } from "./schema.ts";
import { isFactsOf, isLease } from "./staged-facts.ts";

/** Usage of one quota by an owner, in bytes or images. */
export interface QuotaUsage {
  /** Bytes or images that exist. */
  readonly usage: number;
  /** Room that running imports and uploads reserve beyond that. */
  readonly reserved: number;
}

/**
 * Sums up the usage of each quota by an owner, as Glance counts it: every copy of an image counts,
 * and an image whose deletion has begun does not. A reservation is kept with its claim or
 * lease, and ends with it in the same transaction.
 *
 * @param owner - null: the images without an owner
 */
export async function readUsage(
  db: Queries,
  owner: string | null,
): Promise<Record<Quota, QuotaUsage>> {
  const [row] = await db.select(sums()).from(images).where(isOwned(owner));
  if (row === undefined) throw new Error("Sums are one row");
  return usageIn(row);
}

/** Sums up the usage of each quota by every owner that has images. */
export async function readUsageOfAll(
  db: Queries,
): Promise<{ readonly owner: string | null; readonly usage: Record<Quota, QuotaUsage> }[]> {
  const rows = await db
    .select({ owner: images.owner, ...sums() })
    .from(images)
    .where(isAlive)
    .groupBy(images.owner);
  return rows.map(({ owner, ...row }) => ({ owner, usage: usageIn(row) }));
}

function sums() {
  // Subqueries for each image: a join would read the locations and leases of all owners.
  const stored = sql`(SELECT sum(${imageLocations.sizeBytes}) FROM ${imageLocations} WHERE ${imageLocations.imageId} = ${images.id} AND ${imageLocations.status} = 'active')`;
  const isClaimed = sql`${images.claimTaskId} IS NOT NULL`;
  const size = sql`coalesce(${stagedFiles.sizeBytes}, 0)`;
  const staging = sql`FROM ${leases} LEFT JOIN ${stagedFiles} ON ${isFactsOf} WHERE ${leases.imageId} = ${images.id} AND ${isStagedItself}`;
  return {
    images: total(sql`1`),
    uploading: total(
      sql`CASE WHEN ${images.status} IN ('uploading', 'importing', 'saving') OR ${isClaimed} THEN 1 END`,
    ),
    stored: total(stored),
    importing: total(
      sql`CASE WHEN ${isClaimed} THEN ${images.claimSizeBytes} * ${images.claimCopies} END`,
    ),
    staged: total(sql`(SELECT sum(${size}) ${staging})`),
    staging: total(sql`(SELECT sum(greatest(${leases.reservedBytes} - ${size}, 0)) ${staging})`),
    products: total(sql`CASE WHEN ${isClaimed} THEN ${images.claimProductBytes} END`),
  };
}

function usageIn(row: Readonly<Record<keyof ReturnType<typeof sums>, number>>) {
  return {
    image_size_total: { usage: row.stored, reserved: row.importing },
    image_stage_total: { usage: row.staged, reserved: row.staging + row.products },
    image_count_total: { usage: row.images, reserved: 0 },
    image_count_uploading: { usage: row.uploading, reserved: 0 },
  };
}

/**
 * The condition that the bytes of a lease count in staging. Products count by the reservation of
 * their import instead.
 */
const isStagedItself = inArray(leases.place, ["upload", "download"]);

const isAlive = notInArray(images.status, ["pending_delete", "deleted"]);

function isOwned(owner: string | null) {
  return and(owner === null ? isNull(images.owner) : eq(images.owner, owner), isAlive);
}

function total(amount: unknown) {
  return sql`coalesce(sum(${amount}), 0)`.mapWith(Number);
}

/** Growth of quotas, in bytes or images. Default: 0. */
export type Growth = Readonly<Partial<Record<Quota, number>>>;

/**
 * Makes sure that the owner stays within the quotas that this transaction uses. Until its end no
 * other transaction uses quotas of that owner, so that parallel ones cannot exceed a quota
 * together. Call it last: a transaction that holds an owner must not wait for a row.
 *
 * @throws ImportError `QuotaExceeded`
 */
export async function requireQuotas(
  db: Queries,
  limits: Limits,
  owner: string | null,
  grown: Growth,
): Promise<void> {
  const quotas = await HeldQuotas.hold(db, limits, owner, grown);
  for (const quota of QUOTAS) quotas.require(quota, grown[quota] ?? 0);
}

/** The quotas of an owner, locked until the transaction ends. */
export class HeldQuotas {
  readonly #owner: string | null;
  readonly #limits: QuotaLimits;
  /** Undefined for an owner without limits: it is not summed up. */
  readonly #used: Record<Quota, QuotaUsage> | undefined;
  readonly #grown: Growth;

  private constructor(
    owner: string | null,
    limits: QuotaLimits,
    used: Record<Quota, QuotaUsage> | undefined,
    grown: Growth,
  ) {
    this.#owner = owner;
    this.#limits = limits;
    this.#used = used;
    this.#grown = grown;
  }

  /** @param grown - growth that this transaction has already written, and now checks */
  static async hold(
    db: Queries,
    limits: Limits,
    owner: string | null,
    grown: Growth = {},
  ): Promise<HeldQuotas> {
    const own = quotaLimitsOf(limits, owner);
    if (QUOTAS.every((quota) => own[quota] === Infinity)) {
      return new HeldQuotas(owner, own, undefined, grown);
    }
    // Owners with the same hash only wait for each other.
    await db.execute(sql`SELECT pg_advisory_xact_lock(${QUOTA_LOCK}, hashtext(${owner ?? ""}))`);
    return new HeldQuotas(owner, own, await readUsage(db, owner), grown);
  }

  /** Room that is left; `Infinity` without a limit. */
  left(quota: Quota): number {
    return Math.max(0, this.#limits[quota] - this.#usage(quota));
  }

  /**
   * @throws ImportError `QuotaExceeded` when the wanted growth does not fit; no growth always fits
   */
  require(quota: Quota, wanted: number): void {
    if (wanted <= 0 || wanted <= this.left(quota)) return;
    const limit = this.#limits[quota];
    throw quotaExceeded(this.#owner, quota, { limit, usage: this.#usage(quota), wanted });
  }

  #usage(quota: Quota): number {
    if (this.#used === undefined) return 0;
    const { usage, reserved } = this.#used[quota];
    return usage + reserved - (this.#grown[quota] ?? 0);
  }
}

/**
 * Makes sure that an image fits into the quotas of its owner, which this transaction has changed
 * under the lock of its row. Call it last, as {@link requireQuotas}.
 *
 * @throws ImportError `QuotaExceeded`
 */
export async function requireRoomForImage(
  db: Queries,
  limits: Limits,
  imageId: string,
): Promise<void> {
  // A running upload or download reserves more under the lock of its lease, for the owner that it
  // reads then.
  await db
    .select({ place: leases.place })
    .from(leases)
    .where(eq(leases.imageId, imageId))
    .orderBy(leases.epoch, leases.place)
    .for("update");
  const [row] = await db
    .select({ owner: images.owner, ...sums() })
    .from(images)
    .where(eq(images.id, imageId))
    .groupBy(images.owner);
  if (row === undefined) return;
  const { owner, ...own } = row;
  const grown = Object.entries(usageIn(own)).map(([quota, { usage, reserved }]) => [
    quota,
    usage + reserved,
  ]);
  await requireQuotas(db, limits, owner, Object.fromEntries(grown) as Growth);
}

// The letters "qta", beside the lock of the migrations.
const QUOTA_LOCK = 0x71_74_61;

/**
 * Reserves room for an import that is being accepted: the size of the image in each store, if it is
 * known. {@link growReservation} reserves the rest later.
 *
 * @param image - its row before the claim
 * @throws ImportError `ImageTooLarge`, `QuotaExceeded`
 */
export async function reserveImport(
  db: Queries,
  limits: Limits,
  image: Pick<typeof images.$inferSelect, "id" | "owner" | "status" | "sizeBytes">,
  copies: number,
): Promise<void> {
  const sizeBytes = image.sizeBytes ?? 0;
  requireBelowCap(limits, image.id, sizeBytes);
  await db
    .update(images)
    .set({ claimSizeBytes: sizeBytes, claimCopies: copies, claimProductBytes: 0 })
    .where(eq(images.id, image.id));
  await requireQuotas(db, limits, image.owner, {
    image_size_total: sizeBytes * copies,
    // An image that is uploading counts already.
    image_count_uploading: image.status === "queued" || image.status === "active" ? 1 : 0,
  });
}

/**
 * Sizes that an import has found, in bytes. They are totals: a repeated call changes nothing.
 */
export interface ReservationGrowth {
  /** Size that the image has reached. */
  readonly imageBytes: number;
  /** Size to grant if there is room. Default: `imageBytes`. */
  readonly welcomeBytes?: number;
  /**
   * Bytes of all products in staging together. Default: 0.
   */
  readonly productBytes?: number;
}

/**
 * Reserves room for an import whose size was unknown when it was accepted, or is larger than it
 * was. Call it before the bytes are written, as `RoomAhead` does. The size counts in each store,
 * and in staging while it is being staged. A reservation never shrinks; it ends with the claim.
 *
 * @returns the size that the image may reach before the next call
 * @throws ImportError `ImportLost`, `ImageTooLarge`, `QuotaExceeded`
 */
export async function growReservation(
  db: Queries,
  limits: Limits,
  claim: ImportId,
  { imageBytes, welcomeBytes = imageBytes, productBytes = 0 }: ReservationGrowth,
): Promise<number> {
  await requireClaim(db, claim);
  const reserved = await findReservation(db, claim);
  requireBelowCap(limits, claim.imageId, imageBytes);
  const quotas = await HeldQuotas.hold(db, limits, reserved.owner);
  const { copies, stagingBytes } = reserved;
  const sizeGrowth = Math.max(0, imageBytes - reserved.sizeBytes) * copies;
  const stageGrowth =
    (stagingBytes === undefined ? 0 : Math.max(0, imageBytes - stagingBytes)) +
    Math.max(0, productBytes - reserved.productBytes);
  quotas.require("image_size_total", sizeGrowth);
  quotas.require("image_stage_total", stageGrowth);
  const aheadBytes = Math.max(
    0,
    Math.min(
      welcomeBytes - imageBytes,
      limits.imageSizeCapBytes - imageBytes,
      perCopy(quotas.left("image_size_total") - sizeGrowth, copies),
      quotas.left("image_stage_total") - stageGrowth,
    ),
  );
  const grantedBytes = imageBytes + aheadBytes;
  await db
    .update(images)
    .set({
      claimSizeBytes: Math.max(reserved.sizeBytes, grantedBytes),
      claimProductBytes: Math.max(
        reserved.productBytes,
        productBytes === 0 ? 0 : productBytes + aheadBytes,
      ),
    })
    .where(eq(images.id, claim.imageId));
  if (stagingBytes !== undefined) {
    await db
      .update(leases)
      .set({ reservedBytes: Math.max(stagingBytes, grantedBytes) })
      .where(isRunningDownload(claim));
  }
  return grantedBytes;
}

/**
 * The size that quotas and the cap now allow for a file that this import writes into staging, in
 * bytes; `Infinity` without limits. It lets a caller stop early: {@link growReservation} decides.
 *
 * @throws ImportError `ImportLost`
 */
export async function findQuotaLeft(db: Queries, limits: Limits, claim: ImportId): Promise<number> {
  await requireClaim(db, claim);
  const reserved = await findReservation(db, claim);
  const quotas = await HeldQuotas.hold(db, limits, reserved.owner);
  return Math.min(
    limits.imageSizeCapBytes,
    reserved.sizeBytes + perCopy(quotas.left("image_size_total"), reserved.copies),
    (reserved.stagingBytes ?? reserved.productBytes) + quotas.left("image_stage_total"),
  );
}

function perCopy(sizeBytes: number, copies: number): number {
  return copies === 0 ? Infinity : Math.floor(sizeBytes / copies);
}

interface Reservation {
  readonly owner: string | null;
  readonly sizeBytes: number;
  readonly copies: number;
  readonly productBytes: number;
  /** Reservation of the download that is being written; undefined if there is none. */
  readonly stagingBytes: number | undefined;
}

/**
 * Also locks the lease of the running download: a transaction that holds the owner must not wait
 * for it.
 */
async function findReservation(db: Queries, claim: ImportId): Promise<Reservation> {
  const { imageId } = claim;
  const [image] = await db
    .select({
      owner: images.owner,
      sizeBytes: images.claimSizeBytes,
      copies: images.claimCopies,
      productBytes: images.claimProductBytes,
    })
    .from(images)
    .where(eq(images.id, imageId));
  if (image === undefined) throw new Error(`Image "${imageId}" is claimed and has no row`);
  const [staging] = await db
    .select({ reservedBytes: leases.reservedBytes })
    .from(leases)
    .where(isRunningDownload(claim))
    .for("update");
  return { ...image, stagingBytes: staging?.reservedBytes };
}

function isRunningDownload(claim: ImportId) {
  return and(isLease({ ...claim, place: "download" }), eq(leases.state, "writing"));
}
