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
  growStaging,
  renewStaging,
  takeStagedAway,
} from "../db/upload-records.ts";
import { ZeroBlocks } from "../bytes/zero-blocks.ts";
import type { Digests } from "../domain/digests.ts";
import type { DirectUpload } from "../domain/direct-upload.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { Report } from "../domain/report.ts";
import type { Limits } from "../domain/quota.ts";
import type { OpenStaged, StagingArea } from "../staging/staging-area.ts";
import {
  fileSource,
  streamSource,
  writeStaged,
  type ByteSource,
  type StagingWrite,
} from "../staging/write-staged.ts";
import { openUpload } from "./open-upload.ts";
import { whileUnreachable } from "./while-unreachable.ts";

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
  /** The number of bytes of a stream; another one fails. Default: any. */
  readonly size?: number;
  /**
   * The import that begins when the upload is complete: `finishUpload` starts it, or a worker if
   * this process dies. Default: none.
   */
  readonly importAfter?: DirectUpload;
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

// A quarter of the time after which another process may take over.
const RENEW_EVERY_MS = 5_000;
// As long as a source or store may stand still. A stream cannot be read a second time.
const CATALOGUE_PATIENCE_MS = 60_000;

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
  const before = await database.transaction((db) =>
    beginStaging(db, tools.limits, {
      ...attempt,
      sizeBytes,
      replace: options.replace ?? false,
      directUpload: options.importAfter,
    }),
  );
  const lease = new StagingLease(tools, imageId, token, options.signal);
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
    await staging.publish(part, path, () => lease.renewPatiently());
    const staged = await locate(staging, imageId);
    await lease.patiently(() =>
      database.transaction((db) =>
        finishStaging(db, imageId, token, {
          ...staged,
          sizeBytes: digests.sizeBytes,
          digests,
          zeroBlocks,
          timeToLiveMs: tools.timeToLiveMs,
        }),
      ),
    );
    return stagedImage(imageId, staged.path, digests.sizeBytes, digests);
  } catch (error) {
    // The lease of what cannot be undone now is taken over later. The failure itself matters more.
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

/** The bytes of a source, which must be as many as were announced. */
function exactly(sizeBytes: number, source: ByteSource): ByteSource {
  let doneBytes = 0;
  const wrong = (found: string): ImportError =>
    new ImportError(
      "ChecksumMismatch",
      `The data has ${found} bytes, and ${String(sizeBytes)} were announced`,
      { hint: "Send it again, or correct the size that is sent with it." },
    );
  return {
    read: async (buffer) => {
      const readBytes = await source.read(buffer);
      doneBytes += readBytes;
      if (doneBytes > sizeBytes) throw wrong(`more than ${String(sizeBytes)}`);
      if (readBytes === 0 && doneBytes < sizeBytes) throw wrong(String(doneBytes));
      return readBytes;
    },
  };
}

async function discardUpload(
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

/**
 * The real path of the upload, by which the import will look for it, and its fingerprint.
 */
async function locate(
  staging: StagingArea,
  imageId: string,
): Promise<Pick<OpenStaged, "path" | "fingerprint">> {
  const { handle, path, fingerprint } = await staging.openStaged(imageId);
  await handle.close();
  return { path, fingerprint };
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

/** Renews the lease of an upload, and stops the upload if the lease is lost. */
class StagingLease {
  readonly #database: Database;
  readonly #limits: Limits;
  readonly #imageId: string;
  readonly #token: string;
  readonly #lost = new AbortController();
  readonly #signal: AbortSignal;

  constructor(
    { database, limits }: StagingTools,
    imageId: string,
    token: string,
    signal: AbortSignal | undefined,
  ) {
    this.#database = database;
    this.#limits = limits;
    this.#imageId = imageId;
    this.#token = token;
    this.#signal =
      signal === undefined ? this.#lost.signal : AbortSignal.any([signal, this.#lost.signal]);
  }

  /** @throws ImportError `StagingBusy` if another process took over */
  async renew(): Promise<void> {
    await this.#database.query((db) => renewStaging(db, this.#imageId, this.#token));
  }

  /** The same, {@link patiently}. */
  async renewPatiently(): Promise<void> {
    await this.patiently(() => this.renew());
  }

  /** Reserves room for more bytes, see `RoomAhead`, {@link patiently}. */
  async grow(growth: { imageBytes: number; welcomeBytes: number }): Promise<number> {
    const stager = { imageId: this.#imageId, token: this.#token };
    return this.patiently(() =>
      this.#database.transaction((db) => growStaging(db, this.#limits, stager, growth)),
    );
  }

  /**
   * Waits for an unreachable database, up to a minute: no process can take over without it.
   */
  async patiently<T>(work: () => Promise<T>): Promise<T> {
    return whileUnreachable(work, {
      code: "DatabaseUnavailable",
      giveUpAfterMs: CATALOGUE_PATIENCE_MS,
      signal: this.#signal,
    });
  }

  /**
   * Renews while the work runs. It continues while the database is unreachable: no process can take
   * over without it.
   */
  async during<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const timer = setInterval(() => {
      this.renew().catch((error: unknown) => {
        const isLost = error instanceof ImportError && error.code === "StagingBusy";
        if (isLost) this.#lost.abort(error);
      });
    }, RENEW_EVERY_MS);
    try {
      const result = await work(this.#signal);
      await this.renewPatiently();
      return result;
    } finally {
      clearInterval(timer);
    }
  }
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
  const { handle, path, fingerprint } = await staging.openStaged(imageId, uri);
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
      timeToLiveMs,
    });
    await moveToUploading(db, imageId, sizeBytes);
    await requireQuotas(db, limits, image.owner, { image_count_uploading: 1 });
  });
  return stagedImage(imageId, path, sizeBytes, undefined);
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
): Promise<void> {
  if ((await database.query((db) => findUpload(db, imageId))) === undefined) return;
  const taker = { token: randomUUID(), writer: await thisProcess() };
  const taken = await database.transaction((db) => takeStagedAway(db, imageId, taker));
  await discardUpload(staging, taken);
  await database.transaction((db) => dropStaging(db, imageId, taker.token));
}
