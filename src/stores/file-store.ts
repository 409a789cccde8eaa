import { randomBytes, randomUUID } from "node:crypto";
import {
  access,
  chmod,
  constants,
  copyFile,
  link,
  lstat,
  mkdir,
  open,
  readFile,
  stat,
  statfs,
} from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import type { BandwidthLimit } from "../bytes/bandwidth-limit.ts";
import { BLOCK_BYTES } from "../bytes/block-size.ts";
import { copyBlocks, rebuildCrc } from "../bytes/copy-blocks.ts";
import {
  createPrivateFile,
  publishNoReplace,
  removeDurably,
  syncDirectory,
  syncOrDiscard,
} from "../bytes/durable-file.ts";
import { HeldDirectory } from "../bytes/held-directory.ts";
import { openRegularFile } from "../bytes/open-regular-file.ts";
import { listPartsIn, newPartName } from "../bytes/part-name.ts";
import { writeFully } from "../bytes/positional-io.ts";
import { hasErrorCode } from "../bytes/system-error.ts";
import { systemFailure } from "../bytes/system-failure.ts";
import { formatBytes } from "../domain/byte-size.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { FileOwner } from "../domain/store-settings.ts";
import { mayGiveFilesTo } from "./file-owner.ts";
import {
  MARK_NAME,
  markText,
  parseMark,
  type Adopted,
  type MarkedPlace,
  type StoreMark,
} from "./store-mark.ts";
import {
  copySourceOf,
  fileVersion,
  noCatalogue,
  type Copied,
  type CopyOrder,
  type CopyPlace,
  type FoundCopy,
  type OpenCopy,
  type PrivateCopy,
  type Store,
  type StoreHealth,
  type StoreLook,
} from "./store.ts";

/** Settings of a {@link FileStore}. */
export interface FileStoreOptions {
  readonly name: string;
  /**
   * Absolute path of the directory. One of a store that was never used is created by
   * {@link FileStore.prepare}.
   */
  readonly path: string;
  /** Distinguishes the directory from an empty mount point. Default: any directory is accepted */
  readonly mark?: StoreMark | undefined;
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
const MARK_MODE = 0o444;
// Others who are to read the images belong to the worker's group.
const DIRECTORY_MODE = 0o750;

// Two mounts of one file system (EXDEV), a file of another user (EPERM), and so on: copying the
// bytes may still work, or will tell what is really wrong.
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
    return this.#inside("begin", async (directory) => {
      await this.#requireOwner();
      const copied =
        (await this.#copyWithoutBytes(order, directory)) ??
        (await this.#copyBytes(order, directory));
      return { ...copied, publish: () => this.#publish(order) };
    });
  }

  async open(key: string): Promise<OpenCopy> {
    return this.#inside("read", async (directory) =>
      openCopy(await openRegularFile(directory.pathOf(key)), this.#pathOf(key)),
    );
  }

  async find(key: string): Promise<FoundCopy | undefined> {
    // The copy that comes next creates it.
    if (await this.#isYetToCreate()) return undefined;
    return this.#inside("read", async (directory) => {
      const found = await lstatIfThere(directory.pathOf(key));
      return found && { sizeBytes: Number(found.size), version: fileVersion(found) };
    });
  }

  async remove(names: readonly string[]): Promise<void> {
    await this.#inside("write", async (directory) => {
      for (const name of names) await removeDurably(directory.pathOf(name));
    });
  }

  async listParts(olderThanMs: number): Promise<string[]> {
    return this.#inside("read", (directory) => listPartsIn(directory.ownPath, olderThanMs));
  }

  async check(look: StoreLook = "writable"): Promise<StoreHealth> {
    try {
      if (look === "writable" && (await this.#isYetToCreate().catch(() => false))) {
        await access(dirname(this.#options.path), constants.W_OK | constants.X_OK);
        return { works: true, mark: "none yet" };
      }
      await using directory = await this.#hold();
      return await directory.run(() => this.#lookAt(directory, look));
    } catch (error) {
      if (hasErrorCode(error, "ENOTDIR")) return { works: false, reason: "not a directory" };
      return { works: false, reason: error instanceof Error ? error.message : String(error) };
    }
  }

  async prepare(): Promise<void> {
    await this.#inside("begin", async () => this.#requireOwner());
  }

  async adopt(): Promise<Adopted> {
    const { mark, path, name } = this.#options;
    if (mark === undefined) throw noCatalogue(name);
    return this.#translating(async () => {
      await using directory = await HeldDirectory.open(path);
      return await directory.run(() => mark.adopt(markedPlace(directory)));
    });
  }

  async #lookAt(directory: HeldDirectory, look: StoreLook): Promise<StoreHealth> {
    const { R_OK, W_OK, X_OK } = constants;
    await access(directory.ownPath, look === "readable" ? R_OK | X_OK : R_OK | W_OK | X_OK);
    const mark = await this.#options.mark?.look(markedPlace(directory));
    if (look !== "readable") await this.#requireOwner();
    if (look === "trial") await this.#tryOut(directory);
    return {
      works: true,
      freeBytes: await freeBytesOf(directory),
      ...(mark === undefined ? {} : { mark }),
    };
  }

  /** A trial that is killed leaves a private file, which is swept like any other. */
  async #tryOut(directory: HeldDirectory): Promise<void> {
    const path = directory.pathOf(newPartName(randomUUID(), 0));
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

  /**
   * Does some work in the directory of the store, once it is known to be that. Its paths stay in
   * that directory: a volume that is unmounted or mounted over meanwhile changes nothing.
   */
  async #inside<T>(
    purpose: Parameters<StoreMark["require"]>[1],
    work: (directory: HeldDirectory) => Promise<T>,
  ): Promise<T> {
    return this.#translating(async () => {
      if (purpose === "begin" && (await this.#isYetToCreate())) await this.#create();
      await using directory = await this.#hold();
      return await directory.run(async () => {
        await this.#options.mark?.require(markedPlace(directory), purpose);
        return work(directory);
      });
    });
  }

  async #hold(): Promise<HeldDirectory> {
    const { path, name, mark } = this.#options;
    try {
      return await HeldDirectory.open(path);
    } catch (error) {
      if (mark === undefined || !hasErrorCode(error, "ENOENT", "ENOTDIR", "ELOOP")) throw error;
      // A store that was never used has no volume that could come back.
      const isKnown = await mark.isKnown().catch(() => true);
      const what = hasErrorCode(error, "ENOENT") ? "does not exist" : "is not a directory";
      throw new ImportError(
        isKnown ? "StoreUnavailable" : "BadConfiguration",
        `Cannot use store "${name}": its directory "${path}" ${what}`,
        { cause: error, hint: `Mount its volume, or correct \`stores.${name}.path\`.` },
      );
    }
  }

  /**
   * A directory that is missing is created for a store that was never used; any other is on a
   * volume that is not there.
   */
  async #isYetToCreate(): Promise<boolean> {
    const { path, mark } = this.#options;
    if (mark === undefined || (await lstatIfThere(path)) !== undefined) return false;
    return !(await mark.isKnown());
  }

  async #create(): Promise<void> {
    const { path, name } = this.#options;
    try {
      await mkdir(path, { mode: DIRECTORY_MODE });
      await syncDirectory(dirname(path));
    } catch (error) {
      if (hasErrorCode(error, "EEXIST")) return;
      const reason = error instanceof Error ? error.message : String(error);
      throw new ImportError(
        "BadConfiguration",
        `Cannot create the directory "${path}" of store "${name}": ${reason}`,
        {
          cause: error,
          hint: `Create it and let the worker's user write there, or correct \`stores.${name}.path\`.`,
        },
      );
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

  /**
   * A link or a clone: possible when the source is known to be what its crc32 says, and on the same
   * file system.
   */
  async #copyWithoutBytes(order: CopyOrder, directory: HeldDirectory): Promise<Copied | undefined> {
    const { place } = order.source;
    if (!this.#options.zeroCopy || place.kind !== "file" || order.crc32 === undefined) {
      return undefined;
    }
    if (await hasBytes(directory.pathOf(order.part))) return undefined;
    const done = { crc32: order.crc32, writtenBytes: 0 };
    if (await this.#clone(place, directory.pathOf(order.part)))
      return { ...done, shared: false, method: "reflink" };
    if (await this.#link(place, order, directory)) return { ...done, shared: true, method: "link" };
    return undefined;
  }

  /**
   * Shared blocks with an inode of its own: the better of the two where the file system can (xfs,
   * btrfs).
   */
  async #clone(source: FilePlace, path: string): Promise<boolean> {
    try {
      const mode = constants.COPYFILE_FICLONE_FORCE | constants.COPYFILE_EXCL;
      // The open file, and not whatever has its path by now.
      await copyFile(`/proc/self/fd/${String(source.handle.fd)}`, path, mode);
    } catch {
      // No reflinks here, or not between these two: another way of copying will tell what is really
      // wrong.
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

  async #link(source: FilePlace, order: CopyOrder, directory: HeldDirectory): Promise<boolean> {
    const [file, folder] = await Promise.all([source.handle.stat(), stat(directory.ownPath)]);
    if (file.dev !== folder.dev) return false;
    let isLinked = false;
    await order.linking(async () => {
      isLinked = await this.#linkReadOnly(source, directory.pathOf(order.part));
    });
    return isLinked;
  }

  /** Makes the source read-only, and gives it another name; says whether that is possible here. */
  async #linkReadOnly({ handle, path }: FilePlace, part: string): Promise<boolean> {
    try {
      // Before the link: nobody may open the inode for writing once it is two names of the same
      // bytes.
      await this.#dress(handle);
      await handle.sync();
      await link(path, part);
      return true;
    } catch (error) {
      if (hasErrorCode(error, ...NO_LINK)) return false;
      throw error;
    }
  }

  async #copyBytes(order: CopyOrder, directory: HeldDirectory): Promise<Copied> {
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
  async #requireRoom(
    order: CopyOrder,
    target: FileHandle,
    directory: HeldDirectory,
  ): Promise<void> {
    const { place } = order.source;
    const sourceBytes =
      place.kind === "file" ? allocatedBytes(await place.handle.stat()) : Infinity;
    const neededBytes =
      Math.min(order.sizeBytes, sourceBytes) - allocatedBytes(await target.stat());
    const freeBytes = await freeBytesOf(directory);
    if (neededBytes <= freeBytes) return;
    throw new ImportError(
      "NoSpace",
      `Cannot copy to store "${this.name}": ${formatBytes(neededBytes)} are needed, ${formatBytes(freeBytes)} are free`,
    );
  }

  async #publish({ part, key }: CopyOrder): Promise<"published" | "exists"> {
    return this.#inside("write", async (directory) => {
      const [partPath, keyPath] = [directory.pathOf(part), directory.pathOf(key)];
      const outcome = await publishNoReplace(partPath, keyPath);
      if (outcome === "exists") await removeDurably(partPath);
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

/** The directory as the place of a mark. */
function markedPlace(directory: HeldDirectory): MarkedPlace {
  const path = directory.pathOf(MARK_NAME);
  const title = `directory "${directory.path}"`;
  const read = async (): Promise<string | undefined> => {
    const text = await readFile(path, "utf8").catch((error: unknown) => {
      if (hasErrorCode(error, "ENOENT")) return undefined;
      throw error;
    });
    return text === undefined ? undefined : parseMark(text, title);
  };
  return {
    title,
    read,
    write: async (mark) => {
      // A complete file by link: of several processes that write one, the first wins.
      const draft = `${path}.${randomBytes(4).toString("hex")}`;
      const handle = await createPrivateFile(draft, MARK_MODE);
      try {
        await handle.writeFile(markText(mark));
        await syncOrDiscard(handle, draft);
      } finally {
        await handle.close();
      }
      if ((await publishNoReplace(draft, path)) === "published") return mark;
      await removeDurably(draft);
      return (await read()) ?? mark;
    },
    holds: async (key) => (await lstatIfThere(directory.pathOf(key))) !== undefined,
  };
}

async function freeBytesOf(directory: HeldDirectory): Promise<number> {
  const { bavail, bsize } = await statfs(directory.ownPath);
  return bavail * bsize;
}

async function lstatIfThere(path: string) {
  return lstat(path, { bigint: true }).catch((error: unknown) => {
    if (hasErrorCode(error, "ENOENT")) return undefined;
    throw error;
  });
}

/**
 * Whether an earlier attempt has written bytes there that are worth keeping; a link of one is not.
 */
async function hasBytes(part: string): Promise<boolean> {
  const found = await lstat(part).catch(() => undefined);
  if (found === undefined) return false;
  if (found.isFile() && found.nlink === 1 && found.size > 0) return true;
  await removeDurably(part);
  return false;
}

function allocatedBytes({ blocks }: { readonly blocks: number }): number {
  return blocks * 512;
}

async function openCopy(handle: FileHandle, path: string): Promise<OpenCopy> {
  const file = await handle.stat({ bigint: true });
  return {
    ...copySourceOf(handle, path),
    sizeBytes: Number(file.size),
    version: fileVersion(file),
    isNameOf: async (other) => {
      const { dev, ino } = await other.stat({ bigint: true });
      return dev === file.dev && ino === file.ino;
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

/**
 * Whole blocks that are there already are not written again; their crc is taken from what really
 * lies there.
 */
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
