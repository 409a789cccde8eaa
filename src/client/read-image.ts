import { randomBytes } from "node:crypto";
import { link, open, unlink } from "node:fs/promises";
import type { Writable } from "node:stream";
import { DigestRing } from "../bytes/digest-ring.ts";
import { hashFile } from "../bytes/hash-file.ts";
import { readFully, writeFully } from "../bytes/positional-io.ts";
import { hasErrorCode } from "../bytes/system-error.ts";
import { systemFailure } from "../bytes/system-failure.ts";
import type { Database } from "../db/connect.ts";
import { findImage, type LocationRow } from "../db/image-records.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { Stores } from "../stores/open-stores.ts";
import type { OpenCopy } from "../stores/store.ts";
import type { ImageView } from "./image-view.ts";

/** Where to write an image. */
export interface ReadOptions {
  /** A path, which must not exist, or a stream, which is not ended. */
  readonly to: string | Writable;
  readonly signal?: AbortSignal;
  /** Called after every block. */
  readonly onProgress?: (doneBytes: number) => void;
}

/** What reading a location found. */
export interface VerifiedLocation {
  readonly image_id: string;
  readonly store: string;
  readonly url: string;
  readonly ok: boolean;
  /** What is wrong. */
  readonly reason: string | null;
}

/** Takes blocks in order. */
type Sink = (bytes: Buffer, position: number) => Promise<void>;

/**
 * Reads an active image from the first store that can be read, and compares its digest on the way. A file appears
 * only whole and verified.
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
  const source = await openFirst(stores, image.id, locations, options.signal);
  try {
    if (typeof options.to === "string") await readToFile(source, image, options.to, options);
    else await readToStream(source, image, options.to, options);
  } finally {
    await source.close();
  }
}

async function openFirst(
  stores: Stores,
  imageId: string,
  locations: readonly LocationRow[],
  signal: AbortSignal | undefined,
): Promise<OpenCopy> {
  let last: unknown = new ImportError("StoreUnavailable", `Image "${imageId}" lies in no store`);
  for (const location of locations) {
    try {
      return await stores.get(location.store).open(location.key, signal);
    } catch (error) {
      signal?.throwIfAborted();
      last = error;
    }
  }
  throw last;
}

async function readToFile(
  source: OpenCopy,
  image: ImageView,
  path: string,
  options: ReadOptions,
): Promise<void> {
  const partial = `${path}.${randomBytes(4).toString("hex")}.part`;
  try {
    const target = await open(partial, "wx", 0o640);
    try {
      const sink: Sink = (bytes, position) => writeFully(target, bytes, position);
      await readVerified(source, image, sink, options);
      await target.sync();
    } finally {
      await target.close();
    }
    await link(partial, path);
  } catch (error) {
    if (hasErrorCode(error, "EEXIST")) {
      throw new ImportError("UnusableFile", `Cannot write "${path}": it exists already`, {
        hint: "Name another file, or remove this one.",
      });
    }
    if (hasErrorCode(error, "ENOENT", "ENOTDIR")) {
      throw new ImportError("FileNotFound", `There is no directory for "${path}"`);
    }
    throw systemFailure(error, `"${path}"`, "UnusableFile");
  } finally {
    await unlink(partial).catch(() => undefined);
  }
}

async function readToStream(
  source: OpenCopy,
  image: ImageView,
  stream: Writable,
  options: ReadOptions,
): Promise<void> {
  // Every failure is told by the write that meets it, which is waited for; the event must not end the process.
  const heedNot = (): void => undefined;
  stream.on("error", heedNot);
  await readVerified(source, image, (bytes) => writeTo(stream, bytes, options.signal), options);
  stream.off("error", heedNot);
}

/** Waits until the stream has taken the bytes: a reader that is slow is waited for, one that is gone is noticed. */
async function writeTo(
  stream: Writable,
  bytes: Buffer,
  signal: AbortSignal | undefined,
): Promise<void> {
  signal?.throwIfAborted();
  await new Promise<void>((resolve, reject) => {
    const leave = (): void => {
      reject(signal?.reason as Error);
    };
    signal?.addEventListener("abort", leave, { once: true });
    // A copy: after an abort the block is used again while the stream still has it.
    stream.write(Buffer.from(bytes), (error) => {
      signal?.removeEventListener("abort", leave);
      if (error == null) resolve();
      else reject(unwritable(error));
    });
  });
}

function unwritable(cause: Error): ImportError {
  return new ImportError("UnusableFile", `Cannot write the image: ${cause.message}`, {
    cause,
    hint: "Read the output to its end, or write to a file.",
  });
}

async function readVerified(
  source: OpenCopy,
  image: ImageView,
  sink: Sink,
  { signal, onProgress }: ReadOptions,
): Promise<void> {
  await using ring = DigestRing.open({ hashAlgo: image.os_hash_algo ?? "sha512" });
  for (let doneBytes = 0; ;) {
    signal?.throwIfAborted();
    const block = await ring.acquire();
    const lengthBytes = await readFully(source, block.bytes, doneBytes);
    if (lengthBytes === 0) {
      block.release();
      break;
    }
    ring.submit(block, lengthBytes);
    await sink(block.bytes.subarray(0, lengthBytes), doneBytes);
    block.release();
    doneBytes += lengthBytes;
    onProgress?.(doneBytes);
  }
  const digests = await ring.finish();
  if (digests.osHashValue === image.os_hash_value) return;
  throw new ImportError(
    "DigestMismatch",
    `The stored bytes of image "${image.id}" differ from its ${image.os_hash_algo ?? ""}`,
  );
}

/** Reads every live location of a published image. */
export async function verifyImage(
  database: Database,
  stores: Stores,
  imageId: string,
  onProgress?: (doneBytes: number) => void,
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
    const reason = await differenceAt(stores, location, expected, onProgress);
    const { store, url } = location;
    verified.push({ image_id: imageId, store, url, ok: reason === null, reason });
  }
  return verified;
}

async function differenceAt(
  stores: Stores,
  location: LocationRow,
  expected: {
    readonly osHashAlgo: string;
    readonly osHashValue: string;
    readonly sizeBytes: number;
  },
  onProgress: ((doneBytes: number) => void) | undefined,
): Promise<string | null> {
  try {
    await using copy = await stores.get(location.store).open(location.key);
    const { sizeBytes } = copy;
    if (sizeBytes !== expected.sizeBytes) {
      return `it has ${String(sizeBytes)} bytes, not ${String(expected.sizeBytes)}`;
    }
    const digests = await hashFile(copy, {
      sizeBytes,
      hashAlgo: expected.osHashAlgo,
      ...(onProgress === undefined ? {} : { onProgress }),
    });
    const isSame = digests.osHashValue === expected.osHashValue;
    return isSame ? null : `its ${expected.osHashAlgo} differs from the recorded one`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
