import { lstat, mkdir, readFile, statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { syncDirectory, writeUnlessThere } from "../bytes/durable-file.ts";
import { HeldDirectory } from "../bytes/held-directory.ts";
import { hasErrorCode } from "../bytes/system-error.ts";
import { ImportError } from "../domain/import-failure.ts";
import {
  MARK_NAME,
  markText,
  parseMark,
  type Adopted,
  type MarkedPlace,
  type StoreMark,
} from "./store-mark.ts";
import { noCatalogue } from "./store.ts";

const MARK_MODE = 0o444;
// Other users who read the images belong to the worker's group.
const DIRECTORY_MODE = 0o750;

/** Settings of a {@link StoreDirectory}. */
export interface StoreDirectoryOptions {
  /** Name of the store. */
  readonly name: string;
  /** Absolute path of the directory. */
  readonly path: string;
  /** Distinguishes the directory from an empty mount point. Default: any directory is accepted */
  readonly mark?: StoreMark | undefined;
}

/** The directory of a file store, recognised by its mark. */
export class StoreDirectory {
  readonly #options: StoreDirectoryOptions;

  constructor(options: StoreDirectoryOptions) {
    this.#options = options;
  }

  /**
   * Does some work in the directory, after its mark was checked. The paths of the held directory
   * stay in it: a volume that is unmounted or mounted over meanwhile changes nothing.
   *
   * @param purpose - as in {@link StoreMark.require}; `begin` also creates the directory of a store
   *   that was never used
   */
  async use<T>(
    purpose: Parameters<StoreMark["require"]>[1],
    work: (directory: HeldDirectory) => Promise<T>,
  ): Promise<T> {
    if (purpose === "begin" && (await this.isYetToCreate())) await this.#create();
    await using directory = await this.#hold();
    return await directory.run(async () => {
      await this.#options.mark?.require(markedPlace(directory), purpose);
      return work(directory);
    });
  }

  /** Does some work in the directory, whatever its mark. */
  async useUnchecked<T>(work: (directory: HeldDirectory) => Promise<T>): Promise<T> {
    await using directory = await this.#hold();
    return await directory.run(() => work(directory));
  }

  /** Looks for the mark as {@link StoreMark.look} does; undefined where no catalogue has one. */
  async lookForMark(directory: HeldDirectory): Promise<"present" | "none yet" | undefined> {
    return this.#options.mark?.look(markedPlace(directory));
  }

  /** Makes the directory that of the store, as {@link StoreMark.adopt} does. */
  async adopt(): Promise<Adopted> {
    const { mark, path, name } = this.#options;
    if (mark === undefined) throw noCatalogue(name);
    await using directory = await HeldDirectory.open(path);
    return await directory.run(() => mark.adopt(markedPlace(directory)));
  }

  /**
   * True if the directory is missing and the store was never used, so that it is to be created. The
   * missing directory of any other store is on a volume that is not mounted.
   */
  async isYetToCreate(): Promise<boolean> {
    const { path, mark } = this.#options;
    if (mark === undefined || (await lstatIfThere(path)) !== undefined) return false;
    return !(await mark.isKnown());
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
}

/** The status of a path itself, not of the target of a link; undefined when nothing is there. */
export async function lstatIfThere(path: string) {
  return lstat(path, { bigint: true }).catch((error: unknown) => {
    if (hasErrorCode(error, "ENOENT")) return undefined;
    throw error;
  });
}

/** Bytes that an ordinary user may still write on the file system of a directory. */
export async function freeBytesOf(directory: HeldDirectory): Promise<number> {
  const { bavail, bsize } = await statfs(directory.ownPath);
  return bavail * bsize;
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
      if (await writeUnlessThere(path, markText(mark), MARK_MODE)) return mark;
      return (await read()) ?? mark;
    },
    holds: async (key) => (await lstatIfThere(directory.pathOf(key))) !== undefined,
  };
}
