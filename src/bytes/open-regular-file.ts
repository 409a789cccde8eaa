import { constants } from "node:fs";
import type { Stats } from "node:fs";
import { lstat, open, realpath } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { basename, dirname, join, relative, resolve, sep } from "node:path";
import { hasErrorCode } from "./system-error.ts";

/** A kind of file that is not a regular one. */
export type OtherFileKind =
  "symbolic link" | "directory" | "FIFO" | "character device" | "block device" | "socket";

/** The error for a path that leads to another kind of file than a regular one. */
export class NotARegularFileError extends Error {
  readonly kind: OtherFileKind;
  readonly path: string;

  constructor(kind: OtherFileKind, path: string) {
    super(`Cannot open "${path}": it is a ${kind}, not a regular file`);
    this.name = "NotARegularFileError";
    this.kind = kind;
    this.path = path;
  }
}

/** The error for a path that leads out of the directory that it must stay in. */
export class OutsideRootError extends Error {
  readonly root: string;
  readonly path: string;

  constructor(root: string, path: string) {
    super(`Cannot use "${path}": it does not lie below "${root}"`);
    this.name = "OutsideRootError";
    this.root = root;
    this.path = path;
  }
}

/**
 * Opens a regular file for reading. It does not follow a symbolic link, and does not wait for a
 * FIFO.
 *
 * @throws NotARegularFileError when it is another kind of file
 * @throws the system's own error otherwise, such as `ENOENT` or `EACCES`
 */
export async function openRegularFile(path: string): Promise<FileHandle> {
  // Checked before it is opened, because opening some devices has an effect; and after, because
  // another file may have taken its name in between.
  assertRegular(await lstat(path), path);
  const handle = await openWithoutFollowing(path);
  try {
    assertRegular(await handle.stat(), path);
    return handle;
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/**
 * The canonical form of a path that lies below a directory, with no symbolic link in any parent
 * that could lead out of it. The last component is not checked; {@link openRegularFile} does
 * that.
 *
 * @param root - the directory to stay in; may itself be reached through symbolic links
 * @param path - absolute, or relative to `root`
 * @throws OutsideRootError when it leads elsewhere, or to the root itself
 * @throws the system's own error, such as `ENOENT` when the parent directory is missing
 */
export async function pathUnder(root: string, path: string): Promise<string> {
  const absolutePath = resolve(root, path);
  const realRoot = await realpath(root);
  const realParent = await realParentOf(absolutePath, [resolve(root), realRoot], root);
  if (!isWithin(realRoot, realParent)) throw new OutsideRootError(root, path);
  const canonicalPath = join(realParent, basename(absolutePath));
  if (canonicalPath === realRoot) throw new OutsideRootError(root, path);
  return canonicalPath;
}

async function realParentOf(
  absolutePath: string,
  roots: readonly string[],
  root: string,
): Promise<string> {
  try {
    return await realpath(dirname(absolutePath));
  } catch (error) {
    // The error must not show whether a directory elsewhere exists.
    if (!roots.some((each) => isWithin(each, dirname(absolutePath)))) {
      throw new OutsideRootError(root, absolutePath);
    }
    throw error;
  }
}

function isWithin(root: string, path: string): boolean {
  const steps = relative(root, path);
  return steps !== ".." && !steps.startsWith(`..${sep}`);
}

async function openWithoutFollowing(path: string): Promise<FileHandle> {
  const { O_RDONLY, O_NOFOLLOW, O_NONBLOCK } = constants;
  try {
    // O_CLOEXEC is not named: libuv sets it on every file.
    return await open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
  } catch (error) {
    if (hasErrorCode(error, "ELOOP")) throw new NotARegularFileError("symbolic link", path);
    if (hasErrorCode(error, "ENXIO")) assertRegular(await lstat(path), path);
    throw error;
  }
}

function assertRegular(stats: Stats, path: string): void {
  if (stats.isFile()) return;
  throw new NotARegularFileError(kindOf(stats), path);
}

function kindOf(stats: Stats): OtherFileKind {
  if (stats.isSymbolicLink()) return "symbolic link";
  if (stats.isDirectory()) return "directory";
  if (stats.isFIFO()) return "FIFO";
  if (stats.isCharacterDevice()) return "character device";
  if (stats.isBlockDevice()) return "block device";
  return "socket";
}
