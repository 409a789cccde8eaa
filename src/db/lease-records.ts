import { and, eq, sql } from "drizzle-orm";
import type { ProcessIdentity } from "../processes/process-identity.ts";
import type { AttemptOrder } from "../domain/attempt-order.ts";
import { ImportError } from "../domain/import-failure.ts";
import { requireClaim, type ImportId } from "./claim-guard.ts";
import type { Queries } from "./connect.ts";
import { imageLocations, images, leases } from "./schema.ts";

/** A lease as the catalogue has it. */
export type LeaseRow = typeof leases.$inferSelect;

/** The key of a lease. */
export interface CopyId extends ImportId {
  readonly store: string;
}

function isLease(copy: CopyId) {
  return and(
    eq(leases.imageId, copy.imageId),
    eq(leases.epoch, copy.epoch),
    eq(leases.store, copy.store),
  );
}

/**
 * Takes the lease of a copy for an attempt, from the attempt that held it. A published copy stays
 * published. The caller has made sure that the attempt is not late.
 */
export async function takeLease(
  db: Queries,
  copy: CopyId,
  attempt: {
    readonly node: string;
    readonly token: string;
    readonly writer: ProcessIdentity;
    /** Default: null, an attempt that comes before all others. */
    readonly attempt?: AttemptOrder | null;
    readonly part: string;
    /** Private names of the attempts before it that may not be gone yet. Default: none. */
    readonly earlierParts?: readonly string[];
    readonly key: string;
  },
): Promise<void> {
  const { attempt: order = null, earlierParts = [], ...columns } = attempt;
  const taken = { attempt: order, earlierParts: [...earlierParts] };
  await db
    .insert(leases)
    .values({ ...copy, ...columns, ...taken, state: "writing" })
    .onConflictDoUpdate({
      target: [leases.imageId, leases.epoch, leases.store],
      set: {
        token: attempt.token,
        writer: attempt.writer,
        part: attempt.part,
        ...taken,
        updatedAt: sql`now()`,
      },
    });
}

/** The lease of a copy, if there is one. */
export async function findLease(db: Queries, copy: CopyId): Promise<LeaseRow | undefined> {
  const [lease] = await db.select().from(leases).where(isLease(copy));
  return lease;
}

/**
 * Records that the copy lies under its final name.
 *
 * @throws ImportError `AttemptOvertaken` when another attempt holds the lease, `ImportLost` when
 *   the import was undone
 */
export async function publishLease(
  db: Queries,
  copy: CopyId,
  token: string,
  published: {
    readonly sizeBytes: number;
    readonly crc32: number;
    readonly shared: boolean;
    /**
     * The version in which the copy was checked. Default: none, so that it is read again before it
     * goes live
     */
    readonly version?: string | undefined;
  },
): Promise<void> {
  const updated = await db
    .update(leases)
    .set({ ...published, state: "published", updatedAt: sql`now()` })
    .where(and(isLease(copy), eq(leases.token, token)))
    .returning({ token: leases.token });
  if (updated.length > 0) return;
  await requireClaim(db, copy);
  throw lostLease(copy);
}

/**
 * Makes sure that this attempt still holds the lease.
 *
 * @throws ImportError `AttemptOvertaken` when another attempt holds it, `ImportLost` when the
 *   import was undone
 */
export async function requireLease(db: Queries, copy: CopyId, token: string): Promise<void> {
  await requireClaim(db, copy);
  const lease = await findLease(db, copy);
  if (lease?.token !== token) throw lostLease(copy);
}

/** The failure of an attempt at a copy that another attempt of the same import has taken over. */
function lostLease(copy: CopyId): ImportError {
  return new ImportError(
    "AttemptOvertaken",
    `Another attempt writes the copy of image "${copy.imageId}" in store "${copy.store}"`,
  );
}

/**
 * All names in a store under which bytes of a lease may lie: those of its attempts, and the final
 * one.
 */
export function namesOf({ earlierParts, part, key }: LeaseRow): string[] {
  return [...earlierParts, part, key];
}

/**
 * Forgets private names of earlier attempts, which are gone, unless another attempt holds the lease
 * by now.
 */
export async function dropEarlierParts(db: Queries, copy: CopyId, token: string): Promise<void> {
  await db
    .update(leases)
    .set({ earlierParts: [] })
    .where(and(isLease(copy), eq(leases.token, token)));
}

/**
 * Takes the lease of a copy away from an attempt whose import does not hold the image any more, for
 * the removal of its bytes: the undo of that import may have come before the attempt began.
 *
 * @param token - of the attempt
 * @param taker - the token with which the lease is held from then on
 * @returns the lease before; undefined while the import holds its image, and when another attempt
 *   or an undo has the lease
 */
export async function takeOrphanedLease(
  db: Queries,
  copy: CopyId,
  token: string,
  taker: string,
): Promise<LeaseRow | undefined> {
  const [image] = await db
    .select({ epoch: images.epoch, claim: images.claimTaskId })
    .from(images)
    .where(eq(images.id, copy.imageId))
    .for("update");
  if (image?.epoch === copy.epoch && image.claim !== null) return undefined;
  if (await isPublishedLocation(db, copy)) return undefined;
  const [lease] = await db
    .update(leases)
    .set({ token: taker })
    .where(and(isLease(copy), eq(leases.token, token)))
    .returning();
  return lease;
}

/**
 * Forgets a lease whose bytes are gone.
 *
 * @param token - with which it must be held. Default: any
 * @returns true if it was there
 */
export async function dropLease(db: Queries, copy: CopyId, token?: string): Promise<boolean> {
  const isHeld = token === undefined ? undefined : eq(leases.token, token);
  const dropped = await db
    .delete(leases)
    .where(and(isLease(copy), isHeld))
    .returning({ token: leases.token });
  return dropped.length > 0;
}

/** True if the catalogue publishes this copy: then no undo may touch it. */
export async function isPublishedLocation(db: Queries, copy: CopyId): Promise<boolean> {
  const [location] = await db
    .select({ status: imageLocations.status })
    .from(imageLocations)
    .where(
      and(
        eq(imageLocations.imageId, copy.imageId),
        eq(imageLocations.store, copy.store),
        eq(imageLocations.epoch, copy.epoch),
        eq(imageLocations.status, "active"),
      ),
    );
  return location !== undefined;
}

/**
 * Leases that no claim covers any more: their import ended without removing them, or was killed.
 */
export async function listAbandonedLeases(db: Queries): Promise<LeaseRow[]> {
  const rows = await db
    .select({ lease: leases })
    .from(leases)
    .leftJoin(images, and(eq(images.id, leases.imageId), eq(images.epoch, leases.epoch)))
    .where(sql`${images.claimTaskId} IS NULL`);
  return rows.map((row) => row.lease);
}

/** All leases on a store. */
export async function listLeases(db: Queries, store: string): Promise<LeaseRow[]> {
  return db.select().from(leases).where(eq(leases.store, store));
}

/** All leases of one import. */
export async function listLeasesOf(db: Queries, claim: ImportId): Promise<LeaseRow[]> {
  return db
    .select()
    .from(leases)
    .where(and(eq(leases.imageId, claim.imageId), eq(leases.epoch, claim.epoch)));
}
