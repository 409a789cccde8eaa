import { randomUUID } from "node:crypto";
import type { Readable } from "node:stream";
import { BandwidthLimit } from "../bytes/bandwidth-limit.ts";
import { newPartName } from "../bytes/part-name.ts";
import { thisProcess } from "../processes/process-identity.ts";
import { RoomAhead } from "../staging/room-ahead.ts";
import { systemFailure } from "../bytes/system-failure.ts";
import type { Database } from "../db/connect.ts";
import { adoptFile } from "../db/adoption-records.ts";
import { findImage, lockImage } from "../db/image-records.ts";
import type { LeaseRow } from "../db/lease-records.ts";
import { requireQuotas } from "../db/quota-records.ts";
import { findUpload, knownDigests, moveToUploading } from "../db/staged-facts.ts";
import {
  beginStaging,
  dropStaging,
  finishStaging,
  renewStaging,
  takeStagedAway,
} from "../db/upload-records.ts";
import { ZeroBlocks } from "../bytes/zero-blocks.ts";
import type { Digests } from "../domain/digests.ts";
import type { DirectUpload } from "../domain/direct-upload.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { Report } from "../domain/report.ts";
import type { Limits } from "../domain/quota.ts";
import { fileSource, streamSource, type ByteSource } from "../staging/byte-source.ts";
import type { StagingArea } from "../staging/staging-area.ts";
import { writeStaged, type StagingWrite } from "../staging/write-staged.ts";
import { openUpload } from "./open-upload.ts";
import { StagingLease } from "./staging-lease.ts";
import { askGuard, type WriteGuard } from "./write-guard.ts";

/** The tools and settings of this host's staging. @internal */
export interface StagingTools {
  readonly database: Database;
  readonly staging: StagingArea;
  /** The multihash, as node:crypto names it. */
  readonly hashAlgo: string;
  readonly timeToLiveMs: number;
  /** Bytes per second. Default: no limit. */
  readonly bandwidthLimit: number | undefined;
  readonly limits: Limits;
}

/** Settings of staging. */
export interface StageOptions {
  /** Replace data that is already staged. Default: false, staged data is a conflict. */
  readonly replace?: boolean;
  readonly signal?: AbortSignal;
  /** The number of bytes of a stream. A stream with another number fails. Default: any. */
  readonly size?: number;
  /**
   * The import that begins when the upload is complete: `finishUpload` starts it, or a worker if
   * this process dies. Default: none.
   */
  readonly importAfter?: DirectUpload;
  /** Asked when the upload begins. Default: none. */
  readonly guard?: WriteGuard;
  /** The total is undefined for a stream of unknown size. */
  readonly report?: Report;
}

/** An upload. Digests are null for an adopted file. */
export interface StagedImage {
  readonly image_id: string;
  readonly status: "uploading";
  readonly path: string;
  readonly size: number;
  readonly checksum: string | null;
  readonly os_hash_algo: string | null;
  readonly os_hash_value: string | null;
}

/**
 * Stages a file, or a stream to its end. After a failure or an abort no bytes are left, and the
 * image is `queued`.
 *
 * @internal
 */
export async function stageData(
  tools: StagingTools,
  imageId: string,
  source: string | Readable,
  options: StageOptions,
): Promise<StagedImage> {
  if (typeof source !== "string") {
    const { size } = options;
    if (size !== undefined) await tools.staging.requireRoom(size);
    const bytes = streamSource(source);
    return stageSource(
      tools,
      imageId,
      size === undefined ? bytes : exactly(size, bytes),
      size,
      options,
    );
  }
  const handle = await openUpload(source);
  try {
    const { size, blocks } = await handle.stat();
    // Holes need no room.
    await tools.staging.requireRoom(Math.min(size, blocks * 512));
    return await stageSource(tools, imageId, fileSource(handle), size, options);
  } finally {
    await handle.close();
  }
}

async function stageSource(
  tools: StagingTools,
  imageId: string,
  source: ByteSource,
  totalBytes: number | undefined,
  options: StageOptions,
): Promise<StagedImage> {
  const { database, staging } = tools;
  const token = randomUUID();
  const part = newPartName(imageId, 0);
  const path = staging.pathOf(imageId);
  const writer = await thisProcess();
  const attempt = { imageId, node: staging.node, token, writer, part, path };
  const sizeBytes = totalBytes ?? 0;
  const before = await database.transaction(async (db) => {
    await askGuard(db, imageId, options.guard);
    const replaced = await beginStaging(db, tools.limits, {
      ...attempt,
      sizeBytes,
      replace: options.replace ?? false,
      directUpload: options.importAfter,
    });
    if (replaced !== undefined) requireHere(staging, replaced);
    return replaced;
  });
  const lease = new StagingLease(tools, imageId, token, { signal: options.signal });
  const room = new RoomAhead((growth) => lease.grow(growth), sizeBytes);
  try {
    if (before !== undefined) await discardUpload(staging, before);
    const zeroBlocks = new ZeroBlocks();
    const digests = await lease.during((signal) =>
      writePart(tools, part, source, {
        signal,
        zeroBlocks,
        reserve: (reachedBytes) => room.reach(reachedBytes),
        report: (doneBytes) => options.report?.(doneBytes, totalBytes),
      }),
    );
    const staged = await publishUpload(tools, lease, { ...attempt, digests, zeroBlocks });
    return stagedImage(imageId, staged, digests.sizeBytes, digests);
  } catch (error) {
    // If the undo fails, another process takes over the lease later. Report the first failure.
    await undoStaging(tools, imageId, { token, part, path }).catch(() => undefined);
    throw interrupted(error, imageId, options.signal);
  }
}

/**
 * Shows the upload of an image.
 *
 * @throws ImportError `ImageNotFound`; `StagedDataMissing` if there is none that is complete
 * @internal
 */
export async function showUpload(database: Database, imageId: string): Promise<StagedImage> {
  const staged = await database.query(async (db) => {
    await findImage(db, imageId);
    return findUpload(db, imageId);
  });
  if (staged?.path == null || staged.sizeBytes === null) {
    throw new ImportError("StagedDataMissing", `Image "${imageId}" has no staged data`);
  }
  return stagedImage(imageId, staged.path, staged.sizeBytes, knownDigests(staged));
}

/** A source that fails if its bytes are not as many as were announced. */
function exactly(sizeBytes: number, source: ByteSource): ByteSource {
  let doneBytes = 0;
  const wrong = (found: string): ImportError =>
    new ImportError(
      "ChecksumMismatch",
      `Size mismatch: expected ${String(sizeBytes)} bytes, got ${found}`,
      { hint: "Send it again, or correct the size that is sent with it." },
    );
  return {
    ...source,
    read: async (buffer) => {
      const readBytes = await source.read(buffer);
      doneBytes += readBytes;
      if (doneBytes > sizeBytes) throw wrong("more");
      if (readBytes === 0 && doneBytes < sizeBytes) throw wrong(String(doneBytes));
      return readBytes;
    },
  };
}

/**
 * Removes all files of an upload.
 *
 * @internal
 */
export async function discardUpload(
  staging: StagingArea,
  { earlierParts, part, path }: LeaseRow,
): Promise<void> {
  for (const each of [...earlierParts, part]) await staging.discard({ part: each });
  await staging.discard({ path });
}

async function writePart(
  { staging, hashAlgo, bandwidthLimit }: StagingTools,
  part: string,
  source: ByteSource,
  options: Pick<StagingWrite, "signal" | "zeroBlocks" | "reserve" | "report">,
): Promise<Digests> {
  const target = await staging.createPart(part);
  try {
    const digests = await writeStaged(source, target, {
      hashAlgo,
      limiter: bandwidthLimit === undefined ? undefined : new BandwidthLimit(bandwidthLimit),
      sync: () => staging.syncPart(target, part),
      ...options,
    });
    await staging.syncPart(target, part);
    return digests;
  } catch (error) {
    throw systemFailure(error, `the staging area "${staging.root}"`, "StagingUnavailable");
  } finally {
    await target.close();
  }
}

/** A complete upload, and the attempt that holds its lease. */
interface CompleteUpload {
  readonly imageId: string;
  readonly token: string;
  readonly part: string;
  readonly path: string;
  readonly digests: Digests;
  readonly zeroBlocks: ZeroBlocks;
}

/**
 * Gives a complete upload its final name, and records it.
 *
 * @returns the real path of the upload, by which the import will look for it
 * @internal
 */
export async function publishUpload(
  { database, staging, timeToLiveMs }: StagingTools,
  lease: StagingLease,
  { imageId, token, part, path, digests, zeroBlocks }: CompleteUpload,
): Promise<string> {
  await staging.publish(part, path, () => lease.renewPatiently());
  const { handle, ...staged } = await staging.openStaged(imageId);
  await handle.close();
  const { sizeBytes } = digests;
  await lease.patiently(() =>
    database.transaction((db) =>
      finishStaging(db, imageId, token, {
        ...staged,
        sizeBytes,
        digests,
        zeroBlocks,
        timeToLiveMs,
      }),
    ),
  );
  return staged.path;
}

/**
 * Removes the part of this process. It removes the final name only while it holds the lease: after
 * a takeover the name belongs to another process. If the catalogue is unreachable, the takeover
 * cleans up.
 */
async function undoStaging(
  { database, staging }: StagingTools,
  imageId: string,
  { token, part, path }: { readonly token: string; readonly part: string; readonly path: string },
): Promise<void> {
  const isOurs = await database
    .query((db) => renewStaging(db, imageId, token))
    .then(() => true)
    .catch(() => false);
  await staging.discard({ part, path: isOurs ? path : null });
  if (isOurs) await database.transaction((db) => dropStaging(db, imageId, token));
}

function interrupted(error: unknown, imageId: string, signal: AbortSignal | undefined): unknown {
  if (signal?.aborted !== true) return error;
  return new ImportError("Interrupted", `Staging of image "${imageId}" was interrupted`, {
    cause: error,
  });
}

function stagedImage(
  imageId: string,
  path: string,
  sizeBytes: number,
  digests: Digests | undefined,
): StagedImage {
  return {
    image_id: imageId,
    status: "uploading",
    path,
    size: sizeBytes,
    checksum: digests?.checksum ?? null,
    os_hash_algo: digests?.osHashAlgo ?? null,
    os_hash_value: digests?.osHashValue ?? null,
  };
}

/**
 * Records a file below the staging root as the staged data of a queued image, without digests.
 *
 * @internal
 */
export async function adoptStagedFile(
  { database, staging, timeToLiveMs, limits }: StagingTools,
  imageId: string,
  uri: string | undefined,
): Promise<StagedImage> {
  // Before the file is looked for: an unknown image is the first thing to report.
  await database.query((db) => findImage(db, imageId));
  const { handle, path, fingerprint, ownName } = await staging.openStaged(imageId, uri);
  await handle.close();
  const writer = await thisProcess();
  const sizeBytes = Number(fingerprint.sizeBytes);
  await database.transaction(async (db) => {
    const image = await lockImage(db, imageId);
    if (image.status !== "queued") {
      throw new ImportError(
        "ImageConflict",
        `Cannot stage image "${imageId}": it is ${image.status}, and only a queued image is staged`,
      );
    }
    await adoptFile(db, limits, {
      imageId,
      node: staging.node,
      writer,
      path,
      fingerprint,
      isOwnFile: staging.isOwnFile(path),
      ownName,
      timeToLiveMs,
    });
    await moveToUploading(db, imageId, sizeBytes);
    await requireQuotas(db, limits, image.owner, { image_count_uploading: 1 });
  });
  return stagedImage(imageId, path, sizeBytes, undefined);
}

/**
 * Refuses an upload on another staging volume, whose bytes this process cannot reach.
 *
 * @throws ImportError `StagingUnavailable`
 * @internal
 */
export function requireHere(
  staging: StagingArea,
  { imageId, node }: Pick<LeaseRow, "imageId" | "node">,
): void {
  if (node === staging.node) return;
  throw new ImportError(
    "StagingUnavailable",
    `The upload of image "${imageId}" lies on the staging volume ${node}, and this process uses ${staging.node}`,
    { hint: "Send the request to a server or host that uses that volume." },
  );
}

/**
 * Removes staged data that no import holds; the image is `queued` again. Without staged data this
 * does nothing.
 *
 * @internal
 */
export async function dropStagedData(
  { database, staging }: StagingTools,
  imageId: string,
  guard?: WriteGuard,
): Promise<void> {
  const taker = { token: randomUUID(), writer: await thisProcess() };
  const taken = await database.transaction(async (db) => {
    // Asked even if the image has no upload: the caller may no longer be allowed to see the image.
    await askGuard(db, imageId, guard);
    const upload = await findUpload(db, imageId);
    if (upload === undefined) return undefined;
    requireHere(staging, upload);
    return takeStagedAway(db, imageId, taker);
  });
  if (taken === undefined) return;
  await discardUpload(staging, taken);
  await database.transaction((db) => dropStaging(db, imageId, taker.token));
}
