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
 * How long a stager may be silent before anybody takes over, in seconds: four missed renewals of 5
 * s.
 */
export const STAGING_LEASE_SECONDS = 20;

const isStale = lt(
  stagedFiles.renewedAt,
  sql`now() - make_interval(secs => ${STAGING_LEASE_SECONDS})`,
);

/** Who wants to stage, and where. */
export interface StagingAttempt {
  readonly imageId: string;
  readonly node: string;
  readonly token: string;
  readonly writer: ProcessIdentity;
  readonly part: string;
  readonly path: string;
  /**
   * How many bytes will be staged, as far as that is known; the rest is asked for by
   * {@link growStaging}.
   */
  readonly sizeBytes: number;
  /** Take the place of data that is staged already. */
  readonly replace: boolean;
}

/**
 * Begins to stage: image `queued → uploading`, and the row that is the lease and the reservation. A
 * stager that died is taken over.
 *
 * @returns what was there before, whose files the caller removes
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
  // Also the data of a queued image may be someone's who is just removing it.
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
 * @throws ImportError `StagingBusy` when somebody took over, or the image was deleted
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
 * Reserves room for a stager whose source turns out to be longer, before the bytes are written; see
 * `RoomAhead`. It renews the lease, too.
 *
 * @returns how long it may become before this is asked again
 * @throws ImportError `StagingBusy` when somebody took over, or the image was deleted;
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
 * Ends staging well: the data is staged, and the image knows its size.
 *
 * @throws ImportError `StagingBusy` when somebody took over meanwhile
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
  // It may have taken effect before, and its answer was lost.
  else if ((await findStaged(db, imageId))?.token !== token) throw takenOver(imageId);
}

async function setStagedSize(db: Queries, imageId: string, sizeBytes: number): Promise<void> {
  await db
    .update(images)
    .set({ sizeBytes, updatedAt: sql`now()` })
    .where(and(eq(images.id, imageId), eq(images.status, "uploading")));
}

/**
 * Ends staging without data: the row goes, the image is `queued` again. Only the holder of the
 * token does this.
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
 * What may be swept from the staging area of a node: stagings whose stager has been silent too
 * long, staged data past its time to live, and staged data of images that are published already.
 * Never what an import holds. And products of imports that hold their image no more.
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
          // What an import fetched or made goes with it.
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
 * Takes over what may be swept (see {@link listExpiredStaging}): from here on nobody imports or
 * stages it until {@link dropStaging}.
 *
 * @returns what it was, or undefined when it may not be swept any more
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
 * Takes staged data away from an image that nobody imports, for its removal; see
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
