import { chmod, constants, copyFile, link, lstat, open, stat } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import type { BandwidthLimit } from "../bytes/bandwidth-limit.ts";
import { BLOCK_BYTES } from "../bytes/block-size.ts";
import { copyBlocks, rebuildCrc } from "../bytes/copy-blocks.ts";
import { createPrivateFile, removeDurably, syncOrDiscard } from "../bytes/durable-file.ts";
import type { HeldDirectory } from "../bytes/held-directory.ts";
import { hasErrorCode } from "../bytes/system-error.ts";
import { formatBytes } from "../domain/byte-size.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { FileOwner } from "../domain/store-settings.ts";
import { mayGiveFilesTo } from "./file-owner.ts";
import { freeBytesOf } from "./store-directory.ts";
import type { Copied, CopyOrder, CopyPlace } from "./store.ts";

/** Settings of {@link FileCopies}. */
export interface FileCopiesOptions {
  /** Name of the store. */
  readonly name: string;
  /** Permissions of published files; no user may write. Default: 0440 */
  readonly mode?: number | undefined;
  /** Owner of the published files. Default: this process's user and group */
  readonly owner?: FileOwner | undefined;
  readonly limiter?: BandwidthLimit | undefined;
}

// Published images are read-only, also to their owner. No code of this project opens them for
// writing.
const DEFAULT_MODE = 0o440;
/** Permissions of a part. */
export const PART_MODE = 0o640;

// Two mounts of one file system (EXDEV), a file of another user (EPERM), and so on: copying the
// bytes may still work, or will show what is really wrong.
const NO_LINK = ["EXDEV", "EPERM", "EACCES", "EROFS", "EMLINK", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"];

/** The three ways in which a file store makes a part: as a clone, as a link, and by its bytes. */
export class FileCopies {
  readonly #options: FileCopiesOptions;

  constructor(options: FileCopiesOptions) {
    this.#options = options;
  }

  /**
   * Makes sure, before a byte is copied, that this process may give files to the configured owner.
   *
   * @throws ImportError `PermissionDenied` when this process may not give files to their owner
   */
  async requireOwner(): Promise<void> {
    const { owner, name } = this.#options;
    if (owner === undefined || (await mayGiveFilesTo(owner))) return;
    throw new ImportError(
      "PermissionDenied",
      `Cannot write to store "${name}": it is configured with owner ${String(owner.uid)}:${String(owner.gid)}, and this process may not change a file's owner`,
      { hint: "Run the worker as that user, give it CAP_CHOWN, or leave out `owner`." },
    );
  }

  /**
   * Makes the part a clone of the source: shared blocks with an inode of its own.
   *
   * @returns undefined where the source's crc32 is unknown, the file system has no clones, or an
   *   earlier attempt has copied bytes that are worth keeping
   */
  async clone(order: CopyOrder, directory: HeldDirectory): Promise<Copied | undefined> {
    const { source, crc32 } = order;
    const path = directory.pathOf(order.part);
    if (source.place.kind !== "file" || crc32 === undefined || (await holdsBytes(path))) {
      return undefined;
    }
    try {
      const mode = constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL;
      // Cloned from the open file: its path may lead to another file by now.
      await copyFile(`/proc/self/fd/${String(source.place.handle.fd)}`, path, mode);
    } catch {
      // No clones here, or not between these two places. Another way of copying will show what is
      // really wrong.
      await removeDurably(path);
      return undefined;
    }
    const handle = await open(path, constants.O_RDONLY);
    try {
      await this.finish(handle, path);
    } finally {
      await handle.close();
    }
    return { crc32, writtenBytes: 0, shared: false, method: "reflink" };
  }

  /**
   * Makes the part another name of the source's file, and that file read-only.
   *
   * @returns undefined where the source's crc32 is unknown or it is on another file system, and as
   *   {@link clone}
   */
  async link(order: CopyOrder, directory: HeldDirectory): Promise<Copied | undefined> {
    const { source, crc32 } = order;
    const path = directory.pathOf(order.part);
    if (source.place.kind !== "file" || crc32 === undefined || (await holdsBytes(path))) {
      return undefined;
    }
    const { handle } = source.place;
    const [file, folder] = await Promise.all([handle.stat(), stat(directory.ownPath)]);
    if (file.dev !== folder.dev) return undefined;
    try {
      // Before the link: no process may open the inode for writing once it has two names.
      await this.#dress(handle);
      await handle.sync();
      await link(source.place.path, path);
      return { crc32, writtenBytes: 0, shared: true, method: "link" };
    } catch (error) {
      if (hasErrorCode(error, ...NO_LINK)) return undefined;
      throw error;
    }
  }

  /**
   * Copies the bytes into the part, or continues the part, and makes it durable.
   *
   * @throws ImportError `NoSpace`, `StagedDataChanged`; the system's own error
   */
  async write(order: CopyOrder, directory: HeldDirectory): Promise<Copied> {
    const path = directory.pathOf(order.part);
    const target = order.mayResume
      ? await openForWriting(path)
      : await createPrivateFile(path, PART_MODE);
    try {
      await this.#requireRoom(order, target, directory);
      const start = await resumePoint(order, target);
      const copied = await copyBlocks({
        source: order.source,
        target,
        sizeBytes: order.sizeBytes,
        zeroBlocks: order.zeroBlocks,
        sync: () => syncOrDiscard(target, path),
        ...start,
        limiter: this.#options.limiter,
        signal: order.signal,
        report: order.report,
      });
      await this.finish(target, path);
      return { ...copied, shared: false, method: "copy" };
    } finally {
      await target.close();
    }
  }

  /** Gives a part the permissions and the owner of a published file, and makes it durable. */
  async finish(handle: FileHandle, path: string): Promise<void> {
    await this.#dress(handle);
    await syncOrDiscard(handle, path);
  }

  async #dress(handle: FileHandle): Promise<void> {
    const { mode = DEFAULT_MODE, owner } = this.#options;
    // The mode is changed first: a process may not change the mode of a file that it has given to
    // another owner.
    await handle.chmod(mode);
    if (owner !== undefined) await handle.chown(owner.uid, owner.gid);
  }

  /** Makes sure, before a byte is copied, that the copy has room. Holes need no room. */
  async #requireRoom(
    order: CopyOrder,
    target: FileHandle,
    directory: HeldDirectory,
  ): Promise<void> {
    const sourceBytes = await allocatedBytesOf(order.source.place);
    const heldBytes = allocatedBytes(await target.stat());
    const neededBytes = Math.min(order.sizeBytes, sourceBytes) - heldBytes;
    const freeBytes = await freeBytesOf(directory);
    if (neededBytes <= freeBytes) return;
    throw new ImportError(
      "NoSpace",
      `Cannot copy to store "${this.#options.name}": ${formatBytes(neededBytes)} are needed, ${formatBytes(freeBytes)} are free`,
    );
  }
}

/**
 * True if an earlier attempt has written bytes to the part that are worth keeping. A link or an
 * empty file has none, and is removed.
 */
async function holdsBytes(part: string): Promise<boolean> {
  const found = await lstat(part).catch(() => undefined);
  if (found === undefined) return false;
  if (found.isFile() && found.nlink === 1 && found.size > 0) return true;
  await removeDurably(part);
  return false;
}

async function allocatedBytesOf(place: CopyPlace): Promise<number> {
  return place.kind === "file" ? allocatedBytes(await place.handle.stat()) : Infinity;
}

function allocatedBytes({ blocks }: { readonly blocks: number }): number {
  return blocks * 512;
}

/** Opens the part of a dead attempt, or a new one when that attempt never created it. */
async function openForWriting(path: string): Promise<FileHandle> {
  const found = await lstat(path).catch((error: unknown) => {
    if (hasErrorCode(error, "ENOENT")) return undefined;
    throw error;
  });
  if (found === undefined) return createPrivateFile(path, PART_MODE);
  if (!found.isFile() || found.nlink !== 1) {
    // Another name of this inode exists (a staged file, or a published copy): never write to it.
    await removeDurably(path);
    return createPrivateFile(path, PART_MODE);
  }
  // The attempt may have died after making it read-only.
  await chmod(path, PART_MODE);
  return open(path, constants.O_RDWR | constants.O_NOFOLLOW);
}

/**
 * The place from which a copy continues. Complete blocks of the part are not written again; their
 * crc32 is computed from the bytes that are really there.
 */
async function resumePoint(
  order: CopyOrder,
  target: FileHandle,
): Promise<{ startAt: number; crcSoFar: number }> {
  const { size } = await target.stat();
  const startAt = Math.min(Math.floor(size / BLOCK_BYTES) * BLOCK_BYTES, order.sizeBytes);
  if (startAt === 0) return { startAt, crcSoFar: 0 };
  const crcSoFar = await rebuildCrc(target, startAt, order.signal, order.report);
  return { startAt, crcSoFar };
}
