import { and, eq, inArray, isNull, notExists, sql } from "drizzle-orm";
import type { ProcessIdentity } from "../processes/process-identity.ts";
import type { DirectUpload } from "../domain/direct-upload.ts";
import { nextImageStatus } from "../domain/image-status.ts";
import { ImportError } from "../domain/import-failure.ts";
import { uploadOf } from "../domain/place.ts";
import { requireBelowCap, type Limits } from "../domain/quota.ts";
import type { Queries } from "./connect.ts";
import { lockImage, lockImageRow } from "./image-records.ts";
import {
  dropLease,
  finishLease,
  lockLease,
  isStale,
  takeLease,
  takeLeaseAway,
  type LeaseRow,
  type LeaseTaker,
} from "./lease-records.ts";
import { HeldQuotas, requireQuotas, type ReservationGrowth } from "./quota-records.ts";
import { images, leases } from "./schema.ts";
import {
  findUpload,
  isLease,
  recordStaged,
  type StagedData,
  type StagedRow,
} from "./staged-facts.ts";

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
  /** The import that begins when it is complete. Default: none. */
  readonly directUpload?: DirectUpload | undefined;
}

/**
 * Begins an upload: image `queued → uploading`, and a lease with a reservation. An upload whose
 * process died is taken over.
 *
 * @returns the earlier upload; the caller removes its files
 * @throws ImportError `ImageNotFound`, `ImageConflict`, `ImageProtected`, `StagingBusy`,
 *   `ImageTooLarge`, `QuotaExceeded`
 */
export async function beginStaging(
  db: Queries,
  limits: Limits,
  attempt: StagingAttempt,
): Promise<StagedRow | undefined> {
  const image = await lockImage(db, attempt.imageId);
  // A renewal that is under way counts.
  await lockLease(db, uploadOf(attempt.imageId));
  const before = await findUpload(db, attempt.imageId);
  if (image.protected && before?.state === "whole" && attempt.replace) {
    throw new ImportError(
      "ImageProtected",
      `Image "${attempt.imageId}" is protected and its staged data cannot be replaced.`,
    );
  }
  if (image.status !== "queued" && image.status !== "uploading") {
    throw new ImportError(
      "ImageConflict",
      `Cannot stage image "${attempt.imageId}": it is ${image.status}, and only a queued image is staged`,
    );
  }
  // The sweeper may also be removing a file of a queued image.
  if (image.status === "uploading" || before?.state === "writing") {
    await requireTakeover(db, before, attempt);
  }
  requireBelowCap(limits, attempt.imageId, attempt.sizeBytes);
  await db
    .update(images)
    .set({
      status: image.status === "queued" ? nextImageStatus("queued", "uploading") : image.status,
      directUpload: attempt.directUpload ?? null,
      updatedAt: sql`now()`,
    })
    .where(and(eq(images.id, attempt.imageId), eq(images.status, image.status)));
  const upload = uploadOf(attempt.imageId);
  if (!(await takeLease(db, upload, attempt, before))) throw takenOver(attempt.imageId);
  await db.update(leases).set({ reservedBytes: attempt.sizeBytes }).where(isLease(upload));
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
  if (before === undefined || (before.state === "whole" && attempt.replace)) return;
  if (before.state === "whole") {
    throw new ImportError(
      "ImageConflict",
      `The image "${attempt.imageId}" has data on staging already`,
      {
        hint: `Start it (\`image-import start ${attempt.imageId}\`), or stage with --replace.`,
      },
    );
  }
  const [stale] = await db
    .select({ token: leases.token })
    .from(leases)
    .where(and(isLease(uploadOf(attempt.imageId)), isStale));
  if (stale !== undefined) return;
  if (before.resumable !== null) {
    throw new ImportError(
      "StagingBusy",
      `Image "${attempt.imageId}" has an upload that may continue until ${before.resumableUntil?.toISOString() ?? ""}`,
      { hint: "Continue it, end it (DELETE), or delete the image." },
    );
  }
  throw new ImportError(
    "StagingBusy",
    `Cannot stage image "${attempt.imageId}": process ${String(before.writer.pid)} on node "${before.node}" is staging it`,
  );
}

/**
 * Renews the lease of a stager, and waits for a takeover that is under way: the caller does
 * something next that only the holder may do.
 *
 * @throws ImportError `StagingBusy` when another process took over, or the image was deleted
 */
export async function renewStaging(db: Queries, imageId: string, token: string): Promise<void> {
  const renewed = await db
    .update(leases)
    .set({ renewedAt: sql`now()` })
    .where(isStager(imageId, token))
    .returning({ token: leases.token });
  if (renewed.length === 0) throw takenOver(imageId);
}

/**
 * Renews the lease of a stager, which does so every few seconds. A lease that a transaction has
 * locked is left to the next renewal: mostly that is a transaction of the same upload, and the
 * renewals of other uploads must not wait for it.
 *
 * @throws ImportError `StagingBusy` when another process took over, or the image was deleted
 */
export async function keepStaging(db: Queries, imageId: string, token: string): Promise<void> {
  const isMine = isStager(imageId, token);
  const unlocked = db
    .select({ token: leases.token })
    .from(leases)
    .where(isMine)
    .for("update", { skipLocked: true });
  const renewed = await db
    .update(leases)
    .set({ renewedAt: sql`now()` })
    .where(and(isMine, inArray(leases.token, unlocked)))
    .returning({ token: leases.token });
  if (renewed.length > 0) return;
  const locked = await db.select({ token: leases.token }).from(leases).where(isMine);
  if (locked.length === 0) throw takenOver(imageId);
}

/** The condition that this is the lease of an upload that this stager writes. */
export function isStager(imageId: string, token: string) {
  return and(isLease(uploadOf(imageId)), eq(leases.token, token), eq(leases.state, "writing"));
}

/** The failure of a stager whose lease another process has taken, or whose image was deleted. */
export function takenOver(imageId: string): ImportError {
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
    .select({ owner: images.owner, reservedBytes: leases.reservedBytes })
    .from(leases)
    .innerJoin(images, eq(images.id, leases.imageId))
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
    .update(leases)
    .set({ reservedBytes: Math.max(reservedBytes, grantedBytes) })
    .where(isStager(stager.imageId, stager.token));
  return grantedBytes;
}

/**
 * Finishes an upload, and records its size with the image.
 *
 * @param staged - `path` is the final path of the file
 * @throws ImportError `StagingBusy` when another process took over meanwhile
 */
export async function finishStaging(
  db: Queries,
  imageId: string,
  token: string,
  staged: StagedData & { readonly path: string },
): Promise<void> {
  await lockImage(db, imageId);
  const upload = await findUpload(db, imageId);
  if (upload?.token !== token) throw takenOver(imageId);
  // An earlier call took effect, and its response was lost.
  if (upload.state === "whole") return;
  await finishLease(db, upload, token, { path: staged.path });
  await recordStaged(db, upload, staged);
  await setStagedSize(db, imageId, staged.sizeBytes);
}

async function setStagedSize(db: Queries, imageId: string, sizeBytes: number): Promise<void> {
  await db
    .update(images)
    .set({ sizeBytes, updatedAt: sql`now()` })
    .where(and(eq(images.id, imageId), eq(images.status, "uploading")));
}

/**
 * Drops an upload: the lease goes, the image is `queued` again. Only the holder of the token may do
 * this.
 */
export async function dropStaging(db: Queries, imageId: string, token: string): Promise<void> {
  // The image before its lease: all transactions lock in this order.
  await lockImageRow(db, imageId);
  await dropLease(db, uploadOf(imageId), token);
  const upload = db
    .select({ token: leases.token })
    .from(leases)
    .where(isLease(uploadOf(imageId)));
  await db
    .update(images)
    .set({
      status: nextImageStatus("uploading", "queued"),
      sizeBytes: null,
      directUpload: null,
      updatedAt: sql`now()`,
    })
    .where(
      and(
        eq(images.id, imageId),
        eq(images.status, "uploading"),
        isNull(images.claimTaskId),
        notExists(upload),
      ),
    );
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
  taker: LeaseTaker,
): Promise<LeaseRow> {
  const image = await lockImage(db, imageId);
  if (image.claimTaskId !== null) {
    throw new ImportError("ImageBusy", `Image "${imageId}" is being imported`);
  }
  const upload = await takeLeaseAway(db, uploadOf(imageId), taker);
  // A resumable upload has no writer, or one that notices the loss of its lease.
  if (upload === undefined || (upload.state !== "whole" && upload.resumable === null)) {
    throw new ImportError(
      "StagingBusy",
      `Cannot remove the upload of image "${imageId}": another process writes or removes it`,
    );
  }
  return upload;
}
