import { and, asc, eq, sql } from "drizzle-orm";
import { mistakeInMember } from "../domain/image-fields.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { MemberStatus } from "../domain/visibility.ts";
import type { Queries } from "./connect.ts";
import { findImage, lockImage } from "./image-records.ts";
import { imageMembers } from "./schema.ts";

/** A member of an image, as the catalogue has it. */
export type MemberRow = typeof imageMembers.$inferSelect;

/**
 * Lists the members of an image, the oldest first.
 *
 * @throws ImportError `ImageNotFound`
 */
export async function listMembers(db: Queries, imageId: string): Promise<MemberRow[]> {
  await findImage(db, imageId);
  return db
    .select()
    .from(imageMembers)
    .where(eq(imageMembers.imageId, imageId))
    .orderBy(asc(imageMembers.createdAt), asc(imageMembers.member));
}

/**
 * Reads one member of an image.
 *
 * @throws ImportError `ImageNotFound`, `MemberNotFound`
 */
export async function findMember(db: Queries, imageId: string, member: string): Promise<MemberRow> {
  await findImage(db, imageId);
  const [found] = await db.select().from(imageMembers).where(isMember(imageId, member));
  return found ?? notFound(imageId, member);
}

/**
 * Offers an image to a project.
 *
 * @throws ImportError `BadRequest`; `ImageNotFound`; `ImageConflict` for an image that is not
 *   shared, or that is offered to it already
 */
export async function addMember(db: Queries, imageId: string, member: string): Promise<MemberRow> {
  const mistake = mistakeInMember(member);
  if (mistake !== undefined) throw new ImportError("BadRequest", mistake);
  const { visibility } = await lockImage(db, imageId);
  if (visibility !== "shared") {
    throw new ImportError(
      "ImageConflict",
      `Cannot share image "${imageId}": it is ${visibility}, and only shared images have members`,
      { hint: `\`image-import image set ${imageId} --shared\` lets it have members.` },
    );
  }
  const [added] = await db
    .insert(imageMembers)
    .values({ imageId, member })
    .onConflictDoNothing()
    .returning();
  if (added !== undefined) return added;
  throw new ImportError(
    "ImageConflict",
    `Cannot share image "${imageId}": "${member}" is a member of it already`,
    { hint: `\`image-import image member list ${imageId}\` lists the members.` },
  );
}

/**
 * Records the answer of a member.
 *
 * @throws ImportError `ImageNotFound`, `MemberNotFound`
 */
export async function setMemberStatus(
  db: Queries,
  imageId: string,
  member: string,
  status: MemberStatus,
): Promise<MemberRow> {
  await lockImage(db, imageId);
  const [changed] = await db
    .update(imageMembers)
    .set({ status, updatedAt: sql`now()` })
    .where(isMember(imageId, member))
    .returning();
  return changed ?? notFound(imageId, member);
}

/**
 * Withdraws the offer of an image from a project.
 *
 * @throws ImportError `ImageNotFound`, `MemberNotFound`
 */
export async function removeMember(db: Queries, imageId: string, member: string): Promise<void> {
  await lockImage(db, imageId);
  const removed = await db
    .delete(imageMembers)
    .where(isMember(imageId, member))
    .returning({ member: imageMembers.member });
  if (removed.length === 0) notFound(imageId, member);
}

function isMember(imageId: string, member: string) {
  return and(eq(imageMembers.imageId, imageId), eq(imageMembers.member, member));
}

function notFound(imageId: string, member: string): never {
  throw new ImportError("MemberNotFound", `Image "${imageId}" has no member "${member}"`);
}
