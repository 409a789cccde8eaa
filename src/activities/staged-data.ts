import { lstat, type FileHandle } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { compareFingerprints, fingerprintOf, type Fingerprint } from "../bytes/fingerprint.ts";
import { hashFile } from "../bytes/hash-file.ts";
import { ZeroBlocks } from "../bytes/zero-blocks.ts";
import type { Queries } from "../db/connect.ts";
import { requireLease, type LeaseId } from "../db/lease-records.ts";
import {
  findStagedSource,
  knownDigests,
  lockStaged,
  mayLink,
  recordLink,
  updateStaged,
  type StagedRow,
} from "../db/staged-facts.ts";
import type { Digests } from "../domain/digests.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { OpenStaged } from "../staging/staging-area.ts";
import type { CopyOrder, PrivateCopy, Store } from "../stores/store.ts";
import type { NodeDependencies } from "./dependencies.ts";
import { patiently } from "./patiently.ts";
import type { Progress } from "./progress.ts";

/** The staged bytes that a step is about. */
export interface StagedOrder {
  readonly image_id: string;
  /** The import. Absent in orders of 0.1.0: then the import that holds the image. */
  readonly epoch?: number;
  /** URI of the upload or download. Null: it is at the default place. */
  readonly uri: string | null;
  /** Number of the product. Default: 0, the upload or download. */
  readonly product?: number | undefined;
}

/** Staged bytes, open until they are disposed of, and what the catalogue knows of them. */
export interface TrustedStaged extends AsyncDisposable {
  readonly handle: FileHandle;
  readonly path: string;
  readonly row: StagedRow;
  readonly sizeBytes: number;
  readonly digests: Digests | undefined;
  /** Blocks that are zero; valid as long as the digests are. */
  readonly zeroBlocks: ZeroBlocks;
}

/**
 * Opens the staged bytes of an image and makes sure that they agree with the catalogue. An
 * unchanged file is trusted. If the digests are known, a touched or changed file is digested again
 * and compared. If they are not known, a touched file is trusted, and a changed one is refused.
 *
 * @throws ImportError `StagedDataMissing`, `StagedDataRefused`, `StagedDataChanged`
 */
export async function openTrustedStaged(
  dependencies: NodeDependencies,
  order: StagedOrder,
  progress: Progress,
): Promise<TrustedStaged> {
  const { image_id: imageId, epoch, product } = order;
  const find = () =>
    dependencies.database.query((db) => findStagedSource(db, { imageId, epoch, product }));
  const opened = await dependencies.staging.openStaged(order.image_id, await uriOf(order, find));
  try {
    // Read after the file was opened: if another file has replaced it since, the open file differs
    // from the row.
    const row = await find();
    if (row?.state !== "whole") throw missing(order.image_id);
    return await trusted(dependencies, opened, row, progress);
  } catch (error) {
    await opened.handle.close();
    throw error;
  }
}

/**
 * The URI of the bytes. The name of a product depends on the attempt that made it, and is only in
 * the catalogue.
 */
async function uriOf(
  { image_id, uri, product = 0 }: StagedOrder,
  find: () => Promise<StagedRow | undefined>,
): Promise<string | undefined> {
  if (product === 0) return uri ?? undefined;
  const row = await find();
  if (row === undefined) throw missing(image_id);
  return pathToFileURL(row.path).href;
}

function missing(imageId: string): ImportError {
  return new ImportError("StagedDataMissing", `Nothing is staged for image "${imageId}" any more`);
}

async function trusted(
  dependencies: NodeDependencies,
  opened: OpenStaged,
  row: StagedRow,
  progress: Progress,
): Promise<TrustedStaged> {
  const { handle, path } = opened;
  if (row.fingerprint === null) throw missing(row.imageId);
  const sizeBytes = Number(row.fingerprint.sizeBytes);
  const digests = knownDigests(row);
  const verdict = compareFingerprints(row.fingerprint, opened.fingerprint);
  const zeroBlocks = new ZeroBlocks(row.zeroBlocks ?? "");
  const close = () => handle.close();
  const staged = {
    handle,
    path,
    row,
    sizeBytes,
    digests,
    zeroBlocks,
    [Symbol.asyncDispose]: close,
  };
  if (verdict !== "same") await requireAsRecorded(dependencies, staged, progress);
  return staged;
}

/**
 * Makes sure that the open bytes are those that the catalogue has now, by the rule of fingerprints.
 *
 * @throws ImportError `StagedDataMissing`, `StagedDataChanged`
 */
export async function requireAsRecorded(
  dependencies: NodeDependencies,
  { handle, row }: Pick<TrustedStaged, "handle" | "row">,
  progress: Progress,
): Promise<void> {
  // Another step of this import may have changed the file (by a link or chmod) and not yet its
  // facts. Compare again under the lock.
  const settled = await dependencies.database.transaction(async (db) => {
    const locked = await lockStaged(db, row);
    if (locked?.fingerprint == null) throw missing(row.imageId);
    return compareFingerprints(locked.fingerprint, await fingerprintOf(handle));
  });
  if (settled !== "same") await requireSameBytes(dependencies, handle, row, settled, progress);
}

/** Compares the digests of bytes that were touched. */
async function requireSameBytes(
  { database }: NodeDependencies,
  handle: FileHandle,
  row: StagedRow,
  verdict: "touched" | "changed",
  progress: Progress,
): Promise<void> {
  const recorded = knownDigests(row);
  const now = await fingerprintOf(handle);
  if (recorded === undefined) {
    if (verdict === "changed") throw changed(row);
    await database.query((db) => updateStaged(db, row, { fingerprint: now }));
    return;
  }
  if (Number(now.sizeBytes) !== recorded.sizeBytes) throw changed(row);
  const digests = await hashFile(handle, {
    sizeBytes: recorded.sizeBytes,
    hashAlgo: recorded.osHashAlgo,
    signal: progress.signal,
    report: progress.report,
  });
  if (digests.osHashValue !== recorded.osHashValue) throw changed(row);
  await patiently(progress, () =>
    database.query((db) => updateStaged(db, row, { fingerprint: now, digests })),
  );
}

function changed(row: StagedRow): ImportError {
  return new ImportError(
    "StagedDataChanged",
    `The staged data of image "${row.imageId}" at "${row.path}" changed after it was staged`,
  );
}

/**
 * Changes the ctime of a staged file (by a chmod, a link, the removal of another name) and records
 * its new fingerprint. Both happen under the lock of its lease: no other step takes the change for
 * that of another program. A process that is killed in between leaves the earlier fingerprint, and
 * the next step digests the bytes again. `change` gets the current row, and must end before the
 * database ends an idle transaction.
 *
 * @param db - a transaction
 */
export async function changeStaged<T>(
  db: Queries,
  staged: TrustedStaged,
  change: (row: StagedRow) => Promise<T>,
): Promise<T> {
  const locked = await lockStaged(db, staged.row);
  if (locked?.state !== "whole") throw missing(staged.row.imageId);
  const before = await fingerprintOf(staged.handle);
  const result = await change(locked);
  const after = await fingerprintOf(staged.handle);
  // Only the change that this process made is accepted. Another writer's stays visible, and the
  // bytes are digested again.
  const wasAsRecorded =
    locked.fingerprint !== null && compareFingerprints(locked.fingerprint, before) === "same";
  if (wasAsRecorded && compareFingerprints(before, after) === "touched") {
    await updateStaged(db, staged.row, { fingerprint: after });
  }
  return result;
}

/** A link to make: of a staged file, in a store, by the attempt that holds a lease. */
export interface Linking {
  readonly store: Store;
  readonly order: CopyOrder;
  readonly lease: { readonly id: LeaseId; readonly token: string };
}

/**
 * Links the staged file into a store, if that store may have it and this attempt still holds the
 * lease of the copy.
 *
 * @returns undefined where the copy must be made in another way
 * @throws ImportError `AttemptOvertaken`, `ImportLost`
 */
export async function linkStaged(
  { database }: NodeDependencies,
  staged: TrustedStaged,
  { store, order, lease }: Linking,
): Promise<PrivateCopy | undefined> {
  if (store.canLink !== true || order.crc32 === undefined) return undefined;
  // Decides most cases without the lock.
  if (!mayLink(staged.row, store.name)) return undefined;
  return database.transaction(async (db) => {
    // A late attempt must not take the right of a later one.
    await requireLease(db, lease.id, lease.token);
    return changeStaged(db, staged, async (row) => {
      if (!mayLink(row, store.name)) return undefined;
      const copy = await store.link?.(order);
      if (copy !== undefined) await recordLink(db, row, store.name);
      return copy;
    });
  });
}

/**
 * Makes sure that the open bytes did not change since their fingerprint was taken.
 *
 * @throws ImportError `StagedDataChanged`
 */
export async function requireUnchanged(
  { handle, row }: TrustedStaged,
  since: Fingerprint,
): Promise<void> {
  if (compareFingerprints(since, await fingerprintOf(handle)) === "changed") throw changed(row);
}

/**
 * Makes sure that the staged path still leads to the open file.
 *
 * @throws ImportError `StagedDataChanged` when another file has taken its place
 */
export async function requireInPlace(staged: TrustedStaged): Promise<void> {
  const [opened, named] = await Promise.all([
    staged.handle.stat({ bigint: true }),
    lstat(staged.path, { bigint: true }).catch(() => undefined),
  ]);
  if (named?.ino !== opened.ino || named.dev !== opened.dev) throw changed(staged.row);
}
