import { randomBytes } from "node:crypto";
import { constants } from "node:fs";
import { link, lstat, open, rename, unlink } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { hasErrorCode } from "./system-error.ts";

// Errors of link(2) where a file system (FAT, some network mounts) or a policy
// (fs.protected_hardlinks) has no hard links.
const NO_HARD_LINKS = ["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"];

/**
 * Makes the names in a directory as durable as the disk: names that were created, renamed or
 * removed stay so.
 */
export async function syncDirectory(path: string): Promise<void> {
  const directory = await open(path, constants.O_RDONLY | constants.O_DIRECTORY);
  try {
    await directory.sync();
  } finally {
    await directory.close();
  }
}

/**
 * Creates a new file, open for reading and writing. An entry of that name that exists already, even
 * a dangling symbolic link, is left alone.
 *
 * @param path - a name that no other process uses
 * @param mode - permission bits, less the umask
 * @throws the system's own error: `EEXIST` when the name is taken
 */
export async function createPrivateFile(path: string, mode: number): Promise<FileHandle> {
  const { O_CREAT, O_EXCL, O_NOFOLLOW, O_RDWR } = constants;
  return open(path, O_CREAT | O_EXCL | O_NOFOLLOW | O_RDWR, mode);
}

/**
 * Makes a file's bytes as durable as the disk, or removes the file. A failed fsync is never tried
 * again: the kernel may have marked the lost pages as clean, and the second try would succeed
 * without them.
 *
 * @param handle - the open file; the caller closes it
 * @param path - its name, which only this attempt uses
 * @throws the system's own error of the fsync, with the file removed
 */
export async function syncOrDiscard(handle: Pick<FileHandle, "sync">, path: string): Promise<void> {
  try {
    await handle.sync();
  } catch (error) {
    // The failed fsync is the failure to report, even if removing the file fails, too. The sweeper
    // removes it later.
    await unlink(path).catch(() => undefined);
    throw error;
  }
}

/**
 * Gives a finished, synced private file its final name, durably, and never replaces a file of that
 * name. The private name is gone afterwards. If it still exists after an interrupted publish, a
 * second call completes the publish.
 *
 * @returns "exists" when another file has the final name; the private file is untouched then
 * @throws the system's own error, such as `EXDEV` when the names are on two file systems
 */
export async function publishNoReplace(
  privatePath: string,
  finalPath: string,
): Promise<"published" | "exists"> {
  const outcome = await linkUnlessTaken(privatePath, finalPath);
  if (outcome === "exists") return outcome;
  // A link and then an unlink, not a rename: rename replaces what it finds, and between two links
  // of one file does nothing.
  if (outcome === "linked") await unlink(privatePath);
  await syncDirectory(dirname(finalPath));
  if (dirname(privatePath) !== dirname(finalPath)) await syncDirectory(dirname(privatePath));
  return "published";
}

/**
 * Writes a small file durably, unless one of that name exists. The file is complete from the start;
 * of several processes that write it at once, the first wins.
 *
 * @returns true if this call wrote it
 */
export async function writeUnlessThere(path: string, text: string, mode: number): Promise<boolean> {
  const draft = `${path}.${randomBytes(4).toString("hex")}`;
  const handle = await createPrivateFile(draft, mode);
  try {
    await handle.writeFile(text);
    await handle.sync();
  } catch (error) {
    // No sweep knows the name. The failure of the write is the one to report.
    await unlinkIfThere(draft).catch(() => undefined);
    throw error;
  } finally {
    await handle.close();
  }
  if ((await publishNoReplace(draft, path)) === "published") return true;
  await removeDurably(draft);
  return false;
}

/**
 * Removes a name durably. A missing name is a success.
 *
 * @returns true if there was a file to remove
 */
export async function removeDurably(path: string): Promise<boolean> {
  const wasRemoved = await unlinkIfThere(path);
  try {
    // Also if nothing was there: the attempt that removed it may have died before its own sync.
    await syncDirectory(dirname(path));
  } catch (error) {
    if (wasRemoved || !hasErrorCode(error, "ENOENT")) throw error;
  }
  return wasRemoved;
}

async function unlinkIfThere(path: string): Promise<boolean> {
  try {
    await unlink(path);
    return true;
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return false;
    throw error;
  }
}

async function linkUnlessTaken(
  privatePath: string,
  finalPath: string,
): Promise<"linked" | "renamed" | "exists"> {
  try {
    await link(privatePath, finalPath);
    return "linked";
  } catch (error) {
    if (hasErrorCode(error, "EEXIST")) {
      return (await isSameFile(privatePath, finalPath)) ? "linked" : "exists";
    }
    if (hasErrorCode(error, ...NO_HARD_LINKS)) return renameUnlessTaken(privatePath, finalPath);
    throw error;
  }
}

/**
 * Looks first, and then renames. Without hard links no publish is atomic and never replaces, and
 * Node has no renameat2(RENAME_NOREPLACE). The claim on the image and the epoch in final names
 * cover the gap between the look and the rename: no other import writes this name.
 */
async function renameUnlessTaken(
  privatePath: string,
  finalPath: string,
): Promise<"renamed" | "exists"> {
  if (await isThere(finalPath)) return "exists";
  await rename(privatePath, finalPath);
  return "renamed";
}

async function isThere(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (hasErrorCode(error, "ENOENT")) return false;
    throw error;
  }
}

async function isSameFile(path: string, otherPath: string): Promise<boolean> {
  const [one, other] = await Promise.all([
    lstat(path, { bigint: true }),
    lstat(otherPath, { bigint: true }),
  ]);
  return one.ino === other.ino && one.dev === other.dev;
}
