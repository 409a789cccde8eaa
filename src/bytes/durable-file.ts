import { constants } from "node:fs";
import { link, lstat, open, rename, unlink } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { dirname } from "node:path";
import { hasErrorCode } from "./system-error.ts";

// What link(2) says where a file system (FAT, some network mounts) or a policy
// (fs.protected_hardlinks) has no hard links.
const NO_HARD_LINKS = ["EPERM", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"];

/**
 * Makes the names in a directory as durable as the disk: what was created, renamed or removed in it
 * stays so.
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
 * Creates a file that is surely ours, open for reading and writing. Whatever lies there already,
 * also a dangling symbolic link, is left alone.
 *
 * @param path - a name that nobody else uses
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
 * @param handle - the open file; closing it stays with its owner
 * @param path - its name, which is ours alone
 * @throws the system's own error of the fsync, with the file removed
 */
export async function syncOrDiscard(handle: Pick<FileHandle, "sync">, path: string): Promise<void> {
  try {
    await handle.sync();
  } catch (error) {
    // The failed fsync is what must be told, not that cleaning up failed too; the lease's sweeper
    // comes back for the file.
    await unlink(path).catch(() => undefined);
    throw error;
  }
}

/**
 * Gives a finished, synced private file its final name, durably, and never replaces a file of that
 * name. The private name is gone afterwards. Safe to repeat: a publish that was cut short is
 * completed.
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
 * Removes a name durably. "Nothing there" is success.
 *
 * @returns whether something was removed
 */
export async function removeDurably(path: string): Promise<boolean> {
  const wasRemoved = await unlinkIfThere(path);
  try {
    // Also when nothing was there: the attempt that removed it may have died before its own sync.
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
 * Without hard links there is no publish that is atomic and never replaces, and Node has no
 * renameat2(RENAME_NOREPLACE). What is left is to look first. The gap between looking and renaming
 * is covered by the claim on the image and by final names that carry the attempt's epoch: nobody
 * else writes this name.
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
