import { and, eq, isNotNull, isNull, lt, or, sql } from "drizzle-orm";
import type { ProcessIdentity } from "../processes/process-identity.ts";
import { nextImageStatus } from "../domain/image-status.ts";
import { ImportError } from "../domain/import-failure.ts";
import { requireBelowCap, type Limits } from "../domain/quota.ts";
import type { Queries } from "./connect.ts";
import { lockImage } from "./image-records.ts";
import { HeldQuotas, requireQuotas, type ReservationGrowth } from "./quota-records.ts";
import { images, stagedFiles } from "./schema.ts";
import {
  dropStagedRow,
  findStaged,
  isStaged,
  stagedColumns,
  type StagedData,
  type StagedRow,
} from "./staged-records.ts";

/**
 * Seconds without a renewal after which another process may take over an upload: four missed
 * renewals of 5 s.
 */
export const STAGING_LEASE_SECONDS = 20;

const isStale = lt(
  stagedFiles.renewedAt,
  sql`now() - make_interval(secs => ${STAGING_LEASE_SECONDS})`,
);

/** An attempt to upload. */
export interface StagingAttempt {
  readonly imageId: string;
  readonly node: string;
  readonly token: string;
  readonly writer: ProcessIdentity;
  readonly part: string;
  readonly path: string;
  /**
   * Bytes to upload, as far as they are known; {@link growStaging} reserves the rest.
   */
  readonly sizeBytes: number;
  /** Replaces an upload that is there already. */
  readonly replace: boolean;
}

/**
 * Begins an upload: image `queued → uploading`, and a row as lease and reservation. An upload whose
 * process died is taken over.
 *
 * @returns the row before; the caller removes its files
 * @throws ImportError `ImageNotFound`, `ImageConflict`, `StagingBusy`, `ImageTooLarge`,
 *   `QuotaExceeded`
 */
export async function beginStaging(
  db: Queries,
  limits: Limits,
  attempt: StagingAttempt,
): Promise<StagedRow | undefined> {
  const image = await lockImage(db, attempt.imageId);
  const before = await findStaged(db, attempt.imageId);
  if (image.status !== "queued" && image.status !== "uploading") {
    throw new ImportError(
      "ImageConflict",
      `Cannot stage image "${attempt.imageId}": it is ${image.status}, and only a queued image is staged`,
    );
  }
  // The sweeper may also be removing a file of a queued image.
  if (image.status === "uploading" || before?.state === "staging") {
    await requireTakeover(db, before, attempt);
  }
  requireBelowCap(limits, attempt.imageId, attempt.sizeBytes);
  if (image.status === "queued") {
    await db
      .update(images)
      .set({ status: nextImageStatus("queued", "uploading"), updatedAt: sql`now()` })
      .where(and(eq(images.id, attempt.imageId), eq(images.status, "queued")));
  }
  await db.delete(stagedFiles).where(isStaged(attempt.imageId));
  await db.insert(stagedFiles).values({
    imageId: attempt.imageId,
    node: attempt.node,
    state: "staging",
    token: attempt.token,
    writer: attempt.writer,
    part: attempt.part,
    path: attempt.path,
    ours: true,
    reservedBytes: attempt.sizeBytes,
  });
  await requireQuotas(db, limits, image.owner, {
    image_stage_total:
      attempt.sizeBytes - Math.max(before?.reservedBytes ?? 0, before?.sizeBytes ?? 0),
    image_count_uploading: image.status === "queued" ? 1 : 0,
  });
  return before;
}

async function requireTakeover(
  db: Queries,
  before: StagedRow | undefined,
  attempt: StagingAttempt,
): Promise<void> {
  if (before === undefined || (before.state === "staged" && attempt.replace)) return;
  if (before.state === "staged") {
    throw new ImportError(
      "ImageConflict",
      `The image "${attempt.imageId}" has data on staging already`,
      {
        hint: `Start it (\`image-import start ${attempt.imageId}\`), or stage with --replace.`,
      },
    );
  }
  const [stale] = await db
    .select({ imageId: stagedFiles.imageId })
    .from(stagedFiles)
    .where(and(isStaged(attempt.imageId), isStale));
  if (stale !== undefined) return;
  throw new ImportError(
    "StagingBusy",
    `Cannot stage image "${attempt.imageId}": process ${String(before.writer.pid)} on node "${before.node}" is staging it`,
  );
}

/**
 * Renews the lease of a stager.
 *
 * @throws ImportError `StagingBusy` when another process took over, or the image was deleted
 */
export async function renewStaging(db: Queries, imageId: string, token: string): Promise<void> {
  const renewed = await db
    .update(stagedFiles)
    .set({ renewedAt: sql`now()` })
    .where(isStager(imageId, token))
    .returning({ imageId: stagedFiles.imageId });
  if (renewed.length === 0) throw takenOver(imageId);
}

function isStager(imageId: string, token: string) {
  return and(
    eq(stagedFiles.imageId, imageId),
    eq(stagedFiles.token, token),
    eq(stagedFiles.state, "staging"),
  );
}

function takenOver(imageId: string): ImportError {
  return new ImportError(
    "StagingBusy",
    `Staging of image "${imageId}" was taken over by another process, or the image was deleted`,
  );
}

/**
 * Reserves room for an upload whose source is longer than expected, before the bytes are written;
 * see `RoomAhead`. Also renews the lease.
 *
 * @returns the size that it may reach before the next call
 * @throws ImportError `StagingBusy` when another process took over, or the image was deleted;
 *   `ImageTooLarge`, `QuotaExceeded`
 */
export async function growStaging(
  db: Queries,
  limits: Limits,
  stager: { readonly imageId: string; readonly token: string },
  { imageBytes, welcomeBytes = imageBytes }: Omit<ReservationGrowth, "productBytes">,
): Promise<number> {
  await renewStaging(db, stager.imageId, stager.token);
  const [staging] = await db
    .select({ owner: images.owner, reservedBytes: stagedFiles.reservedBytes })
    .from(stagedFiles)
    .innerJoin(images, eq(images.id, stagedFiles.imageId))
    .where(isStager(stager.imageId, stager.token));
  if (staging === undefined) throw takenOver(stager.imageId);
  const { owner, reservedBytes } = staging;
  requireBelowCap(limits, stager.imageId, imageBytes);
  const quotas = await HeldQuotas.hold(db, limits, owner);
  quotas.require("image_stage_total", imageBytes - reservedBytes);
  const mostBytes = reservedBytes + quotas.left("image_stage_total");
  const grantedBytes = Math.max(
    imageBytes,
    Math.min(welcomeBytes, limits.imageSizeCapBytes, mostBytes),
  );
  await db
    .update(stagedFiles)
    .set({ reservedBytes: Math.max(reservedBytes, grantedBytes) })
    .where(isStager(stager.imageId, stager.token));
  return grantedBytes;
}

/**
 * Finishes an upload, and records its size with the image.
 *
 * @throws ImportError `StagingBusy` when another process took over meanwhile
 */
export async function finishStaging(
  db: Queries,
  imageId: string,
  token: string,
  staged: StagedData,
): Promise<void> {
  await lockImage(db, imageId);
  const moved = await db
    .update(stagedFiles)
    .set({
      ...stagedColumns(staged),
      state: "staged",
      part: null,
      reservedBytes: 0,
      renewedAt: sql`now()`,
    })
    .where(isStager(imageId, token))
    .returning({ imageId: stagedFiles.imageId });
  if (moved.length > 0) await setStagedSize(db, imageId, staged.sizeBytes);
  // It may have taken effect before, and its response was lost.
  else if ((await findStaged(db, imageId))?.token !== token) throw takenOver(imageId);
}

async function setStagedSize(db: Queries, imageId: string, sizeBytes: number): Promise<void> {
  await db
    .update(images)
    .set({ sizeBytes, updatedAt: sql`now()` })
    .where(and(eq(images.id, imageId), eq(images.status, "uploading")));
}

/**
 * Drops an upload: the row goes, the image is `queued` again. Only the holder of the token may do
 * this.
 */
export async function dropStaging(db: Queries, imageId: string, token: string): Promise<void> {
  await dropStagedRow(db, imageId, token);
  await db
    .update(images)
    .set({
      status: nextImageStatus("uploading", "queued"),
      sizeBytes: null,
      updatedAt: sql`now()`,
    })
    .where(
      and(
        eq(images.id, imageId),
        eq(images.status, "uploading"),
        sql`${images.claimTaskId} IS NULL`,
        noStaged,
      ),
    );
}

const noStaged = sql`NOT EXISTS (SELECT 1 FROM staged_files WHERE staged_files.image_id = images.id AND staged_files.product = 0)`;

/**
 * Lists the rows that a sweep of a node may remove: uploads that were not renewed in time, uploads
 * past their time to live, uploads of published images, and downloads and products of imports that
 * do not hold their image any more. Never a row that an import holds.
 */
export async function listExpiredStaging(db: Queries, node: string): Promise<StagedRow[]> {
  const rows = await db
    .select({ staged: stagedFiles })
    .from(stagedFiles)
    .innerJoin(images, eq(images.id, stagedFiles.imageId))
    .where(
      and(
        eq(stagedFiles.node, node),
        or(
          and(
            isNull(stagedFiles.epoch),
            sql`${images.claimTaskId} IS NULL`,
            sql`((${stagedFiles.state} = 'staging' AND ${isStale}) OR (${stagedFiles.state} = 'staged' AND ${stagedFiles.expiresAt} < now()) OR ${images.status} IN ('active', 'deactivated', 'deleted'))`,
          ),
          // Downloads and products go with their import.
          and(
            isNotNull(stagedFiles.epoch),
            sql`(${images.claimTaskId} IS NULL OR ${images.epoch} <> ${stagedFiles.epoch})`,
          ),
        ),
      ),
    );
  return rows.map((row) => row.staged);
}

/**
 * Takes over a row for its removal (see {@link listExpiredStaging}): until {@link dropStaging} no
 * process imports or stages it.
 *
 * @returns the row before; undefined when it may not be swept any more
 */
export async function takeOverStaging(
  db: Queries,
  { imageId, product }: Pick<StagedRow, "imageId" | "product">,
  sweeper: { readonly node: string; readonly token: string; readonly writer: ProcessIdentity },
): Promise<StagedRow | undefined> {
  await db.select({ id: images.id }).from(images).where(eq(images.id, imageId)).for("update");
  const expired = await listExpiredStaging(db, sweeper.node);
  const row = expired.find((each) => each.imageId === imageId && each.product === product);
  if (row === undefined) return undefined;
  await db
    .update(stagedFiles)
    .set({
      state: "staging",
      token: sweeper.token,
      writer: sweeper.writer,
      renewedAt: sql`now()`,
    })
    .where(and(eq(stagedFiles.imageId, imageId), eq(stagedFiles.token, row.token)));
  return row;
}

/**
 * Takes the upload of an image away for its removal, if no import holds it; see
 * {@link dropStaging}.
 *
 * @throws ImportError `ImageBusy`, `StagingBusy`
 */
export async function takeStagedAway(
  db: Queries,
  imageId: string,
  taker: { readonly token: string; readonly writer: ProcessIdentity },
): Promise<StagedRow> {
  const image = await lockImage(db, imageId);
  if (image.claimTaskId !== null) {
    throw new ImportError("ImageBusy", `Image "${imageId}" is being imported`);
  }
  const row = await findStaged(db, imageId);
  if (row?.state !== "staged") throw takenOver(imageId);
  await db
    .update(stagedFiles)
    .set({ state: "staging", renewedAt: sql`now()`, ...taker })
    .where(and(eq(stagedFiles.imageId, imageId), eq(stagedFiles.token, row.token)));
  return row;
}
