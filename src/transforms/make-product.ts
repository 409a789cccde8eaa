import { unlink, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { createPrivateFile, syncDirectory, syncOrDiscard } from "../bytes/durable-file.ts";
import { systemFailure } from "../bytes/system-failure.ts";
import type { TransformWork } from "./transform.ts";

/**
 * Makes the file of a product, lets it be filled, and makes it as durable as the disk. Nothing of
 * it is left when that fails. What `fill` opened or started must be over when it ends.
 *
 * @throws what `fill` throws; ImportError `NoSpace`, `PermissionDenied` or `StagingUnavailable` for
 *   the disk's own errors
 */
export async function makeProduct<T>(
  { productPath }: TransformWork,
  fill: (product: FileHandle) => Promise<T>,
): Promise<T> {
  try {
    const product = await createPrivateFile(productPath, 0o640);
    try {
      const result = await fill(product);
      await syncOrDiscard(product, productPath);
      await syncDirectory(dirname(productPath));
      return result;
    } catch (error) {
      // Why it failed is what must be told; whoever named the product removes it too.
      await unlink(productPath).catch(() => undefined);
      throw error;
    } finally {
      await product.close();
    }
  } catch (error) {
    throw systemFailure(error, "the staging area", "StagingUnavailable");
  }
}
