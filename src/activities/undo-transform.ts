import { dropUndo, type TransformUndo } from "../db/transform-undo-records.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { NodeDependencies } from "./dependencies.ts";

/**
 * Undoes the outside effects of a transform, and deletes their record. The record of a failed undo
 * is kept.
 *
 * @throws ImportError `BadConfiguration` when this worker has no such transform any more; retried:
 *   `TransformUnavailable`
 */
export async function undoTransform(
  { database, transforms }: NodeDependencies,
  undo: TransformUndo,
): Promise<void> {
  const { imageId: id, epoch, diskFormat, containerFormat, roles } = undo;
  const transform = transforms.get(undo.transform);
  try {
    await transform.undo?.({ id, epoch, diskFormat, containerFormat, roles });
  } catch (cause) {
    if (cause instanceof ImportError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ImportError(
      "TransformUnavailable",
      `Cannot undo the transform "${undo.transform}" of image "${id}": ${reason}`,
      { cause },
    );
  }
  await database.query((db) => dropUndo(db, undo));
}
