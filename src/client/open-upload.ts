import type { FileHandle } from "node:fs/promises";
import { NotARegularFileError, openRegularFile } from "../bytes/open-regular-file.ts";
import { hasErrorCode } from "../bytes/system-error.ts";
import { systemFailure } from "../bytes/system-failure.ts";
import { ImportError } from "../domain/import-failure.ts";

/**
 * Opens what a person wants to import: a regular file.
 *
 * @throws ImportError `FileNotFound`, `UnusableFile`
 */
export async function openUpload(path: string): Promise<FileHandle> {
  try {
    return await openRegularFile(path);
  } catch (error) {
    if (error instanceof NotARegularFileError) {
      throw new ImportError("UnusableFile", error.message, { cause: error });
    }
    if (hasErrorCode(error, "ENOENT", "ENOTDIR")) {
      throw new ImportError("FileNotFound", `There is no file "${path}"`, { cause: error });
    }
    if (hasErrorCode(error, "EACCES", "EPERM")) {
      throw new ImportError("UnusableFile", `Cannot read "${path}": permission denied`, {
        cause: error,
      });
    }
    throw systemFailure(error, `"${path}"`, "UnusableFile");
  }
}
