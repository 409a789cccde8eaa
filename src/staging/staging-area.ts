import { randomBytes } from "node:crypto";
import {
  access,
  constants,
  link,
  open,
  readFile,
  rename,
  stat,
  statfs,
  unlink,
} from "node:fs/promises";
import { basename, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import type { FileHandle } from "node:fs/promises";
import {
  createPrivateFile,
  publishNoReplace,
  removeDurably,
  syncDirectory,
  syncOrDiscard,
} from "../bytes/durable-file.ts";
import { HeldDirectory } from "../bytes/held-directory.ts";
import { fingerprintOf, type Fingerprint } from "../bytes/fingerprint.ts";
import {
  NotARegularFileError,
  openRegularFile,
  OutsideRootError,
  pathUnder,
} from "../bytes/open-regular-file.ts";
import { isPartName, listPartsIn } from "../bytes/part-name.ts";
import { hasErrorCode } from "../bytes/system-error.ts";
import { systemFailure } from "../bytes/system-failure.ts";
import { formatBytes } from "../domain/byte-size.ts";
import { ImportError } from "../domain/import-failure.ts";

// Names the staging volume: the worker that serves this id can reach these bytes, also after a
// restart elsewhere.
const NODE_FILE = ".image-import-node";
const NODE_ID = /^[0-9a-f]{12}$/;

/** Staged bytes that are open for reading. The holder closes the handle. */
export interface OpenStaged {
  readonly handle: FileHandle;
  readonly path: string;
  readonly fingerprint: Fingerprint;
}

/**
 * The directory where the bytes of images wait to be imported. It appears whole or not at all: what
 * is written lies under a private name until it is complete.
 */
export class StagingArea {
  /** Absolute path of the directory. */
  readonly root: string;
  /** Stable id of the volume: twelve hex digits. */
  readonly node: string;

  private constructor(root: string, node: string) {
    this.root = root;
    this.node = node;
  }

  /**
   * Opens the staging area, and names its volume when nobody has.
   *
   * @throws ImportError `BadTaskConfiguration` in Glance's words, when the URI is no `file:///` or
   *   the directory can't be used
   */
  static async open(nodeStagingUri: string): Promise<StagingArea> {
    const root = pathOfStagingUri(nodeStagingUri);
    try {
      await access(root, constants.R_OK | constants.W_OK | constants.X_OK);
      if (!(await stat(root)).isDirectory()) throw new Error(`"${root}" is not a directory`);
      return new StagingArea(root, await nodeIdOf(root));
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new ImportError(
        "BadTaskConfiguration",
        `Could not load the filesystem store: ${reason}`,
        { cause },
      );
    }
  }

  /** Where the staged bytes of an image lie by default. */
  pathOf(imageId: string): string {
    return join(this.root, imageId);
  }

  /** The same, as a URI. */
  uriOf(imageId: string): string {
    return pathToFileURL(this.pathOf(imageId)).href;
  }

  /** Creates the private file of an attempt, empty. */
  async createPart(part: string): Promise<FileHandle> {
    return this.#inVolume((directory) => createPrivateFile(directory.pathOf(part), 0o640));
  }

  /** Path of the private file of an attempt, for whoever writes it by its name. */
  partPathOf(part: string): string {
    return join(this.root, part);
  }

  /**
   * Where the product of an attempt lies when it is finished: no other attempt's has this name, and
   * no image's data.
   */
  productPathOf(part: string): string {
    return join(this.root, part.replace(/\.part$/, ".product"));
  }

  /** Opens the private file of an attempt that was written by its name, for reading. */
  async openPart(part: string): Promise<FileHandle> {
    return this.#translating(() => openRegularFile(this.partPathOf(part)));
  }

  /**
   * Opens the private file that an earlier attempt left, for going on with it, or creates it when
   * none is there. Only for who knows that nobody else writes it.
   */
  async reopenPart(part: string): Promise<FileHandle> {
    const { O_RDWR, O_NOFOLLOW } = constants;
    return this.#translating(() =>
      open(join(this.root, part), O_RDWR | O_NOFOLLOW).catch((error: unknown) => {
        if (hasErrorCode(error, "ENOENT")) return this.createPart(part);
        throw error;
      }),
    );
  }

  /** How many bytes an ordinary user may still write. */
  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.root);
    return bavail * bsize;
  }

  /**
   * Better told before the first byte than found out at the last.
   *
   * @throws ImportError `NoSpace`
   */
  async requireRoom(sizeBytes: number): Promise<void> {
    const freeBytes = await this.freeBytes();
    if (sizeBytes <= freeBytes) return;
    throw new ImportError(
      "NoSpace",
      `Cannot stage ${formatBytes(sizeBytes)}: the staging area has ${formatBytes(freeBytes)} free`,
    );
  }

  /** Makes the bytes of a private file durable; a failure of that discards the file. */
  async syncPart(handle: FileHandle, part: string): Promise<void> {
    await this.#translating(() => syncOrDiscard(handle, join(this.root, part)));
  }

  /**
   * Gives a finished private file its final name. A name that is there already is replaced only
   * when `mayReplace` says so at that moment, and its inode stays whatever it was: a store may hold
   * it under another name.
   */
  async publish(part: string, path: string, mayReplace: () => Promise<void>): Promise<void> {
    await this.#inVolume(async () => {
      while ((await publishNoReplace(join(this.root, part), path)) === "exists") {
        await mayReplace();
        await removeDurably(path);
      }
    });
  }

  /**
   * Opens staged bytes: a regular file below the root, and nothing else.
   *
   * @param uri - where it lies; default: `<node staging uri>/<image id>`
   * @throws ImportError `BadTaskConfiguration`, `StagedDataMissing`, `StagedDataRefused`
   */
  async openStaged(imageId: string, uri?: string): Promise<OpenStaged> {
    const wanted = uri === undefined ? this.pathOf(imageId) : pathOfStagingUri(uri);
    try {
      const path = await pathUnder(this.root, wanted);
      const handle = await openRegularFile(path);
      return { handle, path, fingerprint: await fingerprintOf(handle) };
    } catch (error) {
      // Only in its volume a file that is not found is not there.
      await this.#inVolume(() => Promise.resolve());
      throw this.#stagedFailure(error, wanted);
    }
  }

  /**
   * Whether this path is a private file of an attempt, its product, or a file that the area keeps
   * for itself.
   */
  isOwnFile(path: string): boolean {
    const name = basename(path);
    return name.startsWith(".") || isAttemptsFile(name);
  }

  /**
   * Removes what an attempt may have left: its private file, and the staged file. "Nothing there"
   * is success.
   */
  async discard(names: {
    readonly part?: string | null;
    readonly path?: string | null;
  }): Promise<void> {
    await this.#inVolume(async (directory) => {
      if (names.part != null) await removeDurably(directory.pathOf(names.part));
      if (names.path != null) await this.#removeStaged(names.path);
    });
  }

  /**
   * Names of files that attempts wrote, private or finished, and that nobody has written for a
   * while.
   */
  async listParts(olderThanMs: number): Promise<string[]> {
    return this.#inVolume(({ ownPath }) => listPartsIn(ownPath, olderThanMs, isAttemptsFile));
  }

  /**
   * Does some work in the root, held open, once it is known to be that of the volume: while its
   * volume is not mounted, the empty directory below must not pass for one in which nothing is
   * left.
   */
  async #inVolume<T>(work: (directory: HeldDirectory) => Promise<T>): Promise<T> {
    return this.#translating(async () => {
      await using directory = await HeldDirectory.open(this.root);
      return await directory.run(async () => {
        const found = await readNodeId(directory.pathOf(NODE_FILE));
        if (found === this.node) return work(directory);
        const what = found === undefined ? "no id" : `the id ${found}`;
        throw new ImportError(
          "StagingUnavailable",
          `Cannot use the staging area "${this.root}": it has ${what}, and not ${this.node}, the id of its volume`,
          { hint: "Mount the staging volume; the step is retried." },
        );
      });
    });
  }

  async #removeStaged(path: string): Promise<void> {
    try {
      await removeDurably(await pathUnder(this.root, path));
    } catch (error) {
      // A directory inside the area that somebody removed took the file with it.
      if (!hasErrorCode(error, "ENOENT", "ENOTDIR")) throw error;
    }
  }

  #stagedFailure(error: unknown, path: string): unknown {
    if (!hasErrorCode(error, "ENOENT", "ENOTDIR")) return this.#failure(error);
    return new ImportError("StagedDataMissing", `No staged data lies at "${path}"`, {
      cause: error,
    });
  }

  async #translating<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      throw this.#failure(error);
    }
  }

  #failure(error: unknown): unknown {
    if (error instanceof NotARegularFileError || error instanceof OutsideRootError) {
      return new ImportError("StagedDataRefused", error.message, { cause: error });
    }
    return systemFailure(error, `the staging area "${this.root}"`, "StagingUnavailable");
  }
}

function isAttemptsFile(name: string): boolean {
  return isPartName(name.replace(/\.product$/, ".part"));
}

/**
 * The path in a staging URI.
 *
 * @throws ImportError `BadTaskConfiguration` in the words of the flow that this descends from
 */
export function pathOfStagingUri(uri: string): string {
  const path = uri.startsWith("file:///") ? pathOfFileUri(uri) : undefined;
  if (path !== undefined) return path;
  throw new ImportError(
    "BadTaskConfiguration",
    "Value of node_staging_uri must be in format 'file://<absolute-path>'",
    { hint: `Correct "${uri}".` },
  );
}

function pathOfFileUri(uri: string): string | undefined {
  // They would end the path: a file that has one in its name, not encoded, would be mistaken for
  // another.
  if (uri.includes("?") || uri.includes("#")) return undefined;
  try {
    // An encoded slash is refused by fileURLToPath; a zero byte is not.
    const path = fileURLToPath(uri);
    return path.includes("\0") ? undefined : path;
  } catch {
    return undefined;
  }
}

async function nodeIdOf(root: string): Promise<string> {
  const path = join(root, NODE_FILE);
  const known = await readNodeId(path);
  if (known !== undefined) return known;
  // A whole file by link: two workers that start at once agree on whoever was first.
  const draft = `${path}.${randomBytes(4).toString("hex")}`;
  const handle = await createPrivateFile(draft, 0o644);
  try {
    await handle.writeFile(`${randomBytes(6).toString("hex")}\n`);
    await handle.sync();
  } finally {
    await handle.close();
  }
  await link(draft, path).catch(async (error: unknown) => {
    if (hasErrorCode(error, "EEXIST")) return;
    await rename(draft, path);
  });
  await unlink(draft).catch(() => undefined);
  await syncDirectory(root);
  const chosen = await readNodeId(path);
  if (chosen === undefined) throw new Error(`"${path}" does not hold the id of the staging volume`);
  return chosen;
}

async function readNodeId(path: string): Promise<string | undefined> {
  const text = await readFile(path, "utf8").catch((error: unknown) => {
    if (hasErrorCode(error, "ENOENT")) return undefined;
    throw error;
  });
  if (text === undefined) return undefined;
  const id = text.trim();
  if (!NODE_ID.test(id)) throw new Error(`"${path}" does not hold the id of a staging volume`);
  return id;
}
