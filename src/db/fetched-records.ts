import { and, eq, sql } from "drizzle-orm";
import type { PgUpdateSetSource } from "drizzle-orm/pg-core";
import type { ProcessIdentity } from "../processes/process-identity.ts";
import type { AttemptOrder } from "../domain/attempt-order.ts";
import { ImportError } from "../domain/import-failure.ts";
import { requireClaim, type ImportId } from "./claim-guard.ts";
import type { Queries } from "./connect.ts";
import { lockImage } from "./image-records.ts";
import { stagedFiles, type FetchedFrom } from "./schema.ts";
import {
  findStaged,
  isStaged,
  stagedColumns,
  type StagedData,
  type StagedRow,
} from "./staged-records.ts";

function isFetcher({ imageId, epoch }: ImportId, token: string) {
  return and(
    isStaged(imageId),
    eq(stagedFiles.epoch, epoch),
    eq(stagedFiles.token, token),
    eq(stagedFiles.state, "staging"),
  );
}

function lostFetch({ imageId }: ImportId): ImportError {
  return new ImportError(
    "AttemptOvertaken",
    `Another attempt fetches the bytes of image "${imageId}"`,
  );
}

/**
 * Finds the staged bytes that a download may replace: those of an earlier attempt, of an earlier
 * import, or none.
 *
 * @param node - of the staging volume that fetches
 * @throws ImportError `ImportLost`; `ImageConflict` when there is an upload, which no import
 *   replaces; `StagingUnavailable`, retried, while it lies on another node and waits to be swept
 */
export async function findReplaceable(
  db: Queries,
  id: ImportId,
  node: string,
): Promise<StagedRow | undefined> {
  await requireClaim(db, id);
  const image = await lockImage(db, id.imageId);
  const row = await findStaged(db, id.imageId);
  // A queued image has no upload: its row is that of an earlier import, which adopted a file and
  // failed.
  const isAdopted = row?.ours === false && image.claimEarlierStatus === "queued";
  if (row !== undefined && row.epoch !== null && row.node !== node) {
    throw new ImportError(
      "StagingUnavailable",
      `Cannot download image "${id.imageId}": the download of an earlier import still lies on node "${row.node}"`,
      { hint: "The worker of that node removes it; the step is retried automatically." },
    );
  }
  if (row === undefined || row.epoch !== null || isAdopted) return row;
  throw new ImportError(
    "ImageConflict",
    `Cannot download image "${id.imageId}": it has an upload already`,
    { hint: `\`image-import start ${id.imageId}\` imports it.` },
  );
}

/**
 * Takes the row away, if it has not changed since it was read: the attempt that wrote it cannot
 * finish any more. The row loses its source, so that no later attempt resumes a part whose writer
 * may be alive.
 *
 * @throws ImportError `ImportLost`
 */
export async function takeRow(
  db: Queries,
  id: ImportId,
  before: StagedRow,
  taker: {
    readonly node: string;
    readonly token: string;
    readonly writer: ProcessIdentity;
    readonly attempt?: AttemptOrder | null;
  },
): Promise<boolean> {
  const now = await findReplaceable(db, id, taker.node);
  if (now?.token !== before.token || now.state !== before.state) return false;
  await db
    .update(stagedFiles)
    .set({ ...taker, fetchedFrom: null })
    .where(isStaged(id.imageId));
  return true;
}

/**
 * Finds the row of an attempt that still holds it.
 *
 * @throws ImportError `AttemptOvertaken` when another attempt fetches it, `ImportLost` when the
 *   import was undone
 */
export async function requireFetch(db: Queries, id: ImportId, token: string): Promise<StagedRow> {
  await requireClaim(db, id);
  const [row] = await db.select().from(stagedFiles).where(isFetcher(id, token));
  if (row === undefined) throw lostFetch(id);
  return row;
}

async function updateFetch(
  db: Queries,
  id: ImportId,
  token: string,
  columns: PgUpdateSetSource<typeof stagedFiles>,
): Promise<void> {
  const updated = await db
    .update(stagedFiles)
    .set(columns)
    .where(isFetcher(id, token))
    .returning({ token: stagedFiles.token });
  if (updated.length > 0) return;
  await requireClaim(db, id);
  throw lostFetch(id);
}

/**
 * Takes the row of a fetch for an attempt: the lease, before the first byte. A resumed download
 * keeps the facts of its source. One that restarts from byte 0 keeps only whether several
 * connections failed. The caller has made sure that the attempt is not late.
 */
export async function takeFetch(
  db: Queries,
  id: ImportId,
  attempt: {
    readonly node: string;
    readonly token: string;
    readonly writer: ProcessIdentity;
    /** Default: null, an attempt that comes before all others. */
    readonly attempt?: AttemptOrder | null;
    readonly part: string;
    readonly path: string;
    readonly resumes: boolean;
  },
): Promise<void> {
  const { resumes, ...columns } = attempt;
  if (resumes) {
    await db
      .update(stagedFiles)
      .set({ ...columns, renewedAt: sql`now()` })
      .where(and(isStaged(id.imageId), eq(stagedFiles.epoch, id.epoch)));
    return;
  }
  const [before] = await db
    .delete(stagedFiles)
    .where(isStaged(id.imageId))
    .returning({ epoch: stagedFiles.epoch, singleConnection: stagedFiles.singleConnection });
  const singleConnection = before?.epoch === id.epoch && before.singleConnection;
  await db
    .insert(stagedFiles)
    .values({ ...id, ...columns, singleConnection, state: "staging", ours: true });
}

/**
 * Records that several connections to the source failed: every later attempt of this import takes
 * one.
 *
 * @throws ImportError `AttemptOvertaken`
 */
export async function recordSingleConnection(
  db: Queries,
  id: ImportId,
  token: string,
): Promise<void> {
  await updateFetch(db, id, token, { singleConnection: true });
}

/**
 * Records the source of a download, and the number of bytes that are safe.
 *
 * @throws ImportError `AttemptOvertaken` when another attempt fetches it, `ImportLost` when the
 *   import was undone
 */
export async function recordSource(
  db: Queries,
  id: ImportId,
  token: string,
  fetchedFrom: FetchedFrom,
): Promise<void> {
  await updateFetch(db, id, token, { fetchedFrom, renewedAt: sql`now()` });
}

/**
 * Records the facts of a complete download before it gets its final name: after a death the next
 * attempt needs only its fingerprint.
 *
 * @throws ImportError `ImportLost`, `AttemptOvertaken`
 */
export async function recordFetched(
  db: Queries,
  id: ImportId,
  token: string,
  fetched: StagedData,
): Promise<void> {
  await requireClaim(db, id);
  await updateFetch(db, id, token, stagedColumns(fetched));
}

/**
 * Finishes a download: it has its final name, and is staged like an upload.
 *
 * @throws ImportError `ImportLost`, `AttemptOvertaken`
 */
export async function finishFetch(
  db: Queries,
  id: ImportId,
  token: string,
  place: Pick<StagedData, "path" | "fingerprint">,
): Promise<void> {
  await requireClaim(db, id);
  await updateFetch(db, id, token, {
    ...place,
    state: "staged",
    part: null,
    reservedBytes: 0,
    renewedAt: sql`now()`,
  });
}

/**
 * Takes the download of an import away for its removal: a late attempt finds another token.
 *
 * @param requireNotLate - throws when the attempt that holds the row comes after the undo. Default:
 *   none does
 * @returns the row before; undefined when the import has no download
 */
export async function takeFetchedAway(
  db: Queries,
  id: ImportId,
  taker: {
    readonly token: string;
    readonly writer: ProcessIdentity;
    readonly attempt?: AttemptOrder | null;
  },
  requireNotLate: (held: AttemptOrder | null) => void = () => undefined,
): Promise<StagedRow | undefined> {
  const [row] = await db
    .select()
    .from(stagedFiles)
    .where(and(isStaged(id.imageId), eq(stagedFiles.epoch, id.epoch)))
    .for("update");
  if (row === undefined) return undefined;
  requireNotLate(row.attempt);
  await db
    .update(stagedFiles)
    .set({ ...taker, state: "staging", fetchedFrom: null, renewedAt: sql`now()` })
    .where(isStaged(id.imageId));
  return row;
}
