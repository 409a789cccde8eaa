import { and, eq, isNull, sql } from "drizzle-orm";
import type { DirectUpload } from "../domain/direct-upload.ts";
import { uploadOf } from "../domain/place.ts";
import type { ProcessIdentity } from "../processes/process-identity.ts";
import type { Queries } from "./connect.ts";
import { findImage, lockImage } from "./image-records.ts";
import {
  isUnrenewed,
  lockLease,
  takeLeaseAway,
  type LeaseRow,
  type LeaseTaker,
} from "./lease-records.ts";
import { images, leases, tasks } from "./schema.ts";
import type { TaskRow } from "./task-records.ts";

/**
 * Reads the import that is to follow the upload of an image; null: none, or the image is active by
 * now.
 */
export async function findDirectUpload(db: Queries, imageId: string): Promise<DirectUpload | null> {
  return (await findImage(db, imageId)).image.directUpload;
}

/** An upload that no import holds. */
export interface FreeUpload {
  readonly imageId: string;
  readonly imageName: string | null;
  readonly token: string;
  readonly state: LeaseRow["state"];
  readonly writer: ProcessIdentity;
  /** The last sign of life of its writer. */
  readonly renewedAt: Date;
  /** The time since `renewedAt`, in ms, by the clock of the database. */
  readonly silentMs: number;
  /** The end of the time for which it may wait for a writer; null: it ends with its writer. */
  readonly resumableUntil: Date | null;
  /** True if `resumableUntil` has passed, by the clock of the database. */
  readonly isExpired: boolean;
  /** True if its writer did not renew the lease in time. */
  readonly isUnrenewed: boolean;
  /** The import that follows when the upload is complete; null: none. */
  readonly directUpload: DirectUpload | null;
  /** The newest task of that import; null: it has not begun. */
  readonly task: Pick<TaskRow, "status" | "code"> | null;
}

/** Lists the uploads on a node that no import holds. */
export async function listFreeUploads(db: Queries, node: string): Promise<FreeUpload[]> {
  return db
    .select({
      imageId: leases.imageId,
      imageName: images.name,
      token: leases.token,
      state: leases.state,
      writer: leases.writer,
      renewedAt: leases.renewedAt,
      silentMs: sql`extract(epoch FROM now() - ${leases.renewedAt}) * 1000`.mapWith(Number),
      resumableUntil: leases.resumableUntil,
      isExpired: sql<boolean>`coalesce(${leases.resumableUntil} < now(), false)`,
      isUnrenewed: sql<boolean>`${isUnrenewed}`,
      directUpload: images.directUpload,
      task: { status: tasks.status, code: tasks.code },
    })
    .from(leases)
    .innerJoin(images, eq(images.id, leases.imageId))
    .leftJoin(
      tasks,
      sql`${tasks.id} = (
        SELECT newest.id FROM ${tasks} AS newest
        WHERE newest.image_id = ${images.id}
          AND newest.request_id = ${images.directUpload}->>'request_id'
        ORDER BY newest.created_at DESC LIMIT 1)`,
    )
    .where(
      and(
        eq(leases.node, node),
        eq(leases.place, "upload"),
        eq(images.status, "uploading"),
        isNull(images.claimTaskId),
      ),
    );
}

/**
 * Takes an upload away for its removal, if it is as it was listed: its writer has not renewed it
 * since.
 *
 * @returns the lease before; undefined when it has changed
 * @throws ImportError `ImageNotFound`
 */
export async function takeFreeUpload(
  db: Queries,
  upload: Pick<FreeUpload, "imageId" | "token" | "state" | "renewedAt">,
  taker: LeaseTaker,
): Promise<LeaseRow | undefined> {
  const image = await lockImage(db, upload.imageId);
  if (image.claimTaskId !== null) return undefined;
  const lease = await lockLease(db, uploadOf(upload.imageId));
  const isAsListed =
    lease?.token === upload.token &&
    lease.state === upload.state &&
    lease.renewedAt.getTime() === upload.renewedAt.getTime();
  return isAsListed ? takeLeaseAway(db, uploadOf(upload.imageId), taker) : undefined;
}
