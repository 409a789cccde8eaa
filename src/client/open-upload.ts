import type { FileHandle } from "node:fs/promises";
import { NotARegularFileError, openRegularFile } from "../bytes/open-regular-file.ts";
import { hasErrorCode } from "../bytes/system-error.ts";
import { systemFailure } from "../bytes/system-failure.ts";
import { ImportError } from "../domain/import-failure.ts";

// Node decodes the arguments of a program as UTF-8, and replaces other bytes by this character.
const REPLACEMENT = "\ufffd";

const URL_START = /^https?:/i;
const URL_HINT =
  "`image-import import URL` downloads an image; this command takes a file, or `-` where it reads standard input.";

/**
 * Opens the file that a user wants to import: a regular file.
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
      if (path.includes(REPLACEMENT)) throw notUtf8(path, error);
      throw new ImportError("FileNotFound", `There is no file "${path}"`, {
        cause: error,
        ...(URL_START.test(path) ? { hint: URL_HINT } : {}),
      });
    }
    if (hasErrorCode(error, "EACCES", "EPERM")) {
      throw new ImportError("UnusableFile", `Cannot read "${path}": permission denied`, {
        cause: error,
      });
    }
    if (hasErrorCode(error, "ENAMETOOLONG", "ELOOP")) throw unreachable(path, error);
    throw systemFailure(error, `"${path}"`, "UnusableFile");
  }
}

/** The failure for a path that no file can have. */
function unreachable(path: string, cause: unknown): ImportError {
  const reason = hasErrorCode(cause, "ELOOP")
    ? "the path leads through too many symbolic links"
    : "the path is too long, or a name in it is";
  return new ImportError("FileNotFound", `Cannot open "${path}": ${reason}`, { cause });
}

function notUtf8(path: string, cause: unknown): ImportError {
  return new ImportError(
    "FileNotFound",
    `Cannot open "${path}": the path has bytes that are not UTF-8, where "${REPLACEMENT}" stands, and only paths in UTF-8 can be opened`,
    {
      cause,
      hint: "Rename the file, or make another name for it with `ln FILE NEW-NAME`, and give that name; or pipe it into `image-import import -`.",
    },
  );
}
