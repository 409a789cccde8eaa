import { and, eq, inArray, ne, notExists, sql } from "drizzle-orm";
import type { Fingerprint } from "../bytes/fingerprint.ts";
import type { ZeroBlocks } from "../bytes/zero-blocks.ts";
import type { Digests } from "../domain/digests.ts";
import { nextImageStatus } from "../domain/image-status.ts";
import type { Queries } from "./connect.ts";
import { imageLocations, images, leases, stagedFiles } from "./schema.ts";

/** Bytes in staging: a row of the catalogue. */
export type StagedRow = typeof stagedFiles.$inferSelect;

/** The condition that a row is that of the upload or download, or of a product. */
export function isStaged(imageId: string, product = 0) {
  return and(eq(stagedFiles.imageId, imageId), eq(stagedFiles.product, product));
}

/**
 * Finds the row of an upload, a download or a product, complete or not.
 *
 * @param product - number of the product. Default: 0, the upload or download
 */
export async function findStaged(
  db: Queries,
  imageId: string,
  product = 0,
): Promise<StagedRow | undefined> {
  const [row] = await db.select().from(stagedFiles).where(isStaged(imageId, product));
  return row;
}

/** Lists the upload or download of an image, and its products. */
export async function listStagedOf(db: Queries, imageId: string): Promise<StagedRow[]> {
  return db.select().from(stagedFiles).where(eq(stagedFiles.imageId, imageId));
}

/** Finds the row of the staged bytes at this path. */
export async function findStagedByPath(db: Queries, path: string): Promise<StagedRow | undefined> {
  const [row] = await db.select().from(stagedFiles).where(eq(stagedFiles.path, path));
  return row;
}

/** Lists all rows of the staging area of a node. */
export async function listStaged(db: Queries, node: string): Promise<StagedRow[]> {
  return db.select().from(stagedFiles).where(eq(stagedFiles.node, node));
}

/** Facts of complete staged bytes. */
export interface StagedData {
  readonly path: string;
  readonly sizeBytes: number;
  readonly fingerprint: Fingerprint;
  /** Undefined: this service did not write the bytes, and has not digested them. */
  readonly digests: Digests | undefined;
  /** Blocks that are zero. Default: unknown. */
  readonly zeroBlocks?: ZeroBlocks;
  readonly timeToLiveMs: number;
}

/** The columns of staged data. */
export function stagedColumns(staged: StagedData) {
  return {
    path: staged.path,
    sizeBytes: staged.sizeBytes,
    fingerprint: staged.fingerprint,
    checksum: staged.digests?.checksum ?? null,
    osHashAlgo: staged.digests?.osHashAlgo ?? null,
    osHashValue: staged.digests?.osHashValue ?? null,
    crc32: staged.digests?.crc32 ?? null,
    zeroBlocks: staged.zeroBlocks?.toString() ?? "",
    stagedAt: sql`now()`,
    expiresAt: sql`now() + make_interval(secs => ${staged.timeToLiveMs / 1000})`,
  };
}

/** Image `queued → uploading` for an adopted file. */
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
 * Takes the new fingerprint after a change of our own (chmod, link), or digests that were just
 * computed.
 */
export async function updateStaged(
  db: Queries,
  imageId: string,
  token: string,
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
    .where(and(eq(stagedFiles.imageId, imageId), eq(stagedFiles.token, token)));
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
 * other store has one. Decided on a row that is locked, it holds until the end of the transaction.
 */
export function mayLink({ ours, linkedStore }: StagedRow, store: string): boolean {
  return ours && (linkedStore ?? store) === store;
}

/** Records that a store, which {@link mayLink}, has another name of the staged file. */
export async function recordLink(
  db: Queries,
  { imageId, token }: Pick<StagedRow, "imageId" | "token">,
  store: string,
): Promise<void> {
  await db
    .update(stagedFiles)
    .set({ linkedStore: store })
    .where(and(eq(stagedFiles.imageId, imageId), eq(stagedFiles.token, token)));
}

/**
 * Gives the right to link back, after the link is gone. A later import may have linked into that
 * store meanwhile: its lease stands before its link does, and keeps the right.
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
        eq(leases.store, copy.store),
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

/** Locks a row of staged bytes against changes of its inode by other steps. */
export async function lockStaged(
  db: Queries,
  imageId: string,
  token: string,
): Promise<StagedRow | undefined> {
  const [row] = await db
    .select()
    .from(stagedFiles)
    .where(and(eq(stagedFiles.imageId, imageId), eq(stagedFiles.token, token)))
    .for("update");
  return row;
}

/** Forgets staged bytes that are gone, and that a linked copy was shared with them. */
export async function dropStagedRow(db: Queries, imageId: string, token: string): Promise<void> {
  const dropped = await db
    .delete(stagedFiles)
    .where(and(eq(stagedFiles.imageId, imageId), eq(stagedFiles.token, token)))
    .returning({ linkedStore: stagedFiles.linkedStore });
  const linked = dropped.flatMap(({ linkedStore }) => linkedStore ?? []);
  if (linked.length === 0) return;
  await db
    .update(imageLocations)
    .set({ shared: false })
    .where(and(eq(imageLocations.imageId, imageId), inArray(imageLocations.store, linked)));
}
