import { and, eq, isNotNull } from "drizzle-orm";
import type { ImageStatus } from "../domain/image-status.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { Queries } from "./connect.ts";
import { images } from "./schema.ts";

/** One import of an image: it holds the claim while the image has its epoch. */
export interface ImportId {
  readonly imageId: string;
  readonly epoch: number;
}

const WHILE_IMPORTED: readonly ImageStatus[] = ["importing", "saving"];
// More copies of an active image are made without a change of its status. A user may deactivate it
// meanwhile.
const WHILE_COPIED: readonly ImageStatus[] = ["active", "deactivated"];

/**
 * Locks the image for this transaction if the import of this epoch still holds it.
 *
 * @throws ImportError `ImportLost` when it was deleted, taken or released meanwhile
 */
export async function requireClaim(db: Queries, claim: ImportId): Promise<void> {
  const [image] = await db
    .select({
      status: images.status,
      epoch: images.epoch,
      claim: images.claimTaskId,
      earlier: images.claimEarlierStatus,
    })
    .from(images)
    .where(eq(images.id, claim.imageId))
    .for("update");
  const isOurs = image?.epoch === claim.epoch && image.claim !== null;
  const statuses = image?.earlier === "active" ? WHILE_COPIED : WHILE_IMPORTED;
  if (!isOurs || !statuses.includes(image.status)) {
    throw importLost(claim.imageId, image?.status ?? "gone");
  }
}

/** The condition that the import of this epoch still holds its image, whatever its status. */
export function isClaimedBy(claim: ImportId) {
  return and(
    eq(images.id, claim.imageId),
    eq(images.epoch, claim.epoch),
    isNotNull(images.claimTaskId),
  );
}

/**
 * The failure of an import that does not hold its image any more.
 *
 * @param status - the current status of the image. Default: unknown
 */
export function importLost(imageId: string, status?: string): ImportError {
  const now = status === undefined ? "" : ` (it is ${status})`;
  return new ImportError(
    "ImportLost",
    `Image "${imageId}" was deleted or taken while it was imported${now}`,
  );
}
