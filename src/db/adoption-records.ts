import { randomUUID } from "node:crypto";
import type { Fingerprint } from "../bytes/fingerprint.ts";
import { ImportError } from "../domain/import-failure.ts";
import { requireBelowCap, type Limits } from "../domain/quota.ts";
import type { ProcessIdentity } from "../processes/process-identity.ts";
import type { Queries } from "./connect.ts";
import { lockImage, type ImageRow } from "./image-records.ts";
import { requireQuotas } from "./quota-records.ts";
import { stagedFiles } from "./schema.ts";
import {
  findStaged,
  findStagedByPath,
  isStaged,
  stagedColumns,
  type StagedRow,
} from "./staged-records.ts";

/** A file under the staging root that this service did not write. */
export interface FileToAdopt {
  readonly imageId: string;
  readonly node: string;
  readonly writer: ProcessIdentity;
  readonly path: string;
  readonly fingerprint: Fingerprint;
  /** True if the staging area itself uses that name. */
  readonly isOwnFile: boolean;
  readonly timeToLiveMs: number;
}

/**
 * Records a file as the upload of an image, digests unknown. The file stays its owner's: it is
 * never linked, and read with distrust. An import keeps what the catalogue knows of the file
 * already; without an import its fingerprint is taken again.
 *
 * @throws ImportError `StagedDataRefused` for a file of another image or of the staging area, and
 *   for an image with other bytes in staging; `StagingBusy` while the upload is being removed;
 *   `ImageTooLarge`, `QuotaExceeded`, `ImageNotFound`
 */
export async function adoptFile(db: Queries, limits: Limits, file: FileToAdopt): Promise<void> {
  const image = await lockImage(db, file.imageId);
  const row = await findStaged(db, file.imageId);
  if (row !== undefined) {
    requireReplaceable(image, row, file);
    if (row.path === file.path && image.claimTaskId !== null) return;
  }
  const owner = await findStagedByPath(db, file.path);
  if (owner !== undefined && (owner.imageId !== file.imageId || owner.product !== 0)) {
    throw refused(file, `it belongs to image "${owner.imageId}"`);
  }
  if (file.isOwnFile) throw refused(file, "the staging area itself uses it");
  const sizeBytes = Number(file.fingerprint.sizeBytes);
  requireBelowCap(limits, file.imageId, sizeBytes);
  const { imageId, node, writer } = file;
  await db.delete(stagedFiles).where(isStaged(imageId));
  await db.insert(stagedFiles).values({
    imageId,
    node,
    state: "staged",
    token: randomUUID(),
    writer,
    ours: false,
    ...stagedColumns({ ...file, sizeBytes, digests: undefined }),
  });
  await requireQuotas(db, limits, image.owner, { image_stage_total: sizeBytes });
}

function requireReplaceable(image: ImageRow, row: StagedRow, file: FileToAdopt): void {
  const isOurs = image.claimTaskId !== null && row.epoch === image.epoch;
  // Not replaced here: the sweeper removes the row together with its file.
  if (row.epoch !== null && !isOurs) {
    throw refused(
      file,
      row.path === file.path
        ? "it is the download of an earlier import, which removes it"
        : `image "${file.imageId}" has the download of an earlier import, at "${row.path}"`,
    );
  }
  if (row.path === file.path) {
    // An import finds out itself that the file is gone.
    if (row.state === "staged" || image.claimTaskId !== null) return;
    throw new ImportError(
      "StagingBusy",
      `Cannot adopt "${file.path}": another process is removing it from staging`,
    );
  }
  // A queued image has no upload: its row is that of an earlier import, which adopted it and
  // failed.
  if ((image.claimEarlierStatus ?? image.status) === "queued" && row.epoch === null) return;
  throw refused(file, `image "${file.imageId}" has other bytes in staging, at "${row.path}"`);
}

function refused({ path }: FileToAdopt, reason: string): ImportError {
  return new ImportError("StagedDataRefused", `Cannot adopt "${path}": ${reason}`);
}
