import { randomUUID } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { compareFingerprints, fingerprintOf } from "../bytes/fingerprint.ts";
import { newPartName } from "../bytes/part-name.ts";
import { thisProcess } from "../processes/process-identity.ts";
import { RoomAhead } from "../staging/room-ahead.ts";
import { systemFailure } from "../bytes/system-failure.ts";
import { ZeroBlocks } from "../bytes/zero-blocks.ts";
import type { ImportId } from "../db/claim-guard.ts";
import {
  findReplaceable,
  finishFetch,
  recordFetched,
  recordSingleConnection,
  recordSource,
  requireFetch,
  takeFetch,
  takeFetchedAway,
  takeRow,
} from "../db/fetched-records.ts";
import { growReservation, type ReservationGrowth } from "../db/quota-records.ts";
import { dropStagedRow, knownDigests, type StagedRow } from "../db/staged-records.ts";
import { beginProcessing } from "../db/task-records.ts";
import type { FetchedFrom } from "../db/schema.ts";
import type { AttemptOrder } from "../domain/attempt-order.ts";
import type { Digests } from "../domain/digests.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { UndoOrder } from "../domain/undo-order.ts";
import type { WebDownload } from "../sources/web-download.ts";
import { displayedUrl, parseWebUrl } from "../sources/web-url.ts";
import type { OpenStaged, StagingArea } from "../staging/staging-area.ts";
import { writeStaged, type ByteSource } from "../staging/write-staged.ts";
import { attemptKey, currentAttempt, isOver, requireNotLate, type Previous } from "./attempts.ts";
import type { NodeDependencies } from "./dependencies.ts";
import { withProgress, type Progress } from "./progress.ts";

/** The download to make. */
export interface FetchOrder {
  readonly image_id: string;
  readonly epoch: number;
  readonly task_id: string;
  /** `http://…` or `https://…`, or such a URL sealed. */
  readonly uri: string;
}

/** A download that is complete and staged. */
export interface FetchedImage {
  /** URI of the file. No person and no other attempt uses its name. */
  readonly uri: string;
  readonly size: number;
  readonly digests: Digests;
}

/** The row of this attempt. */
interface HeldFetch {
  readonly id: ImportId;
  readonly token: string;
  readonly part: string;
  /** Path of the complete download. */
  readonly path: string;
  /** The row of an earlier attempt that is known to be over; its bytes lie under `part`. */
  readonly left: StagedRow | undefined;
  /** True if several connections to the origin failed in an earlier attempt. */
  readonly singleConnection: boolean;
}

/** The bytes of an image from the web. Its undo is {@link discardFetchedActivities}. */
export function fetchImageActivities(dependencies: NodeDependencies) {
  const { attempts, idleTimeoutMs, sealingKeys } = dependencies;
  return {
    /**
     * Downloads an image into staging and digests it on the way. It resumes the part of an attempt
     * that is known to be over, and requests only the rest from the origin. A late attempt touches
     * nothing.
     *
     * @throws ImportError `BadRequest`, `BadConfiguration`, `SourceForbidden`, `SourceRefused`,
     *   `SourceTooLarge`, `QuotaExceeded`, `ImageConflict`, `ImportLost`, `NoSpace`; retried:
     *   `SourceUnavailable`, `StagingUnavailable`, `AttemptOvertaken`
     */
    async fetchImage(order: FetchOrder): Promise<FetchedImage> {
      const id = { imageId: order.image_id, epoch: order.epoch };
      const url = sealingKeys.open(order.image_id, order.uri);
      const attempt = currentAttempt();
      return withProgress(
        { about: { step: "fetch" }, idleTimeoutMs, idleFailure: "SourceUnavailable" },
        async (progress) =>
          attempts.run(
            attemptKey(order, "the download"),
            async (takenOver, previous) => {
              const held = await takeOver(dependencies, id, order.task_id, attempt, previous);
              if ("digests" in held) return fetched(held.digests, held.path);
              const signal = AbortSignal.any([progress.signal, takenOver]);
              const report = progress.report;
              return fetchOrCleanUp(dependencies, held, url, { signal, report });
            },
            attempt,
          ),
      );
    },
  };
}

/** The undo of {@link fetchImageActivities}. It runs on a queue of its own, never behind bytes. */
export function discardFetchedActivities({ database, staging, attempts }: NodeDependencies) {
  return {
    /**
     * Undoes `fetchImage`: removes the download of this import, complete or not, then its row.
     * Never touches an upload, nor the download of a later run of the same import. Nothing there is
     * success.
     *
     * @throws ImportError retried: `StagingUnavailable`, `AttemptOvertaken`
     */
    async discardFetched(order: UndoOrder): Promise<void> {
      const id = { imageId: order.image_id, epoch: order.epoch };
      const attempt = currentAttempt();
      await attempts.end(attemptKey(order, "the download"), attempt);
      const taker = { token: randomUUID(), writer: await thisProcess(), attempt };
      const requireOurs = (held: AttemptOrder | null): void => {
        requireNotLate(held, attempt, `the removal of the download of image "${id.imageId}"`);
      };
      const row = await database.transaction((db) => takeFetchedAway(db, id, taker, requireOurs));
      if (row === undefined) return;
      await staging.discard({ part: row.part, path: row.path });
      await database.transaction((db) => dropStagedRow(db, id.imageId, taker.token));
    },
  };
}

function fetched(digests: Digests, path: string): FetchedImage {
  return { size: digests.sizeBytes, digests, uri: pathToFileURL(path).href };
}

/**
 * Takes the row for this attempt, or finds that an earlier one finished.
 *
 * @throws ImportError `ImportLost`; `AttemptOvertaken` when this attempt is late
 */
async function takeOver(
  { database, staging }: NodeDependencies,
  id: ImportId,
  taskId: string,
  attempt: AttemptOrder,
  previous: Previous,
): Promise<HeldFetch | { readonly digests: Digests; readonly path: string }> {
  const writer = await thisProcess();
  for (;;) {
    const token = randomUUID();
    const before = await database.transaction((db) => findReplaceable(db, id, staging.node));
    const isOurs = before?.epoch === id.epoch;
    const digests = isOurs && before.state === "staged" ? knownDigests(before) : undefined;
    if (before !== undefined && digests !== undefined) return { digests, path: before.path };
    if (isOurs) requireNotLate(before.attempt, attempt, `the download of image "${id.imageId}"`);
    // A row without a source cannot be resumed, and a writer before its holder may be alive.
    const mayResume = isOurs && before.fetchedFrom !== null;
    const left = mayResume && (await isOver(before.writer, previous)) ? before : undefined;
    if (before !== undefined && left === undefined) {
      const taker = { node: staging.node, token, writer, attempt };
      // The row is taken away before its files go: a late writer cannot publish after that, and
      // removes its own files. An adopted file stays where its owner put it.
      if (!(await database.transaction((db) => takeRow(db, id, before, taker)))) continue;
      if (before.epoch !== null) await staging.discard({ part: before.part, path: before.path });
    }
    const holder = before === undefined || left !== undefined ? before?.token : token;
    const part = left?.part ?? newPartName(id.imageId, id.epoch);
    const path = left?.path ?? staging.productPathOf(part);
    const isTaken = await database.transaction(async (db) => {
      const now = await findReplaceable(db, id, staging.node);
      // Another attempt may have taken the row since it was read. Then the part belongs to that
      // attempt.
      if (now?.token !== holder) return false;
      const { node } = staging;
      const resumes = left !== undefined;
      await takeFetch(db, id, { node, token, writer, attempt, part, path, resumes });
      await beginProcessing(db, taskId);
      return true;
    });
    const singleConnection = isOurs && before.singleConnection;
    if (isTaken) return { id, token, part, path, left, singleConnection };
  }
}

/**
 * The digests of a part that an earlier attempt completed, if it is still the same file.
 */
async function digestsOfWhole(
  { staging }: NodeDependencies,
  { id, part, path, left }: HeldFetch,
): Promise<Digests | undefined> {
  if (left?.fingerprint == null) return undefined;
  const whole = left.fingerprint;
  const isWhole = async (handle: FileHandle): Promise<boolean> => {
    await using open = handle;
    return compareFingerprints(whole, await fingerprintOf(open)) !== "changed";
  };
  if (await isWhole(await staging.reopenPart(part))) return knownDigests(left);
  const published = await openPublished(staging, id, path);
  return published !== undefined && (await isWhole(published.handle))
    ? knownDigests(left)
    : undefined;
}

/**
 * Downloads and publishes. An attempt whose import lost its claim meanwhile removes its files.
 */
async function fetchOrCleanUp(
  dependencies: NodeDependencies,
  held: HeldFetch,
  url: string,
  progress: Progress,
): Promise<FetchedImage> {
  try {
    const digests =
      (await digestsOfWhole(dependencies, held)) ??
      (await download(dependencies, held, url, progress));
    await publishOrDiscard(dependencies, held);
    return fetched(digests, held.path);
  } catch (error) {
    if (error instanceof ImportError && error.code === "ImportLost") {
      // A file that cannot be removed now keeps its row, and the sweeper removes it. The caller
      // must get the reason.
      await removeOrphaned(dependencies, held).catch(() => undefined);
    }
    throw error;
  }
}

/** The undo of a lost import may have come before this attempt took its row. */
async function removeOrphaned(
  { database, staging }: NodeDependencies,
  { id, token, part, path }: HeldFetch,
): Promise<void> {
  await staging.discard({ part, path });
  await database.transaction((db) => dropStagedRow(db, id.imageId, token));
}

async function download(
  dependencies: NodeDependencies,
  held: HeldFetch,
  url: string,
  progress: Progress,
): Promise<Digests> {
  try {
    return await writePart(dependencies, held, url, progress);
  } catch (error) {
    const { root } = dependencies.staging;
    throw systemFailure(error, `the staging area "${root}"`, "StagingUnavailable");
  }
}

/** Downloads the rest of the part, and records its facts. */
async function writePart(
  dependencies: NodeDependencies,
  held: HeldFetch,
  url: string,
  progress: Progress,
): Promise<Digests> {
  const { database, staging, web, limits } = dependencies;
  const { id, token, part, path, left } = held;
  await using target =
    left === undefined ? await staging.createPart(part) : await staging.reopenPart(part);
  const startAt = await trustedBytes(target, left);
  const state = left?.fetchedFrom;
  await using source = await web.open({
    url,
    continuation: state == null || startAt === 0 ? undefined : { startAt, state },
    singleConnection: held.singleConnection,
    earlyEnd: state?.end,
    maxBytes: limits.imageSizeCapBytes,
    signal: progress.signal,
  });
  const { sizeBytes } = source.state;
  if (sizeBytes !== null) await staging.requireRoom(sizeBytes - source.offset);
  const grow = (growth: ReservationGrowth): Promise<number> =>
    database.transaction((db) => growReservation(db, limits, id, growth));
  const room = new RoomAhead(grow, sizeBytes === null ? 0 : await grow({ imageBytes: sizeBytes }));
  const ledger = await SourceLedger.open(dependencies, held, url, target, source);
  const zeroBlocks = new ZeroBlocks();
  const total = sizeBytes ?? undefined;
  progress.report(source.offset, total);
  // A slow source moves long before a block is full.
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
    // A late attempt must not decide that the import fails. If the catalogue is unreachable,
    // another attempt ends in the same way.
    await ledger.recordFindings().catch((failure: unknown) => {
      if (isLost(failure) && !progress.signal.aborted) throw failure;
    });
    throw error;
  });
  progress.report(digests.sizeBytes, digests.sizeBytes);
  await staging.syncPart(target, part);
  const whole = {
    path,
    sizeBytes: digests.sizeBytes,
    fingerprint: await fingerprintOf(target),
    digests,
    zeroBlocks,
    timeToLiveMs: dependencies.stagingTimeToLiveMs,
  };
  await database.transaction((db) => recordFetched(db, id, token, whole));
  return digests;
}

/**
 * Bytes that were written before the machine went down are safe only as far as they were synced.
 */
async function trustedBytes(target: FileHandle, left: StagedRow | undefined): Promise<number> {
  if (left?.fetchedFrom == null) return 0;
  const { size } = await target.stat();
  const { bootId, syncedBytes } = left.fetchedFrom;
  return bootId === (await thisProcess()).bootId ? size : Math.min(size, syncedBytes);
}

/** Records in the catalogue the source of a download, and the number of bytes that are safe. */
class SourceLedger {
  /** Takes the number of bytes that were written; the last block may be under way. */
  writtenBytes = 0;
  readonly #dependencies: NodeDependencies;
  readonly #held: HeldFetch;
  readonly #target: FileHandle;
  readonly #source: WebDownload;
  #entry: FetchedFrom;

  private constructor(
    dependencies: NodeDependencies,
    held: HeldFetch,
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
    held: HeldFetch,
    url: string,
    target: FileHandle,
    source: WebDownload,
  ): Promise<SourceLedger> {
    // Cut first: a part must never be longer than its recorded source.
    await target.truncate(source.offset);
    const ledger = new SourceLedger(dependencies, held, target, source, {
      ...source.state,
      end: source.earlyEnd,
      url: displayedUrl(parseWebUrl(url)),
      syncedBytes: Math.min(held.left?.fetchedFrom?.syncedBytes ?? 0, source.offset),
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
      await this.#dependencies.database.query((db) => recordSingleConnection(db, id, token));
    }
    // Without a validator a download cannot be resumed: all bytes come in one response.
    const validator = fallBack === "afresh" ? null : this.#entry.validator;
    if (validator === this.#entry.validator && end === this.#entry.end) return;
    this.#entry = { ...this.#entry, validator, end };
    await this.#record();
  }

  async #record(): Promise<void> {
    const { id, token } = this.#held;
    await this.#dependencies.database.query((db) => recordSource(db, id, token, this.#entry));
  }
}

/**
 * The attempt that took over, or the undo, removes the files that it knows. Only the late writer
 * knows the files that it made after that.
 */
async function publishOrDiscard(dependencies: NodeDependencies, held: HeldFetch): Promise<void> {
  try {
    await publish(dependencies, held);
  } catch (error) {
    if (isLost(error)) {
      await dependencies.staging.discard({ part: held.part, path: held.path });
    }
    throw error;
  }
}

/** True if the failure means that another attempt has the row, or that the import is over. */
function isLost(error: unknown): boolean {
  return (
    error instanceof ImportError &&
    (error.code === "ImportLost" || error.code === "AttemptOvertaken")
  );
}

/** Gives a complete download its final name, unless it has it already. */
async function publish(
  { database, staging }: NodeDependencies,
  { id, token, part, path }: HeldFetch,
): Promise<void> {
  const row = await database.transaction((db) => requireFetch(db, id, token));
  const published = await openPublished(staging, id, path);
  await published?.handle.close();
  const isPublished =
    published !== undefined &&
    row.fingerprint !== null &&
    compareFingerprints(row.fingerprint, published.fingerprint) !== "changed";
  // The attempt that published it may have died before it removed the private name.
  if (isPublished) await staging.discard({ part });
  // Otherwise the name belongs to bytes that were changed since. They were downloaded again.
  else await staging.publish(part, path, async () => undefined);
  // The real path: the import looks for it.
  const staged = await staging.openStaged(id.imageId, pathToFileURL(path).href);
  await staged.handle.close();
  const { path: realPath, fingerprint } = staged;
  await database.transaction((db) => finishFetch(db, id, token, { path: realPath, fingerprint }));
}

/**
 * Only an attempt whose part this one took over can have published this name.
 */
async function openPublished(
  staging: StagingArea,
  { imageId }: ImportId,
  path: string,
): Promise<OpenStaged | undefined> {
  try {
    return await staging.openStaged(imageId, pathToFileURL(path).href);
  } catch (error) {
    if (error instanceof ImportError && error.code === "StagedDataMissing") return undefined;
    throw error;
  }
}
