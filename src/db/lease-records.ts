import { and, eq, getTableColumns, inArray, like, lt, ne, or, sql } from "drizzle-orm";
import { isLater, type AttemptOrder } from "../domain/attempt-order.ts";
import { ImportError } from "../domain/import-failure.ts";
import { describeLease, storeAt, type Place } from "../domain/place.ts";
import type { ProcessIdentity } from "../processes/process-identity.ts";
import { requireClaim, type ImportId } from "./claim-guard.ts";
import type { Queries } from "./connect.ts";
import { lockImageRow } from "./image-records.ts";
import {
  imageLocations,
  images,
  leases,
  stagedFiles,
  type FinishedCopy,
  type TransformEffects,
} from "./schema.ts";
import { dropStagedFacts, isFactsOf, isLease, returnLinkRight } from "./staged-facts.ts";

/** A lease as the catalogue has it. */
export type LeaseRow = typeof leases.$inferSelect;

/** The key of a lease. */
export interface LeaseId extends ImportId {
  readonly place: Place;
}

/** An attempt that takes a lease. */
export interface LeaseHolder {
  readonly node: string;
  readonly token: string;
  readonly writer: ProcessIdentity;
  /** Default: null, an attempt that comes before all others. */
  readonly attempt?: AttemptOrder | null;
}

/** An undo, a sweeper or a person that takes a lease away for the removal of its bytes. */
export type LeaseTaker = Omit<LeaseHolder, "node">;

/** The names of the bytes of an attempt. */
export interface LeaseNames {
  /** Null: there are no bytes under a private name. */
  readonly part: string | null;
  readonly path: string;
  /** Private names of earlier attempts whose files may still exist. Default: none. */
  readonly earlierParts?: readonly string[];
  /**
   * True if the attempt continues the bytes of the earlier one. Default: it begins at byte 0, and
   * the facts of the earlier bytes are removed.
   */
  readonly resumes?: boolean;
}

/** The facts of bytes that are whole. */
export interface WholeBytes {
  /** Their final name. Default: the one that the attempt took the lease with. */
  readonly path?: string;
  /** The facts of a copy. */
  readonly copy?: FinishedCopy;
}

/** The leases to consider. Default: all. */
export interface LeaseFilter {
  readonly node?: string;
  readonly id?: LeaseId;
  /** True: only the leases of copies. */
  readonly copies?: boolean;
}

/**
 * Seconds without a renewal after which another process may take over an upload: four missed
 * renewals of 5 s.
 */
export const STAGING_LEASE_SECONDS = 20;

/** The condition that the writer of an upload did not renew its lease in time. */
export const isUnrenewed = lt(
  leases.renewedAt,
  sql`now() - make_interval(secs => ${STAGING_LEASE_SECONDS})`,
);

/** The condition that an upload was not renewed in time, and does not wait for its next bytes. */
export const isStale = and(
  isUnrenewed,
  or(sql`${leases.resumableUntil} IS NULL`, lt(leases.resumableUntil, sql`now()`)),
);

const NOT_RESUMABLE = { resumable: null, resumableUntil: null };

function isHeldLease(id: LeaseId, token: string) {
  return and(isLease(id), eq(leases.token, token));
}

/** Finds a lease; undefined if there is none. */
export async function findLease(db: Queries, id: LeaseId): Promise<LeaseRow | undefined> {
  const [lease] = await db.select().from(leases).where(isLease(id));
  return lease;
}

/** Locks a lease for this transaction. @returns the lease as it is now */
export async function lockLease(db: Queries, id: LeaseId): Promise<LeaseRow | undefined> {
  const [lease] = await db.select().from(leases).where(isLease(id)).for("update");
  return lease;
}

/**
 * Takes a lease for an attempt, before the first byte, from the attempt that held it.
 *
 * @param before - the lease as it was read before; undefined: there was none
 * @returns false, and changes nothing, when the lease has changed since it was read
 * @throws ImportError `ImportLost`; `AttemptOvertaken` when the attempt is late
 */
export async function takeLease(
  db: Queries,
  id: LeaseId,
  holder: LeaseHolder & LeaseNames,
  before: LeaseRow | undefined,
): Promise<boolean> {
  if (isOfImport(id)) await requireClaim(db, id);
  const now = await lockLease(db, id);
  if (now?.token !== before?.token || now?.state !== before?.state) return false;
  const { node, token, writer, attempt = null } = holder;
  const { part, path, earlierParts = [], resumes = false } = holder;
  if (attempt !== null) requireNotLate(id, now?.attempt ?? null, attempt);
  const taken = { node, token, writer, attempt, part, path, earlierParts: [...earlierParts] };
  if (!resumes) await dropStagedFacts(db, id);
  const columns = {
    ...taken,
    state: "writing",
    renewedAt: sql`now()`,
    copy: null,
    ...(resumes ? {} : { fetchedFrom: null, ...NOT_RESUMABLE, reservedBytes: 0 }),
  } as const;
  await db
    .insert(leases)
    .values({ ...idOf(id), ...columns })
    .onConflictDoUpdate({ target: [leases.imageId, leases.epoch, leases.place], set: columns });
  return true;
}

/**
 * Promises, before a transform runs, to undo its outside effects with its import. The promise of an
 * earlier attempt is renewed: an undo that has begun does not forget it.
 *
 * @throws ImportError `ImportLost`; `AttemptOvertaken` when the attempt is late
 */
export async function promiseUndo(
  db: Queries,
  id: LeaseId,
  holder: LeaseHolder,
  effects: TransformEffects,
): Promise<void> {
  const before = await lockLease(db, id);
  await takeLease(db, id, { ...holder, part: null, path: "" }, before);
  await db.update(leases).set({ effects }).where(isLease(id));
}

/** The key alone: an id may carry more. */
function idOf({ imageId, epoch, place }: LeaseId): LeaseId {
  return { imageId, epoch, place };
}

/** False for an upload, which no import owns. */
function isOfImport({ place }: LeaseId): boolean {
  return place !== "upload";
}

/** Rejects an attempt that was reset or timed out: it must not take the lease of its successor. */
function requireNotLate(id: LeaseId, held: AttemptOrder | null, attempt: AttemptOrder): void {
  if (isLater(held, attempt)) throw lostLease(id);
}

/**
 * Makes sure that this attempt still holds the lease.
 *
 * @throws ImportError `AttemptOvertaken` when another attempt holds it, `ImportLost` when the
 *   import was undone
 */
export async function requireLease(db: Queries, id: LeaseId, token: string): Promise<void> {
  if (isOfImport(id)) await requireClaim(db, id);
  const lease = await findLease(db, id);
  if (lease?.token !== token) throw lostLease(id);
}

/**
 * Renews a lease that this attempt holds, and changes columns of it.
 *
 * @param columns - default: none
 * @throws ImportError `AttemptOvertaken` when another attempt holds it, `ImportLost` when the
 *   import was undone
 */
export async function updateLease(
  db: Queries,
  id: LeaseId,
  token: string,
  columns: Partial<Pick<LeaseRow, "fetchedFrom" | "singleConnection" | "earlierParts">> = {},
): Promise<void> {
  const updated = await db
    .update(leases)
    .set({ ...columns, renewedAt: sql`now()` })
    .where(isHeldLease(id, token))
    .returning({ token: leases.token });
  if (updated.length > 0) return;
  if (isOfImport(id)) await requireClaim(db, id);
  throw lostLease(id);
}

/**
 * Records that the bytes are whole and have their final name.
 *
 * @throws ImportError `AttemptOvertaken` when another attempt holds the lease, `ImportLost`
 */
export async function finishLease(
  db: Queries,
  id: LeaseId,
  token: string,
  whole: WholeBytes = {},
): Promise<void> {
  if (isOfImport(id)) await requireClaim(db, id);
  const updated = await db
    .update(leases)
    .set({ ...whole, state: "whole", reservedBytes: 0, renewedAt: sql`now()` })
    .where(isHeldLease(id, token))
    .returning({ token: leases.token });
  if (updated.length === 0) throw lostLease(id);
}

/** The failure of an attempt whose lease another attempt of the same import has taken over. */
function lostLease(id: LeaseId): ImportError {
  return new ImportError(
    "AttemptOvertaken",
    `Another attempt has taken over ${describeLease(id)}, or an undo removes it`,
  );
}

/**
 * All names under which bytes of a lease may lie: those of its attempts, and the final one.
 */
export function namesOf({ earlierParts, part, path }: LeaseRow): string[] {
  return [...earlierParts, ...(part === null ? [] : [part]), path];
}

/**
 * Takes a lease away for the removal of its bytes: a late writer finds another token, and finishes
 * nothing. A copy that the catalogue publishes is not taken.
 *
 * @returns the lease before; undefined when there is nothing to remove
 * @throws ImportError `AttemptOvertaken` when the attempt that holds it comes after the undo
 */
export async function takeLeaseAway(
  db: Queries,
  id: LeaseId,
  taker: LeaseTaker,
): Promise<LeaseRow | undefined> {
  const lease = await lockLease(db, id);
  if (lease === undefined || (await isPublished(db, id))) return undefined;
  if (taker.attempt != null) requireNotLate(id, lease.attempt, taker.attempt);
  await takeFrom(db, lease, taker);
  return lease;
}

/**
 * Gives a lease to its taker. From now on its part is not continued, even if the writer is alive:
 * the taker removes it.
 */
async function takeFrom(db: Queries, lease: LeaseRow, taker: LeaseTaker): Promise<void> {
  const { token, writer, attempt = null } = taker;
  const { earlierParts, part } = lease;
  await db
    .update(leases)
    .set({
      ...{ token, writer, attempt, state: "writing", fetchedFrom: null, copy: null },
      ...NOT_RESUMABLE,
      part: null,
      earlierParts: part === null ? earlierParts : [...earlierParts, part],
      renewedAt: sql`now()`,
    })
    .where(isLease(lease));
}

/**
 * Drops a lease whose bytes are gone, together with their facts. If they were staged bytes, a
 * linked copy is not shared any more. If they were a copy, another store may link the staged file.
 *
 * @param token - the token that must hold the lease. Default: any
 * @returns true if there was such a lease
 */
export async function dropLease(db: Queries, id: LeaseId, token?: string): Promise<boolean> {
  const lease = await lockLease(db, id);
  if (lease === undefined || (token !== undefined && lease.token !== token)) return false;
  await dropStagedFacts(db, id);
  await db.delete(leases).where(isLease(id));
  const store = storeAt(id.place);
  if (store !== undefined) await returnLinkRight(db, { ...id, store });
  return true;
}

/** True if the catalogue publishes this copy: then no undo may touch it. */
async function isPublished(db: Queries, { imageId, epoch, place }: LeaseId): Promise<boolean> {
  const store = storeAt(place);
  if (store === undefined) return false;
  const [location] = await db
    .select({ status: imageLocations.status })
    .from(imageLocations)
    .where(
      and(
        eq(imageLocations.imageId, imageId),
        eq(imageLocations.store, store),
        eq(imageLocations.epoch, epoch),
        eq(imageLocations.status, "active"),
      ),
    );
  return location !== undefined;
}

/**
 * The condition that an image does not have the claim of a lease any more: the import ended, or
 * another one has the image.
 */
const isUnclaimed = or(sql`${images.claimTaskId} IS NULL`, ne(images.epoch, leases.epoch));

/** The condition that an upload has no owner: see {@link listAbandonedLeases}. */
const isUploadToRemove = and(
  sql`${images.claimTaskId} IS NULL`,
  or(
    and(eq(leases.state, "writing"), isStale),
    and(eq(leases.state, "whole"), lt(stagedFiles.expiresAt, sql`now()`)),
    inArray(images.status, ["active", "deactivated", "deleted"]),
  ),
);

/**
 * Lists the leases without an owner: those of imports that do not hold their image any more,
 * uploads that were not renewed in time or are past their time to live, and uploads of published
 * or deleted images.
 */
export async function listAbandonedLeases(
  db: Queries,
  filter: LeaseFilter = {},
): Promise<LeaseRow[]> {
  return db
    .select(getTableColumns(leases))
    .from(leases)
    .leftJoin(images, eq(images.id, leases.imageId))
    .leftJoin(stagedFiles, isFactsOf)
    .where(
      and(
        filter.node === undefined ? undefined : eq(leases.node, filter.node),
        filter.id === undefined ? undefined : isLease(filter.id),
        filter.copies === true ? like(leases.place, "store/%") : undefined,
        or(
          and(ne(leases.place, "upload"), isUnclaimed),
          and(eq(leases.place, "upload"), isUploadToRemove),
        ),
      ),
    );
}

/**
 * Takes an abandoned lease away for the removal of its bytes; see {@link listAbandonedLeases}. No
 * import reads these bytes from then on.
 *
 * @param token - the token that must hold the lease. Default: any
 * @returns the lease before; undefined when it has an owner, is gone, or is that of a published
 *   copy
 */
export async function takeAbandonedLease(
  db: Queries,
  id: LeaseId,
  taker: LeaseTaker,
  token?: string,
): Promise<LeaseRow | undefined> {
  await lockImageRow(db, id.imageId);
  await lockLease(db, id);
  const [lease] = await listAbandonedLeases(db, { id });
  if (lease === undefined || (token !== undefined && lease.token !== token)) return undefined;
  if (await isPublished(db, id)) return undefined;
  await takeFrom(db, lease, taker);
  return lease;
}

/** Lists all leases on a store. */
export async function listStoreLeases(db: Queries, place: Place): Promise<LeaseRow[]> {
  return db.select().from(leases).where(eq(leases.place, place));
}

/** Lists all leases whose bytes a node reaches. */
export async function listNodeLeases(db: Queries, node: string): Promise<LeaseRow[]> {
  return db.select().from(leases).where(eq(leases.node, node));
}

/** Lists all leases of one import. */
export async function listLeasesOf(db: Queries, claim: ImportId): Promise<LeaseRow[]> {
  return db
    .select()
    .from(leases)
    .where(and(eq(leases.imageId, claim.imageId), eq(leases.epoch, claim.epoch)));
}

/** Lists all leases of an image, of its upload and of all its imports. */
export async function listLeasesOfImage(db: Queries, imageId: string): Promise<LeaseRow[]> {
  return db.select().from(leases).where(eq(leases.imageId, imageId));
}
