import type { Queries } from "../db/connect.ts";
import type { SeenImage } from "./image-view.ts";

/**
 * A judge of one write of an image. It is asked while the row of the image is locked for that
 * write, so that the row that it judges is the row that is changed.
 */
export interface WriteGuard {
  /** The project whose membership is read; null: none, and so no membership. */
  readonly project: string | null;
  /**
   * Judges the image as it is now. If it throws, nothing is changed.
   *
   * @param seen - undefined: the image is absent, or being deleted
   */
  readonly judge: (seen: SeenImage | undefined) => void;
}

/**
 * Locks an image for this transaction, and asks the guard of the write that follows in it.
 *
 * @throws what the guard throws
 * @internal
 */
export async function askGuard(
  db: Queries,
  imageId: string,
  guard: WriteGuard | undefined,
): Promise<void> {
  if (guard === undefined) return;
  const { findImage, lockImageRow } = await import("../db/image-records.ts");
  const { imageView } = await import("./image-view.ts");
  const row = await lockImageRow(db, imageId);
  if (row === undefined || row.status === "pending_delete" || row.status === "deleted") {
    guard.judge(undefined);
    return;
  }
  const record = await findImage(db, imageId, guard.project);
  guard.judge({ image: imageView(record), membership: record.membership });
}
