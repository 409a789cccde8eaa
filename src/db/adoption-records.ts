import { randomUUID } from "node:crypto";
import type { Fingerprint } from "../bytes/fingerprint.ts";
import { ImportError } from "../domain/import-failure.ts";
import { requireBelowCap, type Limits } from "../domain/quota.ts";
import { uploadOf } from "../domain/place.ts";
import type { ProcessIdentity } from "../processes/process-identity.ts";
import type { Queries } from "./connect.ts";
import { lockImage, type ImageRow } from "./image-records.ts";
import { dropLease, finishLease, takeLease } from "./lease-records.ts";
import { requireQuotas } from "./quota-records.ts";
import { findStagedByPath, findUpload, recordStaged, type StagedRow } from "./staged-facts.ts";

/** A file under the staging root that this service did not write. */
export interface FileToAdopt {
  readonly imageId: string;
  readonly node: string;
  readonly writer: ProcessIdentity;
  readonly path: string;
  readonly fingerprint: Fingerprint;
  /** True if the staging area itself uses that name. */
  readonly isOwnFile: boolean;
  /**
   * The name of the file, if it lies in the root of the area and has a name as the area gives them.
   * Default: undefined, it does not.
   */
  readonly ownName?: string | undefined;
  readonly timeToLiveMs: number;
}

/**
 * Records a file as the upload of an image, digests unknown. Its owner can still write to it: it is
 * never linked, and read with distrust. It is removed as an upload is: after its import, when it is
 * replaced, unstaged or too old, and with the image. An import keeps what the catalogue knows of
 * the file already; without an import its fingerprint is taken again.
 *
 * @throws ImportError `StagedDataRefused` for a file of another image or of the staging area, and
 *   for an image with other bytes in staging; `StagingBusy` while the upload is being removed;
 *   `ImageTooLarge`, `QuotaExceeded`, `ImageNotFound`
 */
export async function adoptFile(db: Queries, limits: Limits, file: FileToAdopt): Promise<void> {
  const { imageId, node, writer, path } = file;
  const image = await lockImage(db, imageId);
  const owner = await findStagedByPath(db, file);
  if (owner !== undefined && isKnownTo(image, owner)) return;
  if (owner !== undefined) requireAdoptable(owner, file);
  const before = await findUpload(db, imageId);
  const isSame = owner?.place === "upload" && owner.imageId === imageId;
  if (before !== undefined && !isSame) requireReplaceable(image, before, file);
  if (file.isOwnFile) throw refused(file, "the staging area itself uses it");
  const sizeBytes = Number(file.fingerprint.sizeBytes);
  requireBelowCap(limits, imageId, sizeBytes);
  const upload = uploadOf(imageId);
  const holder = { node, token: randomUUID(), writer, part: null, path };
  if (!(await takeLease(db, upload, holder, before))) throw beingRemoved(file);
  await finishLease(db, upload, holder.token);
  await recordStaged(db, upload, { ...file, sizeBytes, digests: undefined, ours: false });
  await requireQuotas(db, limits, image.owner, { image_stage_total: sizeBytes });
}

/** Forgets a file that was adopted for an image. The file stays where its owner put it. */
export async function dropAdopted(db: Queries, imageId: string): Promise<void> {
  const upload = await findUpload(db, imageId);
  if (upload?.ours === false && upload.state === "whole") await dropLease(db, upload, upload.token);
}

/**
 * True if the file is the upload or the download of the import that holds the image. That import
 * finds out if the bytes are gone.
 */
function isKnownTo(image: ImageRow, owner: StagedRow): boolean {
  if (image.claimTaskId === null || owner.imageId !== image.id) return false;
  return owner.place === "upload" || (owner.place === "download" && owner.epoch === image.epoch);
}

function requireAdoptable(owner: StagedRow, file: FileToAdopt): void {
  if (owner.imageId !== file.imageId || owner.place.startsWith("product/")) {
    throw refused(file, `it belongs to image "${owner.imageId}"`);
  }
  // A download is not adopted: the sweeper removes its lease together with the file.
  if (owner.place === "download") {
    throw refused(file, "it is the download of an earlier import, which removes it");
  }
  if (owner.state !== "whole") throw beingRemoved(file);
}

/**
 * Refuses to replace the upload of a user. The lease on a queued image is not that of a user's
 * upload: an import adopted a file, and failed.
 */
function requireReplaceable(image: ImageRow, upload: StagedRow, file: FileToAdopt): void {
  if ((image.claimEarlierStatus ?? image.status) === "queued") return;
  throw refused(file, `image "${file.imageId}" has other bytes in staging, at "${upload.path}"`);
}

function refused({ path }: FileToAdopt, reason: string): ImportError {
  return new ImportError("StagedDataRefused", `Cannot adopt "${path}": ${reason}`);
}

function beingRemoved({ path }: FileToAdopt): ImportError {
  return new ImportError(
    "StagingBusy",
    `Cannot adopt "${path}": another process is removing it from staging`,
  );
}
