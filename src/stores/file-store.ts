import { randomBytes, randomUUID } from "node:crypto";
import {
  access,
  chmod,
  constants,
  copyFile,
  link,
  lstat,
  open,
  readFile,
  stat,
  statfs,
} from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import type { BandwidthLimit } from "../bytes/bandwidth-limit.ts";
import { BLOCK_BYTES } from "../bytes/block-size.ts";
import { copyBlocks, rebuildCrc } from "../bytes/copy-blocks.ts";
import {
  createPrivateFile,
  publishNoReplace,
  removeDurably,
  syncOrDiscard,
} from "../bytes/durable-file.ts";
import { openRegularFile } from "../bytes/open-regular-file.ts";
import { listPartsIn, newPartName } from "../bytes/part-name.ts";
import { writeFully } from "../bytes/positional-io.ts";
import { hasErrorCode } from "../bytes/system-error.ts";
import { systemFailure } from "../bytes/system-failure.ts";
import { formatBytes } from "../domain/byte-size.ts";
import { ImportError } from "../domain/import-failure.ts";
import { mayGiveFilesTo, type FileOwner } from "./file-owner.ts";
import {
  copySourceOf,
  type Copied,
  type CopyOrder,
  type CopyPlace,
  type OpenCopy,
  type PrivateCopy,
  type Store,
  type StoreHealth,
  type StoreLook,
} from "./store.ts";

/** Settings of a {@link FileStore}. */
export interface FileStoreOptions {
  readonly name: string;
  /** Absolute path of the directory. It must exist: a volume that is not mounted must not be mistaken for an empty one. */
  readonly path: string;
  /** Whether a copy may share blocks or its inode with staged data. */
  readonly zeroCopy: boolean;
  /** Permissions of published files; nobody may write. Default: 0440 */
  readonly mode?: number | undefined;
  /** Whose the published files are. Default: this process's */
  readonly owner?: FileOwner | undefined;
  readonly limiter?: BandwidthLimit | undefined;
}

// Published images are read-only, also to their owner: nothing of ours ever opens them for writing.
const DEFAULT_MODE = 0o440;
const PART_MODE = 0o640;

// Two mounts of one file system (EXDEV), a file of another user (EPERM), and so on: copying the bytes may still work, or
// will tell what is really wrong.
const NO_LINK = ["EXDEV", "EPERM", "EACCES", "EROFS", "EMLINK", "ENOTSUP", "EOPNOTSUPP", "ENOSYS"];

type FilePlace = Extract<CopyPlace, { kind: "file" }>;

/** Keeps images as files in one directory. */
export class FileStore implements Store {
  readonly name: string;
  readonly kind = "file";
  readonly #options: FileStoreOptions;

  constructor(options: FileStoreOptions) {
    this.name = options.name;
    this.#options = options;
  }

  urlOf(key: string): string {
    return pathToFileURL(this.#pathOf(key)).href;
  }

  async copy(order: CopyOrder): Promise<PrivateCopy> {
    return this.#translating(async () => {
      await this.#requireOwner();
      const copied = (await this.#copyWithoutBytes(order)) ?? (await this.#copyBytes(order));
      return { ...copied, publish: () => this.#publish(order) };
    });
  }

  async open(key: string): Promise<OpenCopy> {
    const path = this.#pathOf(key);
    return this.#translating(async () => openCopy(await openRegularFile(path), path));
  }

  async find(key: string): Promise<{ readonly sizeBytes: number } | undefined> {
    return this.#translating(async () => {
      const found = await lstat(this.#pathOf(key)).catch(async (error: unknown) => {
        if (!hasErrorCode(error, "ENOENT")) throw error;
        // A directory that is away must not pass for one that does not have it.
        await access(this.#options.path);
        return undefined;
      });
      return found && { sizeBytes: found.size };
    });
  }

  async remove(names: readonly string[]): Promise<void> {
    await this.#translating(async () => {
      // A directory that is away must not pass for one in which nothing is left.
      await access(this.#options.path);
      for (const name of names) await removeDurably(this.#pathOf(name));
    });
  }

  async listParts(olderThanMs: number): Promise<string[]> {
    return this.#translating(() => listPartsIn(this.#options.path, olderThanMs));
  }

  async check(look: StoreLook = "writable"): Promise<StoreHealth> {
    try {
      const { R_OK, W_OK, X_OK } = constants;
      await access(this.#options.path, look === "readable" ? R_OK | X_OK : R_OK | W_OK | X_OK);
      if (!(await stat(this.#options.path)).isDirectory()) throw new Error("not a directory");
      if (look !== "readable") await this.#requireOwner();
      if (look === "trial") await this.#tryOut();
      return { works: true, freeBytes: await this.#freeBytes() };
    } catch (error) {
      return { works: false, reason: error instanceof Error ? error.message : String(error) };
    }
  }

  /** Whatever the trial leaves when it is killed is swept like any other private file. */
  async #tryOut(): Promise<void> {
    const path = this.#pathOf(newPartName(randomUUID(), 0));
    const bytes = randomBytes(4096);
    const target = await createPrivateFile(path, PART_MODE);
    try {
      await writeFully(target, bytes, 0);
      await this.#finish(target, path);
      if (!(await readFile(path)).equals(bytes)) {
        throw new Error("other bytes come back than were written");
      }
    } finally {
      await target.close();
      await removeDurably(path);
    }
  }

  /** Better told before the first byte than found out at the last. */
  async #requireOwner(): Promise<void> {
    const { owner, name } = this.#options;
    if (owner === undefined || (await mayGiveFilesTo(owner))) return;
    throw new ImportError(
      "PermissionDenied",
      `Store "${name}" wants its files to be those of ${String(owner.uid)}:${String(owner.gid)}, to whom this user may not give them`,
      { hint: "Run the worker as that user, give it CAP_CHOWN, or leave out `owner`." },
    );
  }

  /** Gives a private file the permissions and the owner that its published name is to have. */
  async #dress(handle: FileHandle): Promise<void> {
    const { mode = DEFAULT_MODE, owner } = this.#options;
    // The mode first: who has given a file away may not change it any more.
    await handle.chmod(mode);
    if (owner !== undefined) await handle.chown(owner.uid, owner.gid);
  }

  async #finish(handle: FileHandle, path: string): Promise<void> {
    await this.#dress(handle);
    await syncOrDiscard(handle, path);
  }

  #pathOf(name: string): string {
    return join(this.#options.path, basename(name));
  }

  /** A link or a clone: possible when the source is known to be what its crc32 says, and on the same file system. */
  async #copyWithoutBytes(order: CopyOrder): Promise<Copied | undefined> {
    const { place } = order.source;
    if (!this.#options.zeroCopy || place.kind !== "file" || order.crc32 === undefined) {
      return undefined;
    }
    if (await this.#hasBytes(order.part)) return undefined;
    const done = { crc32: order.crc32, writtenBytes: 0 };
    if (await this.#clone(place, order)) return { ...done, shared: false, method: "reflink" };
    if (await this.#link(place, order)) return { ...done, shared: true, method: "link" };
    return undefined;
  }

  /** Shared blocks with an inode of its own: the better of the two where the file system can (xfs, btrfs). */
  async #clone(source: FilePlace, order: CopyOrder): Promise<boolean> {
    const path = this.#pathOf(order.part);
    try {
      const mode = constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL;
      await copyFile(source.path, path, mode);
    } catch {
      // No reflinks here, or not between these two: another way of copying will tell what is really wrong.
      await removeDurably(path);
      return false;
    }
    const handle = await open(path, constants.O_RDONLY);
    try {
      await this.#finish(handle, path);
    } finally {
      await handle.close();
    }
    return true;
  }

  async #link(source: FilePlace, order: CopyOrder): Promise<boolean> {
    const [file, directory] = await Promise.all([source.handle.stat(), stat(this.#options.path)]);
    if (file.dev !== directory.dev) return false;
    let isLinked = false;
    await order.linking(async () => {
      isLinked = await this.#linkReadOnly(source, order);
    });
    return isLinked;
  }

  /** Makes the source read-only, and gives it another name; says whether that is possible here. */
  async #linkReadOnly({ handle, path }: FilePlace, order: CopyOrder): Promise<boolean> {
    try {
      // Before the link: nobody may open the inode for writing once it is two names of the same bytes.
      await this.#dress(handle);
      await handle.sync();
      await link(path, this.#pathOf(order.part));
      return true;
    } catch (error) {
      if (hasErrorCode(error, ...NO_LINK)) return false;
      throw error;
    }
  }

  async #copyBytes(order: CopyOrder): Promise<Copied> {
    const path = this.#pathOf(order.part);
    const target = order.mayResume
      ? await openForWriting(path)
      : await createPrivateFile(path, PART_MODE);
    try {
      await this.#requireRoom(order, target);
      const start = await resumePoint(order, target);
      const copied = await copyBlocks({
        source: order.source,
        target,
        sizeBytes: order.sizeBytes,
        zeroBlocks: order.zeroBlocks,
        sync: () => syncOrDiscard(target, path),
        ...start,
        ...(this.#options.limiter === undefined ? {} : { limiter: this.#options.limiter }),
        signal: order.signal,
        onProgress: order.onProgress,
      });
      await this.#finish(target, path);
      return { ...copied, shared: false, method: "copy" };
    } finally {
      await target.close();
    }
  }

  /** Better told before the first byte than found out at the last. Holes need no room. */
  async #requireRoom(order: CopyOrder, target: FileHandle): Promise<void> {
    const { place } = order.source;
    const sourceBytes =
      place.kind === "file" ? allocatedBytes(await place.handle.stat()) : Infinity;
    const neededBytes =
      Math.min(order.sizeBytes, sourceBytes) - allocatedBytes(await target.stat());
    const freeBytes = await this.#freeBytes();
    if (neededBytes <= freeBytes) return;
    throw new ImportError(
      "NoSpace",
      `Cannot copy to store "${this.name}": ${formatBytes(neededBytes)} are needed, ${formatBytes(freeBytes)} are free`,
    );
  }

  async #freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.#options.path);
    return bavail * bsize;
  }

  /** Whether an earlier attempt has written bytes there that are worth keeping; a link of one is not. */
  async #hasBytes(part: string): Promise<boolean> {
    const found = await lstat(this.#pathOf(part)).catch(() => undefined);
    if (found === undefined) return false;
    if (found.isFile() && found.nlink === 1 && found.size > 0) return true;
    await removeDurably(this.#pathOf(part));
    return false;
  }

  async #publish({ part, key }: CopyOrder): Promise<"published" | "exists"> {
    return this.#translating(async () => {
      const outcome = await publishNoReplace(this.#pathOf(part), this.#pathOf(key));
      if (outcome === "exists") await removeDurably(this.#pathOf(part));
      return outcome;
    });
  }

  async #translating<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw systemFailure(error, `store "${this.name}"`, "StoreUnavailable");
    }
  }
}

function allocatedBytes({ blocks }: { readonly blocks: number }): number {
  return blocks * 512;
}

async function openCopy(handle: FileHandle, path: string): Promise<OpenCopy> {
  const { size, dev, ino } = await handle.stat({ bigint: true });
  return {
    ...copySourceOf(handle, path),
    sizeBytes: Number(size),
    isNameOf: async (file) => {
      const other = await file.stat({ bigint: true });
      return other.dev === dev && other.ino === ino;
    },
    close: () => handle.close(),
    [Symbol.asyncDispose]: () => handle.close(),
  };
}

/** The part of an attempt that is over, or a new one when it never began. */
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

/** Whole blocks that are there already are not written again; their crc is taken from what really lies there. */
async function resumePoint(
  order: CopyOrder,
  target: FileHandle,
): Promise<{ startAt: number; crcSoFar: number }> {
  const { size } = await target.stat();
  const startAt = Math.min(Math.floor(size / BLOCK_BYTES) * BLOCK_BYTES, order.sizeBytes);
  if (startAt === 0) return { startAt, crcSoFar: 0 };
  const crcSoFar = await rebuildCrc(target, startAt, order.signal, order.onProgress);
  return { startAt, crcSoFar };
}
