import { randomBytes } from "node:crypto";
import { link, open, unlink, type FileHandle } from "node:fs/promises";
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
    const target = await open(partial, "wx", 0o640);
    try {
      await work(target);
      await target.sync();
    } finally {
      await target.close();
    }
    await link(partial, path);
  } catch (error) {
    if (hasErrorCode(error, "EEXIST")) {
      throw new ImportError("UnusableFile", `Cannot write "${path}": it exists already`, {
        hint: "Name another file, or remove this one.",
      });
    }
    if (hasErrorCode(error, "ENOENT", "ENOTDIR")) {
      throw new ImportError("FileNotFound", `There is no directory for "${path}"`);
    }
    throw systemFailure(error, `"${path}"`, "UnusableFile");
  } finally {
    await unlink(partial).catch(() => undefined);
  }
}
