import { basename, dirname, relative } from "node:path";
import {
  and,
  desc,
  eq,
  exists,
  getTableColumns,
  inArray,
  ne,
  notExists,
  or,
  sql,
} from "drizzle-orm";
import type { Fingerprint } from "../bytes/fingerprint.ts";
import type { ZeroBlocks } from "../bytes/zero-blocks.ts";
import type { Digests } from "../domain/digests.ts";
import { nextImageStatus } from "../domain/image-status.ts";
import { productPlace, storePlace, uploadOf, type Place } from "../domain/place.ts";
import type { Queries } from "./connect.ts";
import { imageLocations, images, leases, stagedFiles, type MadeProduct } from "./schema.ts";

/** The condition that facts are those of a lease. */
export const isFactsOf = and(
  eq(stagedFiles.imageId, leases.imageId),
  eq(stagedFiles.epoch, leases.epoch),
  eq(stagedFiles.place, leases.place),
);

/** The key of bytes in staging. */
interface StagedId {
  readonly imageId: string;
  readonly epoch: number;
  readonly place: Place;
}

function isFacts({ imageId, epoch, place }: StagedId) {
  return and(
    eq(stagedFiles.imageId, imageId),
    eq(stagedFiles.epoch, epoch),
    eq(stagedFiles.place, place),
  );
}

/** The condition that a row of `leases` has this key. */
export function isLease({ imageId, epoch, place }: StagedId) {
  return and(eq(leases.imageId, imageId), eq(leases.epoch, epoch), eq(leases.place, place));
}

function selectStaged(db: Queries) {
  return db
    .select({ ...getTableColumns(stagedFiles), ...getTableColumns(leases) })
    .from(leases)
    .leftJoin(stagedFiles, isFactsOf);
}

/**
 * A lease, and the facts of its bytes in staging, which are null until they are complete, and for a
 * copy.
 */
export type StagedRow = Awaited<ReturnType<typeof selectStaged>>[number];

/** Finds the lease of bytes in staging, and their facts. */
export async function findStaged(db: Queries, id: StagedId): Promise<StagedRow | undefined> {
  const [row] = await selectStaged(db).where(isLease(id));
  return row;
}

/** Finds the upload of an image, complete or not. */
export async function findUpload(db: Queries, imageId: string): Promise<StagedRow | undefined> {
  return findStaged(db, uploadOf(imageId));
}

/** The bytes that a step of an import reads. */
export interface StagedSource {
  readonly imageId: string;
  /** Default: that of the import that holds the image. */
  readonly epoch?: number | undefined;
  /** Number of the product. Default: 0, the download of the import, or the upload. */
  readonly product?: number | undefined;
}

/** Finds the bytes that a step of an import reads. */
export async function findStagedSource(
  db: Queries,
  { imageId, epoch, product = 0 }: StagedSource,
): Promise<StagedRow | undefined> {
  const ofImport =
    epoch ?? sql<number>`(SELECT epoch FROM images WHERE images.id = ${leases.imageId})`;
  const isOfImport = and(
    eq(leases.epoch, ofImport),
    eq(leases.place, product === 0 ? "download" : productPlace(product)),
  );
  const isUpload = and(eq(leases.epoch, 0), eq(leases.place, "upload"));
  const [row] = await selectStaged(db)
    .where(and(eq(leases.imageId, imageId), product === 0 ? or(isOfImport, isUpload) : isOfImport))
    .orderBy(desc(leases.epoch))
    .limit(1);
  return row;
}

/** A file below the root of a staging area. */
export interface FoundFile {
  readonly node: string;
  readonly path: string;
  /**
   * The name of the file, if it lies in the root of the area and has a name as the area gives them.
   * Default: undefined, it does not.
   */
  readonly ownName?: string | undefined;
}

/**
 * Finds the staged bytes at this path; also those that were recorded when the root of their volume
 * was at another path.
 */
export async function findStagedByPath(
  db: Queries,
  { node, path, ownName }: FoundFile,
): Promise<StagedRow | undefined> {
  const isStaged = sql`NOT starts_with(${leases.place}, 'store/')`;
  const [row] = await selectStaged(db).where(and(eq(leases.path, path), isStaged));
  if (row !== undefined || ownName === undefined) return row;
  // Each of these names begins with the id of its image.
  const imageId = ownName.slice(0, UUID_LENGTH);
  const rows = await selectStaged(db).where(
    and(eq(leases.imageId, imageId), eq(leases.node, node), isStaged),
  );
  const isElsewhere = (recorded: string) => relative(dirname(path), recorded).startsWith("../");
  return rows.find((each) => basename(each.path) === ownName && isElsewhere(each.path));
}

const UUID_LENGTH = 36;

/** Facts of complete staged bytes. */
export interface StagedData {
  readonly sizeBytes: number;
  readonly fingerprint: Fingerprint;
  /** Undefined: this service did not write the bytes, and has not digested them. */
  readonly digests: Digests | undefined;
  /** Blocks that are zero. Default: unknown. */
  readonly zeroBlocks?: ZeroBlocks;
  readonly timeToLiveMs: number;
  /** False for a file that this service did not write. Default: true. */
  readonly ours?: boolean;
  /** Report of the transform that made them. Default: none did. */
  readonly made?: MadeProduct;
}

/** Records the facts of complete bytes, for the holder of their lease. */
export async function recordStaged(db: Queries, id: StagedId, staged: StagedData): Promise<void> {
  const { imageId, epoch, place } = id;
  const facts = {
    ours: staged.ours ?? true,
    sizeBytes: staged.sizeBytes,
    fingerprint: staged.fingerprint,
    checksum: staged.digests?.checksum ?? null,
    osHashAlgo: staged.digests?.osHashAlgo ?? null,
    osHashValue: staged.digests?.osHashValue ?? null,
    crc32: staged.digests?.crc32 ?? null,
    zeroBlocks: staged.zeroBlocks?.toString() ?? "",
    stagedAt: sql`now()`,
    expiresAt: sql`now() + make_interval(secs => ${staged.timeToLiveMs / 1000})`,
    made: staged.made ?? null,
  };
  await db
    .insert(stagedFiles)
    .values({ imageId, epoch, place, ...facts })
    .onConflictDoUpdate({
      target: [stagedFiles.imageId, stagedFiles.epoch, stagedFiles.place],
      set: facts,
    });
}

/** Moves an image `queued → uploading` for an adopted file. */
export async function moveToUploading(
  db: Queries,
  imageId: string,
  sizeBytes: number,
): Promise<void> {
  await db
    .update(images)
    .set({ status: nextImageStatus("queued", "uploading"), sizeBytes, updatedAt: sql`now()` })
    .where(and(eq(images.id, imageId), eq(images.status, "queued")));
}

/**
 * Records the new fingerprint after a change by this service (chmod, link, rename), or digests that
 * were just computed. Changes nothing if another attempt has the lease by now.
 */
export async function updateStaged(
  db: Queries,
  staged: StagedId & { readonly token: string },
  facts: { readonly fingerprint: Fingerprint; readonly digests?: Digests },
): Promise<void> {
  const { fingerprint, digests } = facts;
  await db
    .update(stagedFiles)
    .set({
      fingerprint,
      ...(digests === undefined
        ? {}
        : {
            checksum: digests.checksum,
            osHashAlgo: digests.osHashAlgo,
            osHashValue: digests.osHashValue,
            crc32: digests.crc32,
          }),
    })
    .where(and(isFacts(staged), isHeldBy(db, staged)));
}

function isHeldBy(db: Queries, { token }: { readonly token: string }) {
  const held = db
    .select({ token: leases.token })
    .from(leases)
    .where(and(isFactsOf, eq(leases.token, token)));
  return exists(held);
}

/** The digests of staged bytes, if they are known. */
export function knownDigests(staged: StagedRow): Digests | undefined {
  const { checksum, osHashAlgo, osHashValue, crc32, sizeBytes } = staged;
  if (checksum === null || osHashAlgo === null || osHashValue === null) return undefined;
  if (crc32 === null || sizeBytes === null) return undefined;
  return { checksum, osHashAlgo, osHashValue, crc32, sizeBytes };
}

/**
 * True if a store may have another name of the staged file: our own staging wrote the file, and no
 * other store has one. Decided on a lease that is locked, it holds until the transaction ends.
 */
export function mayLink({ ours, linkedStore }: StagedRow, store: string): boolean {
  return ours === true && (linkedStore ?? store) === store;
}

/** Records that a store, which {@link mayLink}, has another name of the staged file. */
export async function recordLink(db: Queries, staged: StagedId, store: string): Promise<void> {
  await db.update(stagedFiles).set({ linkedStore: store }).where(isFacts(staged));
}

/**
 * Returns the right to link the staged file, after the link is gone. If a later import has a lease
 * on a copy in that store, it may have linked too, and keeps the right.
 */
export async function returnLinkRight(
  db: Queries,
  copy: { readonly imageId: string; readonly epoch: number; readonly store: string },
): Promise<void> {
  const isLinkedByAnother = db
    .select({ epoch: leases.epoch })
    .from(leases)
    .where(
      and(
        eq(leases.imageId, copy.imageId),
        eq(leases.place, storePlace(copy.store)),
        ne(leases.epoch, copy.epoch),
      ),
    );
  await db
    .update(stagedFiles)
    .set({ linkedStore: null })
    .where(
      and(
        eq(stagedFiles.imageId, copy.imageId),
        eq(stagedFiles.linkedStore, copy.store),
        notExists(isLinkedByAnother),
      ),
    );
}

/**
 * Locks staged bytes against changes of their inode by other steps; undefined if another attempt
 * has the lease by now.
 */
export async function lockStaged(
  db: Queries,
  staged: StagedId & { readonly token: string },
): Promise<StagedRow | undefined> {
  const [locked] = await db
    .select({ token: leases.token })
    .from(leases)
    .where(and(isLease(staged), eq(leases.token, staged.token)))
    .for("update");
  // Read once the lock is held: another step may have changed the facts while this one waited.
  return locked === undefined ? undefined : findStaged(db, staged);
}

/**
 * Removes the facts of bytes that are gone. A copy that was linked to them is not shared any more.
 */
export async function dropStagedFacts(db: Queries, id: StagedId): Promise<void> {
  const dropped = await db
    .delete(stagedFiles)
    .where(isFacts(id))
    .returning({ linkedStore: stagedFiles.linkedStore });
  const linked = dropped.flatMap(({ linkedStore }) => linkedStore ?? []);
  if (linked.length === 0) return;
  await db
    .update(imageLocations)
    .set({ shared: false })
    .where(
      and(
        eq(imageLocations.imageId, id.imageId),
        inArray(imageLocations.store, linked),
        // The upload may be shared with copies of any import, a download or product with its own.
        id.place === "upload" ? undefined : eq(imageLocations.epoch, id.epoch),
      ),
    );
}
