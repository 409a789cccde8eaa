import { and, eq, sql } from "drizzle-orm";
import type { ImportId } from "./claim-guard.ts";
import type { Queries } from "./connect.ts";
import { images, transformUndos } from "./schema.ts";

/** The promise to undo the outside effects of a transform. */
export type TransformUndo = typeof transformUndos.$inferSelect;

/** Records, before a transform runs, the promise to undo it with its import. Idempotent. */
export async function promiseUndo(db: Queries, undo: TransformUndo): Promise<void> {
  await db.insert(transformUndos).values(undo).onConflictDoNothing();
}

/** Lists the promised undos of an import. */
export async function listUndosOf(
  db: Queries,
  { imageId, epoch }: ImportId,
): Promise<TransformUndo[]> {
  return db
    .select()
    .from(transformUndos)
    .where(and(eq(transformUndos.imageId, imageId), eq(transformUndos.epoch, epoch)));
}

/**
 * Lists the promised undos on a node of imports that do not hold their image any more.
 */
export async function listAbandonedUndos(db: Queries, node: string): Promise<TransformUndo[]> {
  const rows = await db
    .select({ undo: transformUndos })
    .from(transformUndos)
    .innerJoin(images, eq(images.id, transformUndos.imageId))
    .where(
      and(
        eq(transformUndos.node, node),
        sql`(${images.claimTaskId} IS NULL OR ${images.epoch} <> ${transformUndos.epoch})`,
      ),
    );
  return rows.map((row) => row.undo);
}

/** Forgets an undo that was done. */
export async function dropUndo(
  db: Queries,
  { imageId, epoch, transform }: Pick<TransformUndo, "imageId" | "epoch" | "transform">,
): Promise<void> {
  await db
    .delete(transformUndos)
    .where(
      and(
        eq(transformUndos.imageId, imageId),
        eq(transformUndos.epoch, epoch),
        eq(transformUndos.transform, transform),
      ),
    );
}

/** Forgets the undos of an import that is published: its effects stay. */
export async function dropUndosOf(db: Queries, { imageId, epoch }: ImportId): Promise<void> {
  await db
    .delete(transformUndos)
    .where(and(eq(transformUndos.imageId, imageId), eq(transformUndos.epoch, epoch)));
}
