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

/** What to fetch. */
export interface FetchOrder {
  readonly image_id: string;
  readonly epoch: number;
  readonly task_id: string;
  /** `http://…` or `https://…`, or such a URL sealed. */
  readonly uri: string;
}

/** What was fetched, and is staged now. */
export interface FetchedImage {
  /** Where it lies: under a name of its own, which no person and no other attempt uses. */
  readonly uri: string;
  readonly size: number;
  readonly digests: Digests;
}

/** The row of this attempt. */
interface HeldFetch {
  readonly id: ImportId;
  readonly token: string;
  readonly part: string;
  /** Where the bytes lie when they are whole. */
  readonly path: string;
  /** What an earlier attempt, which is surely over, left under `part`. */
  readonly left: StagedRow | undefined;
  /** An earlier attempt found that the origin is not fit for several connections. */
  readonly singleConnection: boolean;
}

/** The bytes of an image from the web. Its undo is {@link discardFetchedActivities}. */
export function fetchImageActivities(dependencies: NodeDependencies) {
  const { attempts, idleTimeoutMs, sealingKeys } = dependencies;
  return {
    /**
     * Downloads an image into staging, digested on the way, where it then lies like data that a
     * person staged. It goes on from the part of an attempt that is surely over, and asks the
     * origin for the rest only. An attempt that is late touches nothing.
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
            attemptKey(order, "download"),
            async (takenOver, previous) => {
              const held = await takeOver(dependencies, id, order.task_id, attempt, previous);
              if ("digests" in held) return fetched(held.digests, held.path);
              const signal = AbortSignal.any([progress.signal, takenOver]);
              const report = progress.report.bind(progress);
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
     * Undoes `fetchImage`: removes what this import fetched, whole or in part, then its row. Never
     * touches what a person staged, nor what a later run of the same import fetches. Nothing there
     * is success.
     *
     * @throws ImportError retried: `StagingUnavailable`, `AttemptOvertaken`
     */
    async discardFetched(order: UndoOrder): Promise<void> {
      const id = { imageId: order.image_id, epoch: order.epoch };
      const attempt = currentAttempt();
      await attempts.end(attemptKey(order, "download"), attempt);
      const taker = { token: randomUUID(), writer: await thisProcess(), attempt };
      const requireOurs = (held: AttemptOrder | null): void => {
        requireNotLate(held, attempt, `the removal of what was fetched of image "${id.imageId}"`);
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
    // Without a source there is nothing to go on from, and perhaps a writer before its holder who
    // is alive.
    const mayResume = isOurs && before.fetchedFrom !== null;
    const left = mayResume && (await isOver(before.writer, previous)) ? before : undefined;
    if (before !== undefined && left === undefined) {
      const taker = { node: staging.node, token, writer, attempt };
      // Taken away before its files: what a late writer makes after that is never published, and
      // removed by itself. A file that was adopted stays where somebody put it.
      if (!(await database.transaction((db) => takeRow(db, id, before, taker)))) continue;
      if (before.epoch !== null) await staging.discard({ part: before.part, path: before.path });
    }
    const holder = before === undefined || left !== undefined ? before?.token : token;
    const part = left?.part ?? newPartName(id.imageId, id.epoch);
    const path = left?.path ?? staging.productPathOf(part);
    const isTaken = await database.transaction(async (db) => {
      const now = await findReplaceable(db, id, staging.node);
      // Another attempt may have taken it since it was looked at, and then the part is that one's.
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
 * The digests of a part to which an earlier attempt had fetched all bytes, when it is still that
 * file.
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
 * Fetches and publishes; an attempt whose import has lost the image meanwhile leaves nothing of
 * what it made.
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
      // What can't be removed now keeps its row, and the sweeper removes it; the caller must see
      // the reason.
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

/** Downloads what is missing of the part, and records what it turned out to be. */
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
    onProgress: (doneBytes) => {
      ledger.writtenBytes = doneBytes;
    },
  }).catch(async (error: unknown) => {
    // A late attempt must not decide what is final. A catalogue that is away costs another attempt
    // that ends alike.
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
 * What the dead wrote before the machine itself died is there for sure only as far as it was
 * synced.
 */
async function trustedBytes(target: FileHandle, left: StagedRow | undefined): Promise<number> {
  if (left?.fetchedFrom == null) return 0;
  const { size } = await target.stat();
  const { bootId, syncedBytes } = left.fetchedFrom;
  return bootId === (await thisProcess()).bootId ? size : Math.min(size, syncedBytes);
}

/** Keeps in the catalogue what is fetched, and how much of it is safe. */
class SourceLedger {
  /** So many bytes were written, one block perhaps not. */
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
    // Cut first: a part must never be longer than what its source is recorded for.
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

  /** Makes durable what was written so far, and says so. */
  async sync(): Promise<void> {
    // Asked for between two blocks, when all that was reported is written.
    const syncedBytes = Math.max(this.#entry.syncedBytes, this.writtenBytes);
    await this.#dependencies.staging.syncPart(this.#target, this.#held.part);
    this.#entry = { ...this.#entry, syncedBytes, end: this.#source.earlyEnd };
    await this.#record().catch((error: unknown) => {
      // A catalogue that is away is no reason to stop; having lost the image is, and so is another
      // attempt.
      if (isLost(error)) throw error;
    });
  }

  /**
   * Keeps for the next attempt that the origin is not fit for several connections, and how it ended
   * early.
   */
  async recordFindings(): Promise<void> {
    const { fallBack, earlyEnd: end } = this.#source;
    const { id, token } = this.#held;
    if (fallBack !== "none") {
      await this.#dependencies.database.query((db) => recordSingleConnection(db, id, token));
    }
    // Without a validator the rest is not asked for: all comes in one answer.
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
 * Whoever took over, or the undo, removes what is there; a late writer is the only one who knows
 * what it made since.
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

/** Whether a failure means that another attempt has the row, or that the import is over. */
function isLost(error: unknown): boolean {
  return (
    error instanceof ImportError &&
    (error.code === "ImportLost" || error.code === "AttemptOvertaken")
  );
}

/** Gives whole bytes their final name, unless they have it already. */
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
  // The attempt that published it may have died before its private name was gone.
  if (isPublished) await staging.discard({ part });
  // What else has the name are bytes that were changed since, and downloaded again.
  else await staging.publish(part, path, async () => undefined);
  // By its real path, as the import will look for it.
  const staged = await staging.openStaged(id.imageId, pathToFileURL(path).href);
  await staged.handle.close();
  const { path: realPath, fingerprint } = staged;
  await database.transaction((db) => finishFetch(db, id, token, { path: realPath, fingerprint }));
}

/**
 * Nobody else has that name: what has it was published by an attempt whose part this one took over.
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
