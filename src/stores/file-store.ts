import { randomBytes, randomUUID } from "node:crypto";
import { access, constants, readFile } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import { createPrivateFile, publishNoReplace, removeDurably } from "../bytes/durable-file.ts";
import type { HeldDirectory } from "../bytes/held-directory.ts";
import { openRegularFile } from "../bytes/open-regular-file.ts";
import { listPartsIn, newPartName } from "../bytes/part-name.ts";
import { writeFully } from "../bytes/positional-io.ts";
import { hasErrorCode } from "../bytes/system-error.ts";
import { systemFailure } from "../bytes/system-failure.ts";
import { FileCopies, PART_MODE, type FileCopiesOptions } from "./file-copies.ts";
import {
  freeBytesOf,
  lstatIfThere,
  StoreDirectory,
  type StoreDirectoryOptions,
} from "./store-directory.ts";
import type { Adopted, StoreMark } from "./store-mark.ts";
import {
  copySourceOf,
  fileVersion,
  type Copied,
  type CopyOrder,
  type FoundCopy,
  type OpenCopy,
  type PrivateCopy,
  type Store,
  type StoreHealth,
  type StoreLook,
} from "./store.ts";

/** Settings of a {@link FileStore}. */
export interface FileStoreOptions extends StoreDirectoryOptions, FileCopiesOptions {
  /** True if a copy may share blocks or its inode with its source. */
  readonly zeroCopy: boolean;
}

/** Keeps images as files in one directory. */
export class FileStore implements Store {
  readonly name: string;
  readonly kind = "file";
  readonly #options: FileStoreOptions;
  readonly #directory: StoreDirectory;
  readonly #copies: FileCopies;

  constructor(options: FileStoreOptions) {
    this.name = options.name;
    this.#options = options;
    this.#directory = new StoreDirectory(options);
    this.#copies = new FileCopies(options);
  }

  urlOf(key: string): string {
    return pathToFileURL(this.#pathOf(key)).href;
  }

  get canLink(): boolean {
    return this.#options.zeroCopy;
  }

  async clone(order: CopyOrder): Promise<PrivateCopy | undefined> {
    if (!this.#options.zeroCopy) return undefined;
    return this.#inside("begin", async (directory) => {
      await this.#copies.requireOwner();
      return this.#privateCopy(order, await this.#copies.clone(order, directory));
    });
  }

  async link(order: CopyOrder): Promise<PrivateCopy | undefined> {
    if (!this.canLink) return undefined;
    return this.#inside("write", async (directory) => {
      await this.#copies.requireOwner();
      return this.#privateCopy(order, await this.#copies.link(order, directory));
    });
  }

  async copy(order: CopyOrder): Promise<PrivateCopy> {
    return this.#inside("begin", async (directory) => {
      await this.#copies.requireOwner();
      return this.#privateCopy(order, await this.#copies.write(order, directory));
    });
  }

  async open(key: string): Promise<OpenCopy> {
    return this.#inside("read", async (directory) =>
      openCopy(await openRegularFile(directory.pathOf(key)), this.#pathOf(key)),
    );
  }

  async find(key: string): Promise<FoundCopy | undefined> {
    // The store has no directory yet: the first copy creates it.
    if (await this.#translating(() => this.#directory.isYetToCreate())) return undefined;
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
      if (look === "writable" && (await this.#directory.isYetToCreate().catch(() => false))) {
        await access(dirname(this.#options.path), constants.W_OK | constants.X_OK);
        return { works: true, mark: "none yet" };
      }
      return await this.#directory.useUnchecked((directory) => this.#lookAt(directory, look));
    } catch (error) {
      if (hasErrorCode(error, "ENOTDIR")) return { works: false, reason: "not a directory" };
      return { works: false, reason: error instanceof Error ? error.message : String(error) };
    }
  }

  async prepare(): Promise<void> {
    await this.#inside("begin", async () => this.#copies.requireOwner());
  }

  async adopt(): Promise<Adopted> {
    return this.#translating(() => this.#directory.adopt());
  }

  async #lookAt(directory: HeldDirectory, look: StoreLook): Promise<StoreHealth> {
    const { R_OK, W_OK, X_OK } = constants;
    await access(directory.ownPath, look === "readable" ? R_OK | X_OK : R_OK | W_OK | X_OK);
    const mark = await this.#directory.lookForMark(directory);
    if (look !== "readable") await this.#copies.requireOwner();
    if (look === "trial") await this.#tryOut(directory);
    return {
      works: true,
      freeBytes: await freeBytesOf(directory),
      ...(mark === undefined ? {} : { mark }),
    };
  }

  /** Writes a file, reads it back and removes it. A killed trial leaves a part, which is swept. */
  async #tryOut(directory: HeldDirectory): Promise<void> {
    const path = directory.pathOf(newPartName(randomUUID(), 0));
    const bytes = randomBytes(4096);
    const target = await createPrivateFile(path, PART_MODE);
    try {
      await writeFully(target, bytes, 0);
      await this.#copies.finish(target, path);
      if (!(await readFile(path)).equals(bytes)) {
        throw new Error("a file reads back differently from what was written");
      }
    } finally {
      await target.close();
      await removeDurably(path);
    }
  }

  #privateCopy(order: CopyOrder, copied: Copied): PrivateCopy;
  #privateCopy(order: CopyOrder, copied: Copied | undefined): PrivateCopy | undefined;
  #privateCopy(order: CopyOrder, copied: Copied | undefined): PrivateCopy | undefined {
    return copied && { ...copied, publish: () => this.#publish(order) };
  }

  async #publish({ part, key }: CopyOrder): Promise<"published" | "exists"> {
    return this.#inside("write", async (directory) => {
      const [partPath, keyPath] = [directory.pathOf(part), directory.pathOf(key)];
      const outcome = await publishNoReplace(partPath, keyPath);
      if (outcome === "exists") await removeDurably(partPath);
      return outcome;
    });
  }

  #pathOf(name: string): string {
    return join(this.#options.path, basename(name));
  }

  async #inside<T>(
    purpose: Parameters<StoreMark["require"]>[1],
    work: (directory: HeldDirectory) => Promise<T>,
  ): Promise<T> {
    return this.#translating(() => this.#directory.use(purpose, work));
  }

  async #translating<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw systemFailure(error, `store "${this.name}"`, "StoreUnavailable");
    }
  }
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
