import { unlink, type FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { createPrivateFile, syncDirectory, syncOrDiscard } from "../bytes/durable-file.ts";
import { systemFailure } from "../bytes/system-failure.ts";
import type { TransformWork } from "./transform.ts";

/**
 * Creates the file of a product, calls `fill`, and syncs the file. If that fails, the file is
 * removed. Everything that `fill` opened or started must have ended when it returns.
 *
 * @throws errors of `fill`; ImportError `NoSpace`, `PermissionDenied` or `StagingUnavailable` for
 *   errors of the disk
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
      // The error of `fill` counts. The caller, which named the product, also removes it.
      await unlink(productPath).catch(() => undefined);
      throw error;
    } finally {
      await product.close();
    }
  } catch (error) {
    throw systemFailure(error, "the staging area", "StagingUnavailable");
  }
}
