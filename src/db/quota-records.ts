import { and, eq, isNull, notInArray, sql } from "drizzle-orm";
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
import { imageLocations, images, stagedFiles } from "./schema.ts";

/** What an owner has of one quota, in bytes or images. */
export interface QuotaUsage {
  /** What is there. */
  readonly usage: number;
  /** What imports and stagings that run may come to, beyond that. */
  readonly reserved: number;
}

/**
 * What an owner has of each quota, as Glance counts it: every copy of an image counts, and nothing
 * of an image whose deletion has begun. It is summed up from the rows that are there anyway: with a
 * claim or a staging goes, in the same transaction, what it reserved.
 *
 * @param owner - null: the images that belong to nobody
 */
export async function readUsage(
  db: Queries,
  owner: string | null,
): Promise<Record<Quota, QuotaUsage>> {
  // For each image by itself: a join would read the locations of all owners.
  const stored = sql`(SELECT sum(${imageLocations.sizeBytes}) FROM ${imageLocations} WHERE ${imageLocations.imageId} = ${images.id} AND ${imageLocations.status} = 'active')`;
  const isClaimed = sql`${images.claimTaskId} IS NOT NULL`;
  const stagedSize = sql`coalesce(${stagedFiles.sizeBytes}, 0)`;
  const [row] = await db
    .select({
      images: total(sql`1`),
      uploading: total(
        sql`CASE WHEN ${images.status} IN ('uploading', 'importing', 'saving') OR ${isClaimed} THEN 1 END`,
      ),
      stored: total(stored),
      importing: total(
        sql`CASE WHEN ${isClaimed} THEN ${images.claimSizeBytes} * ${images.claimCopies} END`,
      ),
      staged: total(stagedSize),
      staging: total(sql`greatest(${stagedFiles.reservedBytes} - ${stagedSize}, 0)`),
      products: total(sql`CASE WHEN ${isClaimed} THEN ${images.claimProductBytes} END`),
    })
    .from(images)
    .leftJoin(stagedFiles, and(eq(stagedFiles.imageId, images.id), isStagedItself))
    .where(isOwned(owner));
  if (row === undefined) throw new Error("Sums are one row");
  return {
    image_size_total: { usage: row.stored, reserved: row.importing },
    image_stage_total: { usage: row.staged, reserved: row.staging + row.products },
    image_count_total: { usage: row.images, reserved: 0 },
    image_count_uploading: { usage: row.uploading, reserved: 0 },
  };
}

/** Products of transforms are counted by what their import reserved for them. */
const isStagedItself = eq(stagedFiles.product, 0);

function isOwned(owner: string | null) {
  return and(
    owner === null ? isNull(images.owner) : eq(images.owner, owner),
    notInArray(images.status, ["pending_delete", "deleted"]),
  );
}

function total(amount: unknown) {
  return sql`coalesce(sum(${amount}), 0)`.mapWith(Number);
}

/** By how much something grows, in bytes or images; what is left out does not. */
export type Growth = Readonly<Partial<Record<Quota, number>>>;

/**
 * Makes sure that what this transaction has changed leaves the owner within all quotas that it
 * makes grow. From here to the end of the transaction nothing else of that owner grows, so that
 * many at once can't exceed a quota together. To be called last: whoever holds an owner must wait
 * for no row.
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

/** The quotas of an owner, of which nobody else takes anything until the transaction ends. */
export class HeldQuotas {
  readonly #owner: string | null;
  readonly #limits: QuotaLimits;
  /** Undefined for an owner without limits: nobody needs to know. */
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

  /** @param grown - what this transaction has added already, for which room is only to be asked */
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
    // Owners that happen to have the same hash wait for each other, and that is all.
    await db.execute(sql`SELECT pg_advisory_xact_lock(${QUOTA_LOCK}, hashtext(${owner ?? ""}))`);
    return new HeldQuotas(owner, own, await readUsage(db, owner), grown);
  }

  /** How much more there may be; `Infinity` without a limit. */
  left(quota: Quota): number {
    return Math.max(0, this.#limits[quota] - this.#usage(quota));
  }

  /**
   * @throws ImportError `QuotaExceeded` when so much more does not fit; asking for nothing is
   *   always granted
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

// The letters "qta", beside the lock of the migrations.
const QUOTA_LOCK = 0x71_74_61;

/**
 * Reserves what an import that is just being accepted will come to, for its claim: the size of the
 * image, where it is known already, in each store. What is not known yet grows by
 * {@link growReservation}.
 *
 * @param image - as it was before the claim
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
    // What is uploading counts already.
    image_count_uploading: image.status === "queued" || image.status === "active" ? 1 : 0,
  });
}

/**
 * What an import has found out about its size. All in bytes, and all in total: to repeat it changes
 * nothing.
 */
export interface ReservationGrowth {
  /** How large the image has become. */
  readonly imageBytes: number;
  /** How large it may be granted to become where there is room. Default: `imageBytes`. */
  readonly welcomeBytes?: number;
  /**
   * What transforms have in staging beside what is staged, all their products together. Default: 0.
   */
  readonly productBytes?: number;
}

/**
 * Reserves for an import whose size was not known when it was accepted, or turns out to be larger:
 * to be called before the bytes are written, as by `RoomAhead`. It counts in each store, and in
 * staging as far as it is being staged. It never shrinks; the end of the claim settles it.
 *
 * @returns how large the image may become before this is asked again
 * @throws ImportError `ImportLost`, `ImageTooLarge`, `QuotaExceeded`
 */
export async function growReservation(
  db: Queries,
  limits: Limits,
  claim: ImportId,
  { imageBytes, welcomeBytes = imageBytes, productBytes = 0 }: ReservationGrowth,
): Promise<number> {
  await requireClaim(db, claim);
  const reserved = await findReservation(db, claim.imageId);
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
      .update(stagedFiles)
      .set({ reservedBytes: Math.max(stagingBytes, grantedBytes) })
      .where(
        and(
          eq(stagedFiles.imageId, claim.imageId),
          isStagedItself,
          eq(stagedFiles.state, "staging"),
        ),
      );
  }
  return grantedBytes;
}

/**
 * How large a file may become that this import writes into staging now, in bytes, as far as quotas
 * and the cap say at this moment; `Infinity` without limits. It is a hint for whoever can stop
 * early: {@link growReservation} decides.
 *
 * @throws ImportError `ImportLost`
 */
export async function findQuotaLeft(db: Queries, limits: Limits, claim: ImportId): Promise<number> {
  await requireClaim(db, claim);
  const reserved = await findReservation(db, claim.imageId);
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
  /** Of what is being staged; undefined when nothing is. */
  readonly stagingBytes: number | undefined;
}

/** Also locks what is being staged: from here on nobody waits for it who holds the owner. */
async function findReservation(db: Queries, imageId: string): Promise<Reservation> {
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
    .select({ reservedBytes: stagedFiles.reservedBytes })
    .from(stagedFiles)
    .where(and(eq(stagedFiles.imageId, imageId), isStagedItself, eq(stagedFiles.state, "staging")))
    .for("update");
  return { ...image, stagingBytes: staging?.reservedBytes };
}
