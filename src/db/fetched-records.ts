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
 * What is in staging for an image whose import is about to fetch its bytes: what an earlier attempt
 * left, or nothing, or something that this import may throw away.
 *
 * @param node - of the staging volume that fetches
 * @throws ImportError `ImportLost`; `ImageConflict` when a person staged data, which no import
 *   throws away; `StagingUnavailable`, retried, while it lies on another node and waits to be swept
 */
export async function findReplaceable(
  db: Queries,
  id: ImportId,
  node: string,
): Promise<StagedRow | undefined> {
  await requireClaim(db, id);
  const image = await lockImage(db, id.imageId);
  const row = await findStaged(db, id.imageId);
  // A queued image has no staged data: what it has was adopted by an earlier import, which failed.
  const isAdopted = row?.ours === false && image.claimEarlierStatus === "queued";
  if (row !== undefined && row.epoch !== null && row.node !== node) {
    throw new ImportError(
      "StagingUnavailable",
      `What an earlier import fetched of image "${id.imageId}" still lies on node "${row.node}"`,
      { hint: "The worker of that node removes it; the step is retried by itself." },
    );
  }
  if (row === undefined || row.epoch !== null || isAdopted) return row;
  throw new ImportError(
    "ImageConflict",
    `The image "${id.imageId}" has data on staging already, so that none is fetched`,
    { hint: `\`image-import start ${id.imageId}\` imports it.` },
  );
}

/**
 * Takes away what is there, if it still is what was looked at: the attempt that wrote it can't
 * finish any more. It forgets where the bytes came from, so that no later attempt goes on from a
 * part whose writer may be alive.
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
 * The row of an attempt that still holds it.
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
 * Takes the row of a fetch for an attempt: the lease, before the first byte. A resumed one keeps
 * what it knows of its source; one that begins afresh keeps only whether its source is fit for
 * several connections. The caller has made sure that the attempt is not late.
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
 * Records what is being fetched, and how much of it is safe.
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
 * Records what the bytes turned out to be, before they get their final name: whoever finds them
 * after a death needs nothing but their fingerprint.
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
 * Ends a fetch well: the bytes have their final name, and are staged like those that a person
 * staged.
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
 * Takes what an import fetched away from it, for its removal: a late attempt finds another's token.
 *
 * @param requireNotLate - throws when the attempt that holds the row comes after the undo. Default:
 *   none does
 * @returns what it was; undefined when the import fetched nothing, or a person staged something
 *   since
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
