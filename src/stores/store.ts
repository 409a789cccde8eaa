import type { FileHandle } from "node:fs/promises";
import type { PositionalReader } from "../bytes/positional-io.ts";
import type { ZeroBlocks } from "../bytes/zero-blocks.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { Report } from "../domain/report.ts";
import type { Adopted } from "./store-mark.ts";

/** Bytes to copy, open for reading: a staged file, or a published copy. */
export interface CopySource extends PositionalReader {
  /** Place of the bytes, for stores that can link, clone or copy them without reading them. */
  readonly place: CopyPlace;
}

/** The place of bytes: a file, or an object of an S3 server. */
export type CopyPlace =
  | { readonly kind: "file"; readonly path: string; readonly handle: FileHandle }
  | {
      readonly kind: "s3";
      /** Address of the server; "AWS" where none is configured. */
      readonly server: string;
      readonly bucket: string;
      /** Name of the object, prefix included. */
      readonly object: string;
      readonly etag: string;
    };

/** One copy to make: from its source to a private name in the store. */
export interface CopyOrder {
  readonly source: CopySource;
  readonly sizeBytes: number;
  /** crc32 of the source, if known: a copy that moves no bytes needs it. */
  readonly crc32: number | undefined;
  /** Blocks that are known to be zero: a store that can keep holes need not read them. */
  readonly zeroBlocks?: ZeroBlocks | undefined;
  /** Attempt-private name to write under: `<key>.<eight hex digits>.part`. */
  readonly part: string;
  /** Final key that the copy is to get. */
  readonly key: string;
  /** True if the attempt that wrote that part is over, so that the part may be continued. */
  readonly mayResume: boolean;
  readonly signal: AbortSignal;
  /** Called with the number of bytes of the source that are in the copy so far. */
  readonly report: Report;
}

/** The result of a copy. */
export interface Copied {
  readonly crc32: number;
  /** True if the copy is another name of the source's inode. */
  readonly shared: boolean;
  /** The way in which it was made, for users. */
  readonly method: "link" | "reflink" | "server copy" | "copy";
  /** Bytes that this attempt really wrote. */
  readonly writtenBytes: number;
}

/** A copy of durable bytes that readers do not see yet. */
export interface PrivateCopy extends Copied {
  /**
   * Gives the copy its final key, atomically and durably, never replacing a key that exists.
   *
   * @returns "exists" when the store had the key already; the private copy is removed then, too
   */
  publish(): Promise<"published" | "exists">;
}

/** A published copy, as it is in its store now. */
export interface FoundCopy {
  readonly sizeBytes: number;
  /** Differs from the version of every other state of the copy; see {@link mayHaveChanged}. */
  readonly version: string;
}

/** A published copy, open for reading. The caller closes it. */
export interface OpenCopy extends CopySource, FoundCopy, AsyncDisposable {
  /** True if the copy is another name of this file's inode. */
  isNameOf(file: FileHandle): Promise<boolean>;
  close(): Promise<void>;
}

/**
 * The depth of a look at a store: `readable` looks for permission to read, `writable` also for
 * permission to write, in a bucket only for permission to list uploads. `trial` writes a little,
 * reads it back and removes it.
 */
export type StoreLook = "readable" | "writable" | "trial";

/** The health of a store, for `stores` and `doctor`. */
export interface StoreHealth {
  readonly works: boolean;
  /** Reason why it does not work. */
  readonly reason?: string;
  readonly freeBytes?: number;
  /**
   * `none yet` before the first use of the store. Undefined if the catalogue, which knows the mark,
   * is unreachable or not configured.
   */
  readonly mark?: "present" | "none yet";
}

/**
 * A place that keeps images. Keys are `<image id>.<epoch>`: no two imports ever write the same key.
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
   * True if {@link link} may make a copy. If it is false, the caller need not lock the source's
   * row, as it does for a link. Default: false
   */
  readonly canLink?: boolean;
  /**
   * Makes the copy another name of the source's file, which becomes read-only. The caller has the
   * right to that (one store at most has), and records the new fingerprint of the file also when
   * the result is undefined or a failure: its mode and ctime have changed.
   *
   * It is called after {@link clone}, in a transaction of the catalogue. So it must be short, and
   * must not ask the catalogue.
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
   * Looks for a published copy; undefined when there is none.
   *
   * @param signal - ends the look, with its reason, where it waits for a server
   */
  find(key: string, signal?: AbortSignal): Promise<FoundCopy | undefined>;
  /**
   * Removes private names and keys durably. A missing name is a success. After that, a late writer
   * of a private name can publish nothing. All private names of the same key may go together: at
   * most one attempt is alive.
   */
  remove(names: readonly string[]): Promise<void>;
  /** Private names that were last written, or uploads that were begun, over `olderThanMs` ago. */
  listParts(olderThanMs: number): Promise<string[]>;
  /**
   * Checks that the store works. A trial leaves nothing behind; the other looks write nothing.
   *
   * @param look - default: "writable"
   */
  check(look?: StoreLook): Promise<StoreHealth>;
  /**
   * Creates the directory of a store that was never used, and marks its place. Checks the place of
   * a store that was used before, and of a read-only one.
   *
   * @throws ImportError `BadConfiguration` when its place does not exist and cannot be created;
   *   `StoreUnavailable` when its place no longer exists, or is another one
   */
  prepare(): Promise<void>;
  /**
   * Makes the configured place that of the store, after the place was moved, replaced, emptied or
   * restored.
   *
   * @throws ImportError `ImageConflict` when the place belongs to another store; `PermissionDenied`
   *   when it has no mark and the store is read-only; `NotConfigured` without a catalogue
   */
  adopt(): Promise<Adopted>;
}

/**
 * True if a copy may have other bytes than in an earlier version.
 *
 * @param isShared - true if the copy was another name of a staged file, whose removal has changed
 *   its ctime. Default: false
 */
export function mayHaveChanged(then: string | null, now: string, isShared = false): boolean {
  if (then === null) return true;
  return isShared && then.startsWith(FILE_VERSION)
    ? withoutCtime(then) !== withoutCtime(now)
    : then !== now;
}

const FILE_VERSION = "file ";

/** The version of a file: inode, size, mtime and ctime. Not `dev`, which a remount may change. */
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
