import type { LeaseRow } from "../db/lease-records.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { NodeDependencies } from "./dependencies.ts";

/**
 * Undoes the outside effects of a transform.
 *
 * @throws ImportError `BadConfiguration` when this worker does not have the transform; retried:
 *   `TransformUnavailable`
 */
export async function undoTransform(
  { transforms }: Pick<NodeDependencies, "transforms">,
  name: string,
  { imageId: id, epoch, effects }: LeaseRow,
): Promise<void> {
  if (effects === null) return;
  const transform = transforms.get(name);
  try {
    await transform.undo?.({ id, epoch, ...effects });
  } catch (cause) {
    if (cause instanceof ImportError) throw cause;
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new ImportError(
      "TransformUnavailable",
      `Cannot undo the transform "${name}" of image "${id}": ${reason}`,
      { cause },
    );
  }
}
