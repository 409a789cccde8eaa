import type { FileHandle } from "node:fs/promises";
import type { PositionalReader } from "../bytes/positional-io.ts";
import type { ZeroBlocks } from "../bytes/zero-blocks.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { Adopted } from "./store-mark.ts";

/** Bytes to copy, open for reading: staged ones, or a published copy. */
export interface CopySource extends PositionalReader {
  /** Where they lie, for stores that can link, clone or copy them without reading them. */
  readonly place: CopyPlace;
}

/** Where bytes lie: in a file, or in an object of an S3 server. */
export type CopyPlace =
  | { readonly kind: "file"; readonly path: string; readonly handle: FileHandle }
  | {
      readonly kind: "s3";
      /** Address of the server; "AWS" where none is configured. */
      readonly server: string;
      readonly bucket: string;
      /** Whole name of the object. */
      readonly object: string;
      readonly etag: string;
    };

/** One copy to make: from its source to a private name in the store. */
export interface CopyOrder {
  readonly source: CopySource;
  readonly sizeBytes: number;
  /** crc32 of the source where it is known: with it a copy without bytes needs no reading. */
  readonly crc32: number | undefined;
  /**
   * Blocks that are known to be zero: a store that can keep holes need not read them. Default:
   * nobody has looked.
   */
  readonly zeroBlocks?: ZeroBlocks | undefined;
  /** Attempt-private name to write under: `<key>.<eight hex digits>.part`. */
  readonly part: string;
  /** Final key that the copy is to get. */
  readonly key: string;
  /**
   * Whether what lies under that name was written by an attempt that is surely over, and may be
   * continued.
   */
  readonly mayResume: boolean;
  readonly signal: AbortSignal;
  /** How many bytes of the source are in the copy so far. */
  readonly onProgress: (doneBytes: number) => void;
}

/** What came of a copy. */
export interface Copied {
  readonly crc32: number;
  /** The copy is another name of the source's inode. */
  readonly shared: boolean;
  /** How it was made, for people. */
  readonly method: "link" | "reflink" | "server copy" | "copy";
  /** Bytes that were really written by this attempt. */
  readonly writtenBytes: number;
}

/** A copy of durable bytes that nobody sees yet. */
export interface PrivateCopy extends Copied {
  /**
   * Gives the copy its final key, atomically and durably, never replacing a key that exists.
   *
   * @returns "exists" when the key was there; the private copy is gone then too
   */
  publish(): Promise<"published" | "exists">;
}

/** A published copy, as it lies in its store now. */
export interface FoundCopy {
  readonly sizeBytes: number;
  /** Differs from the version of every other state of the copy; see {@link mayHaveChanged}. */
  readonly version: string;
}

/** A published copy, open for reading. The caller that opened it closes it. */
export interface OpenCopy extends CopySource, FoundCopy, AsyncDisposable {
  /** Whether the copy is another name of this file's inode. */
  isNameOf(file: FileHandle): Promise<boolean>;
  close(): Promise<void>;
}

/**
 * How closely to look at a store: whether what is in it can be read, whether it looks as if it
 * could be written, too, or whether something small that is written can be read back and removed.
 */
export type StoreLook = "readable" | "writable" | "trial";

/** Whether a store works, for `stores` and `doctor`. */
export interface StoreHealth {
  readonly works: boolean;
  /** What is wrong, when it doesn't. */
  readonly reason?: string;
  readonly freeBytes?: number;
  /**
   * Whether its place has a mark; `none yet` before its first use. Undefined where no catalogue
   * says which.
   */
  readonly mark?: "present" | "none yet";
}

/**
 * Where images are kept. Keys are `<image id>.<epoch>`: no two imports ever write the same key.
 *
 * Failures are `ImportError`s: `NoSpace` and `PermissionDenied` are permanent, `StoreUnavailable`
 * is not.
 */
export interface Store {
  readonly name: string;
  readonly kind: "file" | "s3";
  /** URL of a key, as the catalogue records it. */
  urlOf(key: string): string;
  /**
   * Makes the copy a clone of the source's file, which shares its blocks. Stores without files have
   * no such method.
   *
   * @returns undefined where that is not possible, and the copy must be made in another way
   */
  clone?(order: CopyOrder): Promise<PrivateCopy | undefined>;
  /**
   * Makes the copy another name of the source's file, which becomes read-only. The caller has the
   * right to that (one store at most has), and records the new fingerprint of the file also when
   * the result is undefined or a failure: its mode and ctime have changed.
   *
   * It is called after {@link clone}, in a transaction of the catalogue, and so takes a moment and
   * does not ask the catalogue.
   *
   * @returns as {@link clone}
   */
  link?(order: CopyOrder): Promise<PrivateCopy | undefined>;
  /**
   * Brings the bytes of the source to the private name, durably; a server that has them already
   * copies them itself. Cancelled, it keeps the bytes it has, to be resumed.
   */
  copy(order: CopyOrder): Promise<PrivateCopy>;
  /**
   * Opens a published copy for reading.
   *
   * @param signal - ends this and every read of the copy, with its reason, where they wait for a
   *   server
   */
  open(key: string, signal?: AbortSignal): Promise<OpenCopy>;
  /**
   * A published copy; undefined when there is none.
   *
   * @param signal - ends the look, with its reason, where it waits for a server
   */
  find(key: string, signal?: AbortSignal): Promise<FoundCopy | undefined>;
  /**
   * Removes private names and keys durably; a late writer of a private name can publish nothing
   * after that. "Nothing there" is success. With one private name may go all others of the same
   * key: one attempt at most is alive.
   */
  remove(names: readonly string[]): Promise<void>;
  /** Private names that nobody has written for a while. */
  listParts(olderThanMs: number): Promise<string[]>;
  /**
   * Looks whether the store works. A trial leaves nothing behind; the other looks write nothing.
   *
   * @param look - default: "writable"
   */
  check(look?: StoreLook): Promise<StoreHealth>;
  /**
   * Makes a store ready that was never used: creates its directory, and marks its place.
   *
   * @throws ImportError `BadConfiguration` when its place does not exist and cannot be made;
   *   `StoreUnavailable` when its place exists no more, or is another one
   */
  prepare(): Promise<void>;
  /**
   * Makes the place, as it is now, that of the store: a moved, replaced, emptied or restored one.
   *
   * @throws ImportError `ImageConflict` when it is another store's place; `NotConfigured` without a
   *   catalogue
   */
  adopt(): Promise<Adopted>;
}

/**
 * Whether a copy may have other bytes than in an earlier version.
 *
 * @param isShared - the copy was another name of a staged file, whose removal changed its ctime.
 *   Default: false
 */
export function mayHaveChanged(then: string | null, now: string, isShared = false): boolean {
  if (then === null) return true;
  return isShared && then.startsWith(FILE_VERSION)
    ? withoutCtime(then) !== withoutCtime(now)
    : then !== now;
}

const FILE_VERSION = "file ";

/**
 * The version of a file: inode, size, and the times of its last changes in ns. A mount may change
 * `dev` alone.
 */
export function fileVersion(file: {
  readonly ino: bigint;
  readonly size: bigint;
  readonly mtimeNs: bigint;
  readonly ctimeNs: bigint;
}): string {
  return `${FILE_VERSION}${[file.ino, file.size, file.mtimeNs, file.ctimeNs].join(" ")}`;
}

function withoutCtime(version: string): string {
  return version.slice(0, version.lastIndexOf(" "));
}

/** The failure of an adoption where no catalogue records it. */
export function noCatalogue(store: string): ImportError {
  return new ImportError(
    "NotConfigured",
    `Cannot adopt a place as store "${store}": no catalogue is configured`,
    { hint: "Set DATABASE_URL." },
  );
}

/** A file that is open for reading, as the source of copies. */
export function copySourceOf(handle: FileHandle, path: string): CopySource {
  return { read: (...range) => handle.read(...range), place: { kind: "file", path, handle } };
}

/** The final key of a copy. */
export function storeKey(imageId: string, epoch: number): string {
  return `${imageId}.${String(epoch)}`;
}
