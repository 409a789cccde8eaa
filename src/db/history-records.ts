import { and, asc, eq, ne } from "drizzle-orm";
import type { HistoryEntry, ImageEvent } from "../domain/image-history.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { Queries } from "./connect.ts";
import { imageHistory, images } from "./schema.ts";

/** Adds an event. The caller's transaction holds the lock of the image, and makes the change. */
export async function appendToHistory(
  db: Queries,
  imageId: string,
  event: ImageEvent,
): Promise<void> {
  await db.insert(imageHistory).values({ imageId, event });
}

/**
 * Lists what happened to an image, the oldest first.
 *
 * @throws ImportError `ImageNotFound` also for a deleted image
 */
export async function listHistory(db: Queries, imageId: string): Promise<HistoryEntry[]> {
  const rows = await db
    .select({ entry: imageHistory })
    .from(images)
    .leftJoin(imageHistory, eq(imageHistory.imageId, images.id))
    .where(and(eq(images.id, imageId), ne(images.status, "deleted")))
    .orderBy(asc(imageHistory.id));
  if (rows.length === 0) {
    throw new ImportError("ImageNotFound", `No image has the id "${imageId}"`);
  }
  return rows.flatMap(({ entry }) =>
    entry === null ? [] : [{ at: entry.at.toISOString(), ...entry.event }],
  );
}
