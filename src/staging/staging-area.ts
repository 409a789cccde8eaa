import { access, constants, open, realpath, stat, statfs } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { pathToFileURL } from "node:url";
import type { FileHandle } from "node:fs/promises";
import {
  createPrivateFile,
  publishNoReplace,
  removeDurably,
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
import { pathOfStagingUri } from "./staging-uri.ts";
import { readVolumeId, volumeIdOf, type VolumeRecords } from "./volume-id.ts";

const IMAGE_ID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;

/** A staged file, open for reading. The caller closes the handle. */
export interface OpenStaged {
  readonly handle: FileHandle;
  readonly path: string;
  readonly fingerprint: Fingerprint;
  /**
   * Its name, if the file is in the root itself and this area gives such names. It identifies the
   * file wherever the volume is mounted.
   */
  readonly ownName: string | undefined;
}

/**
 * The directory where uploads, downloads and products wait to be imported. A file has a private
 * name until it is complete.
 *
 * The catalogue records absolute paths. The same volume may be at another path by now, or on
 * another worker: a recorded path that leads out of the root, to a name that this area gives, means
 * the file of that name in the root.
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
   * Opens the staging area, and gives its volume an id if it has none.
   *
   * @param records - the volumes that this host used before. Default: none
   * @throws ImportError `BadTaskConfiguration` in Glance's words, when the URI does not begin with
   *   `file:///` or the directory cannot be used; `StagingUnavailable` when the volume is not
   *   mounted; `DatabaseUnavailable`
   */
  static async open(nodeStagingUri: string, records?: VolumeRecords): Promise<StagingArea> {
    const root = pathOfStagingUri(nodeStagingUri);
    try {
      await access(root, constants.R_OK | constants.W_OK | constants.X_OK);
      if (!(await stat(root)).isDirectory()) throw new Error(`"${root}" is not a directory`);
      return new StagingArea(root, await volumeIdOf(root, records));
    } catch (cause) {
      if (cause instanceof ImportError) throw cause;
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new ImportError(
        "BadTaskConfiguration",
        `Could not load the filesystem store: ${reason}`,
        { cause },
      );
    }
  }

  /** The default path of the staged file of an image. */
  pathOf(imageId: string): string {
    return join(this.root, imageId);
  }

  /** The default URI of the staged file of an image. */
  uriOf(imageId: string): string {
    return pathToFileURL(this.pathOf(imageId)).href;
  }

  /** Creates the part of an attempt, empty. */
  async createPart(part: string): Promise<FileHandle> {
    return this.#inVolume((directory) => createPrivateFile(directory.pathOf(part), 0o640));
  }

  /** Path of the part of an attempt, for programs that write it by its name. */
  partPathOf(part: string): string {
    return join(this.root, part);
  }

  /** Path of the finished product of an attempt. No other attempt and no upload has this name. */
  productPathOf(part: string): string {
    return join(this.root, part.replace(/\.part$/, ".product"));
  }

  /** Opens a part that a program wrote by its name, for reading. */
  async openPart(part: string): Promise<FileHandle> {
    return this.#translating(() => openRegularFile(this.partPathOf(part)));
  }

  /**
   * Opens the part of an earlier attempt to continue it, or creates it if there is none. The caller
   * knows that no other attempt writes it.
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

  /** The length of a part; undefined if it is not there. */
  async partBytes(part: string): Promise<number | undefined> {
    return this.#inVolume(async (directory) => {
      const found = await stat(directory.pathOf(part)).catch((error: unknown) => {
        if (hasErrorCode(error, "ENOENT")) return undefined;
        throw error;
      });
      return found?.size;
    });
  }

  /**
   * Makes sure that the directory exists, that this process may write to it, and that it is on the
   * volume that was opened.
   *
   * @throws ImportError `StagingUnavailable`
   */
  async requireUsable(): Promise<void> {
    await this.#inVolume(({ ownPath }) =>
      access(ownPath, constants.R_OK | constants.W_OK | constants.X_OK),
    );
  }

  /** Bytes that an ordinary user may still write. */
  async freeBytes(): Promise<number> {
    const { bavail, bsize } = await statfs(this.root);
    return bavail * bsize;
  }

  /**
   * Makes sure that this many bytes have room, before the first of them is written.
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

  /** Makes the bytes of a part durable. A part whose sync fails is removed. */
  async syncPart(handle: FileHandle, part: string): Promise<void> {
    await this.#translating(() => syncOrDiscard(handle, join(this.root, part)));
  }

  /**
   * Gives a finished part its final name. A file that has the name is removed first, but never
   * changed: a store may hold its inode under another name.
   *
   * @param requireMayReplace - throws unless such a file may be removed at that moment
   */
  async publish(part: string, path: string, requireMayReplace: () => Promise<void>): Promise<void> {
    await this.#inVolume(async () => {
      const target = this.#publishedPathOf(path);
      while ((await publishNoReplace(join(this.root, part), target)) === "exists") {
        await requireMayReplace();
        await removeDurably(target);
      }
    });
  }

  /**
   * Gives a published file its private name back. The caller knows that the file is the part of an
   * attempt that has ended, and that nothing reads it.
   */
  async unpublish(path: string, part: string): Promise<void> {
    await this.#inVolume(() =>
      publishNoReplace(this.#publishedPathOf(path), join(this.root, part)),
    );
  }

  /**
   * Opens a staged file, which must be a regular file below the root.
   *
   * @param uri - URI of the file; default: `<node staging uri>/<image id>`
   * @throws ImportError `BadTaskConfiguration`, `StagedDataMissing`, `StagedDataRefused`
   */
  async openStaged(imageId: string, uri?: string): Promise<OpenStaged> {
    const wanted = uri === undefined ? this.pathOf(imageId) : pathOfStagingUri(uri);
    try {
      // A user may name the path, too. A file with the name of an image may then be another file,
      // so that only names of attempts are looked up in the root.
      const path = await this.#pathHere(wanted, isAttemptsFile);
      const isInRoot = dirname(path) === (await realpath(this.root));
      const ownName = isInRoot && isOwnName(basename(path)) ? basename(path) : undefined;
      const handle = await openRegularFile(path);
      return { handle, path, fingerprint: await fingerprintOf(handle), ownName };
    } catch (error) {
      // A file that is not found is missing only if the right volume is mounted.
      await this.#inVolume(() => Promise.resolve());
      throw this.#stagedFailure(error, wanted);
    }
  }

  /** True if this path is a part, a product, or a file that the area keeps for itself. */
  isOwnFile(path: string): boolean {
    const name = basename(path);
    return name.startsWith(".") || isAttemptsFile(name);
  }

  /**
   * Removes the files of an attempt: its part, and its staged file. A missing file is a success.
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

  /** Names of parts and products that were last written more than `olderThanMs` ago. */
  async listParts(olderThanMs: number): Promise<string[]> {
    return this.#inVolume(({ ownPath }) => listPartsIn(ownPath, olderThanMs, isAttemptsFile));
  }

  /**
   * Does some work in the root, held open, after the id of its volume was checked: while the volume
   * is not mounted, the empty directory below it must not pass for an empty staging area.
   */
  async #inVolume<T>(work: (directory: HeldDirectory) => Promise<T>): Promise<T> {
    return this.#translating(async () => {
      await using directory = await HeldDirectory.open(this.root);
      return await directory.run(async () => {
        const found = await readVolumeId(directory.ownPath);
        if (found === this.node) return work(directory);
        const what = found === undefined ? "it has no id" : `its volume has the id ${found}`;
        throw new ImportError(
          "StagingUnavailable",
          `Cannot use the staging area "${this.root}": ${what}, not ${this.node}`,
          { hint: "Mount the staging volume; the step is retried." },
        );
      });
    });
  }

  async #removeStaged(path: string): Promise<void> {
    try {
      await removeDurably(await this.#pathHere(path, isOwnName));
    } catch (error) {
      // A user may have removed the file with its directory.
      if (!hasErrorCode(error, "ENOENT", "ENOTDIR")) throw error;
    }
  }

  /** The canonical path of a file, which may have been recorded when the root was elsewhere. */
  async #pathHere(path: string, isOurs: (name: string) => boolean): Promise<string> {
    try {
      return await pathUnder(this.root, path);
    } catch (error) {
      if (!(error instanceof OutsideRootError && isOurs(basename(path)))) throw error;
      return pathUnder(this.root, basename(path));
    }
  }

  /** The path of an upload, a download or a product, which lies in the root itself. */
  #publishedPathOf(path: string): string {
    return isOwnName(basename(path)) ? join(this.root, basename(path)) : path;
  }

  #stagedFailure(error: unknown, path: string): unknown {
    if (!hasErrorCode(error, "ENOENT", "ENOTDIR")) return this.#failure(error);
    return new ImportError(
      "StagedDataMissing",
      `Cannot find the staged data "${path}": the file does not exist`,
      {
        cause: error,
      },
    );
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

/** True for the names of complete uploads, and of the files of attempts. */
function isOwnName(name: string): boolean {
  return IMAGE_ID.test(name) || isAttemptsFile(name);
}
