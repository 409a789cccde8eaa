import type { Writable } from "node:stream";
import { DigestRing } from "../bytes/digest-ring.ts";
import { hashFile } from "../bytes/hash-file.ts";
import { readFully, writeFully } from "../bytes/positional-io.ts";
import type { Database } from "../db/connect.ts";
import { findImage, recordDamage, type LocationRow } from "../db/image-records.ts";
import { ImportError, type ImportFailureCode } from "../domain/import-failure.ts";
import type { Report } from "../domain/report.ts";
import type { Stores } from "../stores/open-stores.ts";
import { inReadingOrder, lookAtCopy, MISSING } from "../stores/readable-copy.ts";
import { mayHaveChanged, type OpenCopy } from "../stores/store.ts";
import type { ImageView } from "./image-view.ts";
import { writeNewFile } from "./new-file.ts";
import { writeTo } from "./write-to.ts";

/** Options of a download. */
export interface ReadOptions {
  /** A path, which must not exist, or a stream, which is not ended. */
  readonly to: string | Writable;
  readonly signal?: AbortSignal;
  readonly report?: Report;
  /**
   * Called for every copy that is found damaged; another copy is read next, if there is one.
   */
  readonly onDamage?: (copy: DamagedCopy) => void;
}

/** A copy whose bytes are not those of the image. */
export interface DamagedCopy {
  readonly store: string;
  readonly url: string;
  /** The difference. */
  readonly damage: string;
}

/** The result of the verification of a location. */
export interface VerifiedLocation {
  readonly image_id: string;
  readonly store: string;
  readonly url: string;
  readonly ok: boolean;
  /** The difference, or why it could not be read; null if `ok`. */
  readonly reason: string | null;
}

/** Options of reading from an image at any position. */
export interface OpenOptions {
  /** Stores whose copies are read first, in this order. Default: none */
  readonly prefer?: readonly string[];
  readonly signal?: AbortSignal;
}

/** A published image, open for reading at any position. The caller closes it. */
export interface OpenImage extends AsyncDisposable {
  readonly sizeBytes: number;
  /**
   * Reads bytes of the image, from another copy if one fails.
   *
   * @param buffer - is filled up to its end, or to the end of the image
   * @returns the number of bytes read
   */
  read(buffer: Buffer, position: number): Promise<number>;
}

/** Takes blocks in order. */
type Sink = (bytes: Buffer, position: number) => Promise<void>;

/**
 * Reads an active image, and compares its digest on the way. After a copy that is damaged or breaks
 * off it reads another one. A file appears only complete and verified. Bytes written to a stream
 * cannot be withdrawn: a copy that may have changed since its last check is read once before its
 * first byte is written.
 *
 * @throws ImportError `ImageConflict`; `DigestMismatch` when no copy is the image, and when a
 *   stream has taken bytes that are not; `StoreUnavailable`; `UnusableFile`, `FileNotFound`
 * @internal
 */
export async function readImage(
  database: Database,
  stores: Stores,
  image: ImageView,
  options: ReadOptions,
): Promise<void> {
  if (image.status !== "active") {
    throw new ImportError(
      "ImageConflict",
      `Cannot read image "${image.id}": it is ${image.status}, and only an active image is read`,
    );
  }
  const { locations } = await database.query((db) => findImage(db, image.id));
  await using copies = new Copies(database, stores, image, locations, options);
  if (typeof options.to === "string") await readToFile(copies, options.to);
  else await readToStream(copies, options.to, options);
}

/**
 * Opens a published image. A copy that has not changed since it was checked is read as it is; one
 * that may have changed is read to its end first, and skipped if its bytes are not those of the
 * image.
 *
 * @throws ImportError `ImageNotFound`, `DigestMismatch`, `StoreUnavailable`, `CopyNotFound`
 * @internal
 */
export async function openImage(
  database: Database,
  stores: Stores,
  image: ImageView,
  { prefer = [], signal }: OpenOptions,
): Promise<OpenImage> {
  const { locations } = await database.query((db) => findImage(db, image.id));
  const isPreferred = ({ store }: LocationRow): boolean => prefer.includes(store);
  const preferred = locations
    .filter(isPreferred)
    .sort((one, other) => prefer.indexOf(one.store) - prefer.indexOf(other.store));
  const others = locations.filter((location) => !isPreferred(location));
  const copies = new Copies(database, stores, image, locations, {
    ...(signal === undefined ? {} : { signal }),
    order: [...preferred, ...inReadingOrder(others, stores.defaultName)],
  });
  try {
    await copies.openWhole();
  } catch (error) {
    await copies[Symbol.asyncDispose]();
    throw error;
  }
  return {
    sizeBytes: image.size ?? 0,
    read: (buffer, position) => copies.readWhole(buffer, position),
    [Symbol.asyncDispose]: () => copies[Symbol.asyncDispose](),
  };
}

/** Options of reading copies. */
type CopiesOptions = Omit<ReadOptions, "to"> & {
  /** Default: the copy of the default store first, and copies known to be damaged last. */
  readonly order?: readonly LocationRow[];
};

/**
 * The copies of one image, one of them open. They are read in the order of the options.
 */
class Copies implements AsyncDisposable {
  readonly #database: Database;
  readonly #stores: Stores;
  readonly #image: ImageView;
  readonly #options: CopiesOptions;
  readonly #left: LocationRow[];
  readonly #failures: Error[] = [];
  #open: { readonly location: LocationRow; readonly copy: OpenCopy } | undefined;

  constructor(
    database: Database,
    stores: Stores,
    image: ImageView,
    locations: readonly LocationRow[],
    options: CopiesOptions,
  ) {
    this.#database = database;
    this.#stores = stores;
    this.#image = image;
    this.#options = options;
    this.#left = [...(options.order ?? inReadingOrder(locations, stores.defaultName))];
  }

  /**
   * Writes copy after copy to a target that may be written again from its beginning, until the
   * bytes are those of the image.
   *
   * @param restart - empties the target
   */
  async writeUntilComplete(sink: Sink, restart: () => Promise<void>): Promise<void> {
    for (;;) {
      await restart();
      await this.#openNext();
      if (await this.#isImage(sink)) return;
    }
  }

  /** Writes the image once. */
  async writeOnce(sink: Sink): Promise<void> {
    await this.openWhole();
    if (await this.#isImage(sink)) return;
    throw this.#spoilt();
  }

  /**
   * Opens the next copy whose bytes are those of the image. A copy that may have changed is read to
   * its end first.
   */
  async openWhole(): Promise<void> {
    const nowhere: Sink = async () => undefined;
    do {
      await this.#openNext();
    } while (this.#isSuspect() && !(await this.#isImage(nowhere)));
  }

  /** Reads bytes of the open copy; where it fails, of the next one that is the image. */
  async readWhole(buffer: Buffer, position: number): Promise<number> {
    return this.#read(buffer, position, () => this.openWhole());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#open?.copy.close();
    this.#open = undefined;
  }

  /** @throws the worst failure of the copies, when none is left */
  async #openNext(): Promise<void> {
    await this[Symbol.asyncDispose]();
    for (let location = this.#left.shift(); location !== undefined; location = this.#left.shift()) {
      try {
        const { copy, damage } = await lookAtCopy(this.#stores, location, this.#options.signal);
        if (copy !== undefined) {
          this.#open = { location, copy };
          return;
        }
        await this.#damaged(location, damage);
      } catch (error) {
        this.#options.signal?.throwIfAborted();
        this.#failures.push(error instanceof Error ? error : new Error(String(error)));
      }
    }
    // First report a damaged copy, which needs a person; else an unreachable one, which may come
    // back; else a missing one.
    const isOf = (code: ImportFailureCode) => (error: Error) =>
      error instanceof ImportError && error.code === code;
    const isMissing = isOf("CopyNotFound");
    const failure =
      this.#failures.find(isOf("DigestMismatch")) ??
      this.#failures.find((error) => !isMissing(error)) ??
      this.#failures[0];
    if (failure !== undefined) throw failure;
    throw new ImportError("StoreUnavailable", `Image "${this.#image.id}" is in no store`);
  }

  /**
   * True if the open copy may not be the image: it is known to be damaged, or it may have changed
   * since its last check.
   */
  #isSuspect(): boolean {
    if (this.#open === undefined) return false;
    const { location, copy } = this.#open;
    // Without a recorded version there is no sign of a change.
    const { damage, version } = location;
    return damage !== null || (version !== null && mayHaveChanged(version, copy.version, true));
  }

  /**
   * Writes the open copy, and continues with another one where it breaks off. @returns true if the
   * bytes were those of the image
   */
  async #isImage(sink: Sink): Promise<boolean> {
    const { signal, report } = this.#options;
    const algo = this.#image.os_hash_algo ?? "sha512";
    const first = this.#open;
    using ring = DigestRing.open({ hashAlgo: algo });
    for (let doneBytes = 0; ;) {
      signal?.throwIfAborted();
      using block = await ring.acquire();
      const lengthBytes = await this.#read(block.bytes, doneBytes);
      if (lengthBytes === 0) break;
      ring.submit(block, lengthBytes);
      await sink(block.bytes.subarray(0, lengthBytes), doneBytes);
      doneBytes += lengthBytes;
      report?.(doneBytes);
    }
    const digests = await ring.finish();
    if (digests.osHashValue === this.#image.os_hash_value) return true;
    const last = this.#open;
    if (last === undefined) return false;
    // If the bytes came from two copies, the digest does not show which is damaged: read the second
    // one alone.
    if (last === first) await this.#damaged(last.location, `its ${algo} differs`);
    else this.#left.unshift(last.location);
    return false;
  }

  /** Reads from the open copy, or from the next one that can be read there. */
  async #read(block: Buffer, position: number, openNext = () => this.#openNext()): Promise<number> {
    for (;;) {
      try {
        const copy = this.#open?.copy;
        return copy === undefined ? 0 : await readFully(copy, block, position);
      } catch (error) {
        this.#options.signal?.throwIfAborted();
        this.#failures.push(error instanceof Error ? error : new Error(String(error)));
        await openNext();
      }
    }
  }

  async #damaged(location: LocationRow, reason: string): Promise<void> {
    const { store, url } = location;
    this.#failures.push(this.#failureOf(store, reason));
    this.#options.onDamage?.({ store, url, damage: reason });
    await rememberDamage(this.#database, location, reason);
  }

  #failureOf(store: string, damage: string): ImportError {
    const { id, os_hash_algo } = this.#image;
    if (damage === MISSING) {
      return new ImportError(
        "CopyNotFound",
        `Cannot read the copy of image "${id}" in store "${store}": ${damage}`,
        { hint: `Run \`image-import image verify ${id}\`: it reports every copy.` },
      );
    }
    return new ImportError(
      "DigestMismatch",
      `The stored bytes of image "${id}" in store "${store}" differ from its ${os_hash_algo ?? "digest"} (${damage})`,
    );
  }

  #spoilt(): ImportError {
    const advice =
      this.#left.length === 0 ? "" : "; run the command again: it then reads another copy";
    return new ImportError(
      "DigestMismatch",
      `The bytes that were written are not those of image "${this.#image.id}": its stored bytes differ from its ${this.#image.os_hash_algo ?? "digest"}`,
      { hint: `Discard the output${advice}.` },
    );
  }
}

/**
 * Records the damage of a copy, null for none, so that readers take other copies first. If the
 * catalogue cannot record it, reading continues.
 */
async function rememberDamage(
  database: Database,
  location: LocationRow,
  damage: string | null,
): Promise<void> {
  try {
    await database.query((db) => recordDamage(db, location, damage));
  } catch (error) {
    if (!(error instanceof ImportError)) throw error;
  }
}

async function readToFile(copies: Copies, path: string): Promise<void> {
  await writeNewFile(path, async (target) => {
    const sink: Sink = (bytes, position) => writeFully(target, bytes, position);
    await copies.writeUntilComplete(sink, () => target.truncate(0));
  });
}

async function readToStream(copies: Copies, stream: Writable, options: ReadOptions): Promise<void> {
  // `writeTo` rejects if a write fails. Without a listener the event would end this process, too.
  const ignore = (): void => undefined;
  stream.on("error", ignore);
  await copies.writeOnce((bytes) => writeTo(stream, bytes, options.signal));
  stream.off("error", ignore);
}

/** Reads every live location of a published image, and records which are damaged. @internal */
export async function verifyImage(
  database: Database,
  stores: Stores,
  imageId: string,
  report?: Report,
): Promise<VerifiedLocation[]> {
  const { image, locations } = await database.query((db) => findImage(db, imageId));
  const isPublished = image.status === "active" || image.status === "deactivated";
  const { osHashAlgo, osHashValue, sizeBytes } = image;
  if (!isPublished || osHashAlgo === null || osHashValue === null || sizeBytes === null) {
    throw new ImportError(
      "ImageConflict",
      `Cannot verify image "${imageId}": it is ${image.status}, and only a published image is verified`,
    );
  }
  const expected = { osHashAlgo, osHashValue, sizeBytes };
  const verified: VerifiedLocation[] = [];
  for (const location of locations) {
    const { reason, isDamage } = await differenceAt(stores, location, expected, report);
    const { store, url } = location;
    if (isDamage || reason === null) await rememberDamage(database, location, reason);
    verified.push({ image_id: imageId, store, url, ok: reason === null, reason });
  }
  return verified;
}

/** The difference between a copy and the image. */
interface Difference {
  /** Null if there is none. */
  readonly reason: string | null;
  /** True if the copy was read and is not the image; false if it could not be read. */
  readonly isDamage: boolean;
}

async function differenceAt(
  stores: Stores,
  location: LocationRow,
  expected: {
    readonly osHashAlgo: string;
    readonly osHashValue: string;
    readonly sizeBytes: number;
  },
  report: Report | undefined,
): Promise<Difference> {
  const damaged = (reason: string): Difference => ({ reason, isDamage: true });
  try {
    const look = await lookAtCopy(stores, location);
    if (look.copy === undefined) return damaged(look.damage);
    await using copy = look.copy;
    const { sizeBytes } = copy;
    const digests = await hashFile(copy, {
      sizeBytes,
      hashAlgo: expected.osHashAlgo,
      ...(report === undefined ? {} : { report }),
    });
    if (digests.osHashValue === expected.osHashValue) return { reason: null, isDamage: false };
    return damaged(`its ${expected.osHashAlgo} differs from the recorded one`);
  } catch (error) {
    return { reason: error instanceof Error ? error.message : String(error), isDamage: false };
  }
}
