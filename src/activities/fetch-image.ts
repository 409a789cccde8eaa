import type { FileHandle } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { compareFingerprints, fingerprintOf } from "../bytes/fingerprint.ts";
import { thisProcess } from "../processes/process-identity.ts";
import { RoomAhead } from "../staging/room-ahead.ts";
import { systemFailure } from "../bytes/system-failure.ts";
import { ZeroBlocks } from "../bytes/zero-blocks.ts";
import { dropAdopted } from "../db/adoption-records.ts";
import { finishLease, requireLease, updateLease } from "../db/lease-records.ts";
import { growReservation, type ReservationGrowth } from "../db/quota-records.ts";
import type { FetchedFrom } from "../db/schema.ts";
import {
  findStaged,
  knownDigests,
  recordStaged,
  updateStaged,
  type StagedRow,
} from "../db/staged-facts.ts";
import type { Digests } from "../domain/digests.ts";
import { ImportError } from "../domain/import-failure.ts";
import { hasQuotas } from "../domain/quota.ts";
import type { UndoOrder } from "../domain/undo-order.ts";
import type { WebDownload } from "../sources/web-download.ts";
import { displayedUrl, parseWebUrl, splitToken, type TokenedUrl } from "../sources/web-url.ts";
import type { OpenStaged, StagingArea } from "../staging/staging-area.ts";
import type { ByteSource } from "../staging/byte-source.ts";
import { writeStaged } from "../staging/write-staged.ts";
import { attemptKey, currentAttempt } from "./attempts.ts";
import type { NodeDependencies } from "./dependencies.ts";
import { holdLease, type HeldLease } from "./hold-lease.ts";
import { isUnreachable, patiently } from "./patiently.ts";
import { withProgress, type Progress } from "./progress.ts";
import { releaseLease } from "./release-lease.ts";

/** The download to make. */
export interface FetchOrder {
  readonly image_id: string;
  readonly epoch: number;
  readonly task_id: string;
  /** `http://…` or `https://…`, or such a URL sealed, also with a token for its origin. */
  readonly uri: string;
}

/** A download that is complete and staged. */
export interface FetchedImage {
  /** URI of the file. No user and no other attempt uses its name. */
  readonly uri: string;
  readonly size: number;
  readonly digests: Digests;
}

/** The bytes of an image from the web. Its undo is {@link discardFetchedActivities}. */
export function fetchImageActivities(dependencies: NodeDependencies) {
  const { idleTimeoutMs, sealingKeys, staging } = dependencies;
  return {
    /**
     * Downloads an image into staging and digests it on the way. It resumes the part of an attempt
     * that is known to be over, and requests only the rest from the origin. A late attempt touches
     * nothing.
     *
     * @throws ImportError `BadRequest`, `BadConfiguration`, `SourceForbidden`, `SourceRefused`,
     *   `SourceTooLarge`, `QuotaExceeded`, `ImportLost`, `NoSpace`; retried:
     *   `SourceUnavailable`, `StagingUnavailable`, `AttemptOvertaken`
     */
    async fetchImage(order: FetchOrder): Promise<FetchedImage> {
      const from = splitToken(sealingKeys.open(order.image_id, order.uri));
      return withProgress(
        { about: { step: "fetch" }, idleTimeoutMs, idleFailure: "SourceUnavailable" },
        async (progress) =>
          holdLease(
            dependencies,
            order,
            "download",
            {
              pathOf: (part) => staging.productPathOf(part),
              resultOf: finishedDownload,
              // Without a recorded source, no byte of the part can be continued.
              mayResume: ({ fetchedFrom }) => fetchedFrom !== null,
              // A queued image has no upload: an earlier import adopted a file and failed. The file
              // stays where its owner put it.
              alsoTake: (db) => dropAdopted(db, order.image_id),
            },
            progress,
            (held, stoppable) => fetchBytes(dependencies, held, from, stoppable),
          ),
      );
    },
  };
}

/** The undo of {@link fetchImageActivities}. It runs on a queue of its own, never behind bytes. */
export function discardFetchedActivities(dependencies: NodeDependencies) {
  return {
    /**
     * Undoes `fetchImage`: removes the download of this import, complete or not, then its lease.
     * Never touches an upload, nor the download of a later run of the same import. Succeeds if
     * nothing is there.
     *
     * @throws ImportError retried: `StagingUnavailable`, `AttemptOvertaken`
     */
    async discardFetched(order: UndoOrder): Promise<void> {
      const download = { imageId: order.image_id, epoch: order.epoch, place: "download" } as const;
      const attempt = currentAttempt();
      await dependencies.attempts.end(attemptKey(download), attempt);
      await releaseLease(dependencies, download, attempt);
    },
  };
}

function finishedDownload(lease: StagedRow): FetchedImage | undefined {
  const digests = lease.state === "whole" ? knownDigests(lease) : undefined;
  return digests === undefined ? undefined : fetched(digests, lease.path);
}

function fetched(digests: Digests, path: string): FetchedImage {
  return { size: digests.sizeBytes, digests, uri: pathToFileURL(path).href };
}

/**
 * The digests of a part that an earlier attempt completed, if it is still the same file.
 */
async function digestsOfWhole(
  { staging }: NodeDependencies,
  { id, part, path, before, resumes }: HeldLease,
): Promise<Digests | undefined> {
  if (!resumes || before?.fingerprint == null) return undefined;
  const whole = before.fingerprint;
  const isWhole = async (handle: FileHandle): Promise<boolean> => {
    await using open = handle;
    return compareFingerprints(whole, await fingerprintOf(open)) !== "changed";
  };
  if (await isWhole(await staging.reopenPart(part))) return knownDigests(before);
  const published = await openPublished(staging, id, path);
  return published !== undefined && (await isWhole(published.handle))
    ? knownDigests(before)
    : undefined;
}

/** Downloads and publishes. */
async function fetchBytes(
  dependencies: NodeDependencies,
  held: HeldLease,
  from: TokenedUrl,
  progress: Progress,
): Promise<FetchedImage> {
  const digests =
    (await digestsOfWhole(dependencies, held)) ??
    (await download(dependencies, held, from, progress));
  await publishOrDiscard(dependencies, held, progress);
  return fetched(digests, held.path);
}

async function download(
  dependencies: NodeDependencies,
  held: HeldLease,
  from: TokenedUrl,
  progress: Progress,
): Promise<Digests> {
  try {
    return await writePart(dependencies, held, from, progress);
  } catch (error) {
    const { root } = dependencies.staging;
    throw systemFailure(error, `the staging area "${root}"`, "StagingUnavailable");
  }
}

/** Downloads the rest of the part, and records its facts. */
async function writePart(
  dependencies: NodeDependencies,
  held: HeldLease,
  from: TokenedUrl,
  progress: Progress,
): Promise<Digests> {
  const { database, staging, web, limits } = dependencies;
  const { id, token, part } = held;
  const left = held.resumes ? held.before : undefined;
  await using target =
    left === undefined ? await staging.createPart(part) : await staging.reopenPart(part);
  const startAt = await trustedBytes(target, left);
  const state = left?.fetchedFrom;
  await using source = await web.open({
    ...from,
    continuation: state == null || startAt === 0 ? undefined : { startAt, state },
    singleConnection: held.before?.singleConnection ?? false,
    earlyEnd: state?.end,
    maxBytes: limits.imageSizeCapBytes,
    signal: progress.signal,
  });
  const { sizeBytes } = source.state;
  if (sizeBytes !== null) await staging.requireRoom(sizeBytes - source.offset);
  const grow = (growth: ReservationGrowth): Promise<number> =>
    reserve(dependencies, id, growth, progress);
  const room = new RoomAhead(grow, sizeBytes === null ? 0 : await grow({ imageBytes: sizeBytes }));
  const ledger = await SourceLedger.open(dependencies, held, from.url, target, source);
  const zeroBlocks = new ZeroBlocks();
  const total = sizeBytes ?? undefined;
  progress.report(source.offset, total);
  // Each read is reported, not each block: a slow source takes long to fill a block.
  const moving: ByteSource = {
    read: async (buffer) => {
      const readBytes = await source.read(buffer);
      progress.report(source.offset, total);
      return readBytes;
    },
  };
  const digests = await writeStaged(moving, target, {
    hashAlgo: dependencies.hashAlgo,
    zeroBlocks,
    reserve: (bytes) => room.reach(bytes),
    resumeAt: source.offset,
    signal: progress.signal,
    sync: () => ledger.sync(),
    report: (doneBytes) => {
      ledger.writtenBytes = doneBytes;
    },
  }).catch(async (error: unknown) => {
    // A late attempt must not make the import fail: it throws the loss of its lease instead. While
    // the catalogue is unreachable, the findings are lost, and the next attempt makes them again.
    await ledger.recordFindings().catch((failure: unknown) => {
      if (isLost(failure) && !progress.signal.aborted) throw failure;
    });
    throw error;
  });
  progress.report(digests.sizeBytes, digests.sizeBytes);
  await staging.syncPart(target, part);
  const whole = {
    sizeBytes: digests.sizeBytes,
    fingerprint: await fingerprintOf(target),
    digests,
    zeroBlocks,
    timeToLiveMs: dependencies.stagingTimeToLiveMs,
  };
  // Recorded before the file gets its final name: if this process dies in between, the next attempt
  // recognises the file by its fingerprint.
  await patiently(progress, () =>
    database.transaction(async (db) => {
      await requireLease(db, id, token);
      await updateLease(db, id, token);
      await recordStaged(db, id, whole);
    }),
  );
  return digests;
}

/**
 * Reserves room for more bytes. While the catalogue is unreachable, a download without quotas
 * continues: many origins cannot resume it. A download with quotas waits.
 */
async function reserve(
  { database, limits }: NodeDependencies,
  id: HeldLease["id"],
  growth: ReservationGrowth,
  progress: Progress,
): Promise<number> {
  const ask = (): Promise<number> =>
    database.transaction((db) => growReservation(db, limits, id, growth));
  if (hasQuotas(limits)) return patiently(progress, ask);
  return ask().catch((error: unknown) => {
    if (isUnreachable(error)) return growth.welcomeBytes ?? growth.imageBytes;
    throw error;
  });
}

/**
 * The number of bytes of a part that are safe to continue. After a restart of the machine, only the
 * synced bytes are.
 */
async function trustedBytes(target: FileHandle, left: StagedRow | undefined): Promise<number> {
  if (left?.fetchedFrom == null) return 0;
  const { size } = await target.stat();
  const { bootId, syncedBytes } = left.fetchedFrom;
  return bootId === (await thisProcess()).bootId ? size : Math.min(size, syncedBytes);
}

/** Records in the catalogue the source of a download, and the number of bytes that are safe. */
class SourceLedger {
  /**
   * The number of bytes that the writer has reported. The last block may still be being written.
   */
  writtenBytes = 0;
  readonly #dependencies: NodeDependencies;
  readonly #held: HeldLease;
  readonly #target: FileHandle;
  readonly #source: WebDownload;
  #entry: FetchedFrom;

  private constructor(
    dependencies: NodeDependencies,
    held: HeldLease,
    target: FileHandle,
    source: WebDownload,
    entry: FetchedFrom,
  ) {
    this.#dependencies = dependencies;
    this.#held = held;
    this.#target = target;
    this.#source = source;
    this.#entry = entry;
  }

  static async open(
    dependencies: NodeDependencies,
    held: HeldLease,
    url: string,
    target: FileHandle,
    source: WebDownload,
  ): Promise<SourceLedger> {
    // Truncated before the source is recorded: the part must hold no bytes of another state of it.
    await target.truncate(source.offset);
    const ledger = new SourceLedger(dependencies, held, target, source, {
      ...source.state,
      end: source.earlyEnd,
      url: displayedUrl(parseWebUrl(url)),
      syncedBytes: Math.min(held.before?.fetchedFrom?.syncedBytes ?? 0, source.offset),
      bootId: (await thisProcess()).bootId,
    });
    await ledger.#record();
    return ledger;
  }

  /** Syncs the bytes that were written so far, and records their number. */
  async sync(): Promise<void> {
    // Called between two blocks, when all reported bytes are written.
    const syncedBytes = Math.max(this.#entry.syncedBytes, this.writtenBytes);
    await this.#dependencies.staging.syncPart(this.#target, this.#held.part);
    this.#entry = { ...this.#entry, syncedBytes, end: this.#source.earlyEnd };
    await this.#record().catch((error: unknown) => {
      // Keep downloading while the catalogue is unreachable. Stop if this import lost its claim, or
      // if another attempt took over.
      if (isLost(error)) throw error;
    });
  }

  /**
   * Records for the next attempt that several connections to the origin failed, and how this
   * attempt ended early.
   */
  async recordFindings(): Promise<void> {
    const { fallBack, earlyEnd: end } = this.#source;
    const { id, token } = this.#held;
    if (fallBack !== "none") {
      await this.#dependencies.database.query((db) =>
        updateLease(db, id, token, { singleConnection: true }),
      );
    }
    // Without a validator a download cannot be resumed: all bytes come in one response.
    const validator = fallBack === "afresh" ? null : this.#entry.validator;
    if (validator === this.#entry.validator && end === this.#entry.end) return;
    this.#entry = { ...this.#entry, validator, end };
    await this.#record();
  }

  async #record(): Promise<void> {
    const { id, token } = this.#held;
    await this.#dependencies.database.query((db) =>
      updateLease(db, id, token, { fetchedFrom: this.#entry }),
    );
  }
}

/**
 * Publishes a download. An attempt that lost its lease removes its own files: the attempt that took
 * over, or the undo, does not know the files that this attempt made after the loss.
 */
async function publishOrDiscard(
  dependencies: NodeDependencies,
  held: HeldLease,
  progress: Progress,
): Promise<void> {
  try {
    await publish(dependencies, held, progress);
  } catch (error) {
    if (isLost(error)) {
      await dependencies.staging.discard({ part: held.part, path: held.path });
    }
    throw error;
  }
}

/** True if the failure means that another attempt has the lease, or that the import is over. */
function isLost(error: unknown): boolean {
  return (
    error instanceof ImportError &&
    (error.code === "ImportLost" || error.code === "AttemptOvertaken")
  );
}

/** Gives a complete download its final name, unless it has it already. */
async function publish(
  { database, staging }: NodeDependencies,
  { id, token, part, path }: HeldLease,
  progress: Progress,
): Promise<void> {
  const row = await patiently(progress, () =>
    database.transaction(async (db) => {
      await requireLease(db, id, token);
      return findStaged(db, id);
    }),
  );
  const published = await openPublished(staging, id, path);
  await published?.handle.close();
  const isPublished =
    published !== undefined &&
    row?.fingerprint != null &&
    compareFingerprints(row.fingerprint, published.fingerprint) !== "changed";
  // The attempt that published it may have died before it removed the private name.
  if (isPublished) await staging.discard({ part });
  // Otherwise no file has the name, or a changed one. This download replaces that file.
  else await staging.publish(part, path, async () => undefined);
  // Opened for its canonical path, which the catalogue records.
  const staged = await staging.openStaged(id.imageId, pathToFileURL(path).href);
  await staged.handle.close();
  await patiently(progress, () =>
    database.transaction(async (db) => {
      await finishLease(db, id, token, { path: staged.path });
      await updateStaged(db, { ...id, token }, { fingerprint: staged.fingerprint });
    }),
  );
}

/**
 * Opens the file of the final name, if there is one. Only an attempt whose part this one took over
 * can have published it.
 */
async function openPublished(
  staging: StagingArea,
  { imageId }: HeldLease["id"],
  path: string,
): Promise<OpenStaged | undefined> {
  try {
    return await staging.openStaged(imageId, pathToFileURL(path).href);
  } catch (error) {
    if (error instanceof ImportError && error.code === "StagedDataMissing") return undefined;
    throw error;
  }
}
