import { and, eq, sql } from "drizzle-orm";
import type { ImportId } from "./claim-guard.ts";
import type { Queries } from "./connect.ts";
import { images, transformUndos } from "./schema.ts";

/** A transform that may have done something outside of its product, and for which image. */
export type TransformUndo = typeof transformUndos.$inferSelect;

/** Records, before a transform runs, that it is to be undone if its import is. Idempotent. */
export async function promiseUndo(db: Queries, undo: TransformUndo): Promise<void> {
  await db.insert(transformUndos).values(undo).onConflictDoNothing();
}

/** What transforms of one import may have done. */
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
 * What transforms did on a node for imports that hold their image no more, and were not published.
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

/** Forgets what was undone. */
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

/** Forgets what transforms did for an import that is published: it stays. */
export async function dropUndosOf(db: Queries, { imageId, epoch }: ImportId): Promise<void> {
  await db
    .delete(transformUndos)
    .where(and(eq(transformUndos.imageId, imageId), eq(transformUndos.epoch, epoch)));
}
