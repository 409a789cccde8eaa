import { randomBytes } from "node:crypto";
import { link, lstat, open, rename, unlink, type FileHandle } from "node:fs/promises";
import { hasErrorCode } from "../bytes/system-error.ts";
import { systemFailure } from "../bytes/system-failure.ts";
import { ImportError } from "../domain/import-failure.ts";

/**
 * Writes a file that appears only when the work is done.
 *
 * @param path - must not exist
 * @throws ImportError `UnusableFile`, `FileNotFound`; what the work throws
 * @internal
 */
export async function writeNewFile(
  path: string,
  work: (target: FileHandle) => Promise<void>,
): Promise<void> {
  const partial = `${path}.${randomBytes(4).toString("hex")}.part`;
  try {
    // Before the work, which may take hours.
    await requireNew(path);
    const target = await open(partial, "wx", 0o640);
    try {
      await work(target);
      await target.sync();
    } finally {
      await target.close();
    }
    await publish(partial, path);
  } catch (error) {
    if (hasErrorCode(error, "EEXIST")) throw existing(path);
    if (hasErrorCode(error, "ENOENT", "ENOTDIR")) {
      throw new ImportError("FileNotFound", `There is no directory for "${path}"`);
    }
    if (hasErrorCode(error, "ENAMETOOLONG", "ELOOP")) {
      const reason = hasErrorCode(error, "ELOOP")
        ? "the path leads through too many symbolic links"
        : "the path is too long, or a name in it is";
      throw new ImportError("UnusableFile", `Cannot write "${path}": ${reason}`, {
        hint: "Name another file; its name may have 240 bytes.",
      });
    }
    throw systemFailure(error, `"${path}"`, "UnusableFile");
  } finally {
    await unlink(partial).catch(() => undefined);
  }
}

/** @throws ImportError `UnusableFile`; the system's own error */
async function requireNew(path: string): Promise<void> {
  const found = await lstat(path).catch((error: unknown) => {
    if (hasErrorCode(error, "ENOENT")) return undefined;
    throw error;
  });
  if (found?.isDirectory() === true) {
    throw new ImportError("UnusableFile", `Cannot write "${path}": it is a directory`, {
      hint: "Name a file in it.",
    });
  }
  if (found !== undefined) throw existing(path);
  if (path !== "" && !path.endsWith("/")) return;
  throw new ImportError("UnusableFile", `Cannot write "${path}": it does not name a file`, {
    hint: "Name a file in a directory that exists.",
  });
}

function existing(path: string): ImportError {
  return new ImportError("UnusableFile", `Cannot write "${path}": it exists already`, {
    hint: "Name another file, or remove this one.",
  });
}

/** Gives the complete file its name, unless another file has it. */
async function publish(partial: string, path: string): Promise<void> {
  try {
    await link(partial, path);
  } catch (error) {
    // FAT and some network file systems have no second names of a file.
    if (!hasErrorCode(error, "EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS")) throw error;
    const claim = await open(path, "wx", 0o640);
    await claim.close();
    await rename(partial, path).catch(async (failure: unknown) => {
      await unlink(path);
      throw failure;
    });
  }
}
