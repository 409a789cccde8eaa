import { and, eq, sql } from "drizzle-orm";
import { ImportError } from "../domain/import-failure.ts";
import { uploadOf } from "../domain/place.ts";
import type { Limits } from "../domain/quota.ts";
import type { ResumableKey } from "../domain/resumable-key.ts";
import type { Queries } from "./connect.ts";
import { lockImage } from "./image-records.ts";
import {
  isUnrenewed,
  lockLease,
  takeLease,
  takeLeaseAway,
  type LeaseHolder,
  type LeaseNames,
  type LeaseRow,
  type LeaseTaker,
} from "./lease-records.ts";
import { leases, type ResumableUpload } from "./schema.ts";
import { findUpload, isLease, type StagedRow } from "./staged-facts.ts";
import { beginStaging, isStager, takenOver, type StagingAttempt } from "./upload-records.ts";

/** An upload that outlives its writers, complete or not. */
export interface ResumableRow extends StagedRow {
  readonly resumable: ResumableUpload;
  readonly resumableUntil: Date;
  /** True if its writer did not renew the lease in time. */
  readonly isUnrenewed: boolean;
}

/**
 * Begins an upload as `beginStaging` does, without a writer: it waits for its first bytes.
 *
 * @returns the earlier upload; the caller removes its files
 * @throws ImportError as `beginStaging`
 */
export async function beginResumable(
  db: Queries,
  limits: Limits,
  attempt: StagingAttempt,
  upload: Pick<ResumableUpload, "generation" | "metadata"> & { readonly timeToLiveMs: number },
): Promise<StagedRow | undefined> {
  const { generation, metadata, timeToLiveMs } = upload;
  const before = await beginStaging(db, limits, attempt);
  const resumable: ResumableUpload = {
    ...{ generation, metadata, lengthBytes: attempt.sizeBytes },
    ...{ isHeld: false, isWanted: false },
    ...{ syncedBytes: 0, bootId: attempt.writer.bootId, checkedBytes: null },
  };
  await db
    .update(leases)
    .set({ resumable, resumableUntil: after(timeToLiveMs) })
    .where(isLease(uploadOf(attempt.imageId)));
  return before;
}

function after(timeToLiveMs: number) {
  return sql`now() + make_interval(secs => ${timeToLiveMs / 1000})`;
}

/**
 * Finds an upload by its address.
 *
 * @throws ImportError `ImportLost` if it is not there any more
 */
export async function findResumable(
  db: Queries,
  { imageId, generation }: ResumableKey,
): Promise<ResumableRow> {
  const row = await findUpload(db, imageId);
  const [times] = await db
    .select({
      isUnrenewed: sql<boolean>`${isUnrenewed}`,
      isExpired: sql<boolean>`${leases.resumableUntil} < now()`,
    })
    .from(leases)
    .where(isLease(uploadOf(imageId)));
  if (row?.resumable?.generation === generation && row.resumableUntil !== null && times) {
    const { resumable, resumableUntil } = row;
    const isExpired = row.state === "writing" && times.isExpired;
    if (!isExpired) return { ...row, resumable, resumableUntil, isUnrenewed: times.isUnrenewed };
  }
  throw new ImportError(
    "ImportLost",
    `This upload of image "${imageId}" is not there any more: it was ended, has expired, or is imported`,
    { hint: "Look at the status of the image; if it is queued, begin another upload." },
  );
}

/**
 * Takes an upload for a writer, if it is as it was found.
 *
 * @returns false when it has changed
 * @throws ImportError `ImageNotFound`
 */
export async function takeResumable(
  db: Queries,
  before: ResumableRow,
  writer: LeaseHolder & LeaseNames & Pick<Required<ResumableUpload>, "source">,
): Promise<boolean> {
  const { imageId } = before;
  await lockImage(db, imageId);
  // Its writer may have renewed it since, and recorded which bytes count.
  const now = await lockLease(db, uploadOf(imageId));
  if (now === undefined || !isAsFound(now, before)) return false;
  if (!(await takeLease(db, uploadOf(imageId), { ...writer, resumes: true }, before))) return false;
  const { source } = writer;
  await change(db, imageId, writer.token, { isHeld: true, isWanted: false, source });
  return true;
}

function isAsFound(now: LeaseRow, before: ResumableRow): boolean {
  const sameFacts = JSON.stringify(now.resumable) === JSON.stringify(before.resumable);
  return sameFacts && now.renewedAt.getTime() === before.renewedAt.getTime();
}

/** Asks the writer of an upload to give way once no bytes come any more. */
export async function wantResumable(db: Queries, imageId: string, token: string): Promise<void> {
  await db
    .update(leases)
    .set({ resumable: merged({ isWanted: true }) })
    .where(isStager(imageId, token));
}

/**
 * Records facts for the writer of an upload, and renews its lease.
 *
 * @returns `isWanted`: another request asks for the lease; `resumableUntil`: the new end of its
 *   time
 * @throws ImportError `StagingBusy` when another process took over, or the image was deleted
 */
export async function renewResumable(
  db: Queries,
  { imageId, token }: { readonly imageId: string; readonly token: string },
  timeToLiveMs: number,
  facts: Partial<ResumableUpload> = {},
): Promise<{ readonly isWanted: boolean; readonly resumableUntil: Date }> {
  const [renewed] = await change(db, imageId, token, facts, timeToLiveMs);
  if (renewed?.resumable == null || renewed.resumableUntil === null) throw takenOver(imageId);
  return { isWanted: renewed.resumable.isWanted, resumableUntil: renewed.resumableUntil };
}

async function change(
  db: Queries,
  imageId: string,
  token: string,
  facts: Partial<ResumableUpload>,
  timeToLiveMs?: number,
) {
  return db
    .update(leases)
    .set({
      resumable: merged(facts),
      renewedAt: sql`now()`,
      ...(timeToLiveMs === undefined ? {} : { resumableUntil: after(timeToLiveMs) }),
    })
    .where(isStager(imageId, token))
    .returning({ resumable: leases.resumable, resumableUntil: leases.resumableUntil });
}

/** Forgets the parts of earlier writers, which are gone. */
export async function forgetEarlierParts(
  db: Queries,
  { imageId, token }: { readonly imageId: string; readonly token: string },
): Promise<void> {
  await db.update(leases).set({ earlierParts: [] }).where(isStager(imageId, token));
}

/** Changes these facts alone: other requests change others at the same time. */
function merged(facts: Partial<ResumableUpload>) {
  return sql`${leases.resumable} || ${JSON.stringify(facts)}::jsonb`;
}

/**
 * Takes an upload away for its removal, complete or not, if no import holds it.
 *
 * @throws ImportError `ImageNotFound`, `ImportLost`, `ImageBusy`
 */
export async function takeResumableAway(
  db: Queries,
  key: ResumableKey,
  taker: LeaseTaker,
): Promise<LeaseRow> {
  const image = await lockImage(db, key.imageId);
  if (image.claimTaskId !== null) {
    throw new ImportError("ImageBusy", `Image "${key.imageId}" is being imported`);
  }
  const row = await findResumable(db, key);
  return (await takeLeaseAway(db, row, taker)) ?? row;
}

/** The generation of the upload of an image that is not complete; null: there is none. */
export async function findGeneration(db: Queries, imageId: string): Promise<string | null> {
  const [row] = await db
    .select({ resumable: leases.resumable })
    .from(leases)
    .where(and(isLease(uploadOf(imageId)), eq(leases.state, "writing")));
  return row?.resumable?.generation ?? null;
}
