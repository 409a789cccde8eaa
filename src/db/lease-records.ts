import { and, eq, sql } from "drizzle-orm";
import type { ProcessIdentity } from "../bytes/process-identity.ts";
import type { ImageStatus } from "../domain/image-status.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { Queries } from "./connect.ts";
import { imageLocations, images, leases } from "./schema.ts";

/** A lease as the catalogue has it. */
export type LeaseRow = typeof leases.$inferSelect;

/** Which copy a lease is about. */
export interface CopyId {
  readonly imageId: string;
  readonly epoch: number;
  readonly store: string;
}

function isLease(copy: CopyId) {
  return and(
    eq(leases.imageId, copy.imageId),
    eq(leases.epoch, copy.epoch),
    eq(leases.store, copy.store),
  );
}

const WHILE_IMPORTED: readonly ImageStatus[] = ["importing", "saving"];
// Of an active image more copies are made without a change of its status; a person may deactivate it meanwhile.
const WHILE_COPIED: readonly ImageStatus[] = ["active", "deactivated"];

/**
 * Locks the image for this transaction if the import of this epoch still holds it.
 *
 * @throws ImportError `ImportLost` when it was deleted, taken or released meanwhile
 */
export async function requireClaim(
  db: Queries,
  claim: { readonly imageId: string; readonly epoch: number },
): Promise<void> {
  const [image] = await db
    .select({
      status: images.status,
      epoch: images.epoch,
      claim: images.claimTaskId,
      earlier: images.claimEarlierStatus,
    })
    .from(images)
    .where(eq(images.id, claim.imageId))
    .for("update");
  const isOurs = image?.epoch === claim.epoch && image.claim !== null;
  const statuses = image?.earlier === "active" ? WHILE_COPIED : WHILE_IMPORTED;
  if (!isOurs || !statuses.includes(image.status)) {
    throw new ImportError(
      "ImportLost",
      `Image "${claim.imageId}" was deleted or taken while it was imported (it is ${image?.status ?? "gone"})`,
    );
  }
}

/** Takes the lease of a copy for an attempt, from whichever attempt held it. What was published stays published. */
export async function takeLease(
  db: Queries,
  copy: CopyId,
  attempt: {
    readonly node: string;
    readonly token: string;
    readonly writer: ProcessIdentity;
    readonly part: string;
    readonly key: string;
  },
): Promise<void> {
  await db
    .insert(leases)
    .values({ ...copy, ...attempt, state: "writing" })
    .onConflictDoUpdate({
      target: [leases.imageId, leases.epoch, leases.store],
      set: {
        token: attempt.token,
        writer: attempt.writer,
        part: attempt.part,
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
 * @throws ImportError `ImportLost` when another attempt holds the lease
 */
export async function publishLease(
  db: Queries,
  copy: CopyId,
  token: string,
  published: { readonly sizeBytes: number; readonly crc32: number; readonly shared: boolean },
): Promise<void> {
  const updated = await db
    .update(leases)
    .set({ ...published, state: "published", updatedAt: sql`now()` })
    .where(and(isLease(copy), eq(leases.token, token)))
    .returning({ token: leases.token });
  if (updated.length === 0) throw lostLease(copy);
}

/**
 * Makes sure that this attempt still holds the lease.
 *
 * @throws ImportError `ImportLost` when another attempt holds it, or the import was undone
 */
export async function requireLease(db: Queries, copy: CopyId, token: string): Promise<void> {
  await requireClaim(db, copy);
  const lease = await findLease(db, copy);
  if (lease?.token !== token) throw lostLease(copy);
}

function lostLease(copy: CopyId): ImportError {
  return new ImportError(
    "ImportLost",
    `Another attempt writes the copy of image "${copy.imageId}" in store "${copy.store}"`,
  );
}

/** Forgets a lease whose bytes are gone. */
export async function dropLease(db: Queries, copy: CopyId): Promise<void> {
  await db.delete(leases).where(isLease(copy));
}

/** Whether the catalogue publishes this copy: then no undo may touch it. */
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

/** Leases that no claim covers any more: their import ended without removing them, or was killed. */
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
export async function listLeasesOf(
  db: Queries,
  claim: { readonly imageId: string; readonly epoch: number },
): Promise<LeaseRow[]> {
  return db
    .select()
    .from(leases)
    .where(and(eq(leases.imageId, claim.imageId), eq(leases.epoch, claim.epoch)));
}
