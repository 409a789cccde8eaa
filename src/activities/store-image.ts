import { randomUUID } from "node:crypto";
import { cancellationDetails } from "@temporalio/activity";
import { rebuildCrc } from "../bytes/copy-blocks.ts";
import { newPartName } from "../bytes/part-name.ts";
import { thisProcess } from "../processes/process-identity.ts";
import { requireClaim } from "../db/claim-guard.ts";
import {
  type CopyId,
  dropEarlierParts,
  dropLease,
  findLease,
  isPublishedLocation,
  type LeaseRow,
  namesOf,
  publishLease,
  requireLease,
  takeLease,
  takeOrphanedLease,
} from "../db/lease-records.ts";
import { recordStored } from "../db/outcome-records.ts";
import { returnLinkRight } from "../db/staged-records.ts";
import { beginProcessing } from "../db/task-records.ts";
import type { AttemptOrder } from "../domain/attempt-order.ts";
import { ImportError, type ImportFailureCode } from "../domain/import-failure.ts";
import type { RemovalOrder } from "../domain/undo-order.ts";
import {
  mayHaveChanged,
  storeKey,
  type Copied,
  type CopyOrder,
  type PrivateCopy,
  type Store,
} from "../stores/store.ts";
import { attemptKey, currentAttempt, isOver, requireNotLate, type Previous } from "./attempts.ts";
import { openSource, type OpenSource, type SourceOrder } from "./copy-source.ts";
import type { NodeDependencies } from "./dependencies.ts";
import { withProgress, type Progress } from "./progress.ts";
import { StoreCalls } from "./store-calls.ts";

/** The copy to make. */
export interface StoreOrder extends SourceOrder {
  readonly epoch: number;
  readonly task_id: string;
  readonly size: number;
}

/** A copy under its final key. */
export interface StoredCopy {
  readonly store: string;
  readonly url: string;
  readonly size: number;
  readonly crc32: number;
  /** The way in which it was made: only `copy` moved bytes through this process. */
  readonly method: Copied["method"] | "found";
}

/** The lease of this attempt. */
interface HeldLease {
  readonly copy: CopyId;
  readonly token: string;
  readonly part: string;
  readonly key: string;
  /** True if an attempt that is known to be over wrote the bytes under `part`. */
  readonly mayResume: boolean;
}

/** One copy of an image in one store. Its undo is {@link removeCopyActivities}. */
export function storeImageActivities(dependencies: NodeDependencies) {
  const { stores, attempts, idleTimeoutMs } = dependencies;
  return {
    /**
     * Copies the staged bytes, or another store's copy, into a store and publishes the copy there
     * under a key of this import's own. Readers do not see it before the activation. It resumes
     * only the part of an attempt whose process is dead. A late attempt touches nothing.
     *
     * @throws ImportError `ImportLost`, `NoSpace`, `PermissionDenied`, `StagedDataChanged`,
     *   `StagedDataMissing`, `CopyNotFound`; `DigestMismatch`; retried: `StoreUnavailable`,
     *   `CopyMismatch`, `AttemptOvertaken`
     */
    async storeImage(order: StoreOrder): Promise<StoredCopy> {
      const copy = { imageId: order.image_id, epoch: order.epoch, store: order.store };
      const store = stores.get(order.store);
      const attempt = currentAttempt();
      return withProgress(
        {
          about: { step: "store", store: order.store, totalBytes: order.size },
          idleTimeoutMs,
          idleFailure: "StoreUnavailable",
        },
        async (progress) =>
          attempts.run(
            attemptKey(order, `the copy in store "${order.store}"`),
            async (takenOver, previous) => {
              const signal = AbortSignal.any([progress.signal, takenOver]);
              const taking = { order, copy, store, attempt, previous, signal };
              const lease = await takeOver(dependencies, taking);
              if ("stored" in lease) return lease.stored;
              const stoppable = { signal, report: progress.report };
              return writeOrCleanUp(dependencies, order, store, lease, stoppable);
            },
            attempt,
          ),
      );
    },
  };
}

/** The undo of {@link storeImageActivities}. It runs on a queue of its own, never behind copies. */
export function removeCopyActivities(
  { database, stores, attempts }: NodeDependencies,
  removals = new StoreCalls(),
) {
  return {
    /**
     * Undoes `storeImage`: removes part and copy of this epoch, then the lease. Never touches a
     * copy that the catalogue publishes, nor the copy of a later run of the same import. Nothing
     * there is success.
     *
     * @throws ImportError retried: `StoreUnavailable`, `AttemptOvertaken`
     */
    async removeCopy(order: RemovalOrder): Promise<void> {
      const copy = { imageId: order.image_id, epoch: order.epoch, store: order.store };
      const attempt = currentAttempt();
      const token = randomUUID();
      await attempts.end(attemptKey(order, `the copy in store "${order.store}"`), attempt);
      const lease = await database.transaction(async (db) => {
        const found = await findLease(db, copy);
        if (found === undefined || (await isPublishedLocation(db, copy))) return undefined;
        requireNotLate(found.attempt, attempt, `the removal of the copy in "${copy.store}"`);
        // The lease is taken away before the bytes go: a late writer that begins after that cannot
        // publish.
        await takeLease(db, copy, { ...found, attempt, token });
        return found;
      });
      if (lease === undefined) return;
      const store = stores.get(order.store);
      await removals.run(store.name, () => store.remove(namesOf(lease)));
      await database.transaction(async (db) => {
        if (await dropLease(db, copy, token)) await returnLinkRight(db, copy);
      });
    },
  };
}

/** The facts with which an attempt takes the lease of its copy. */
interface Taking {
  readonly order: StoreOrder;
  readonly copy: CopyId;
  readonly store: Store;
  readonly attempt: AttemptOrder;
  readonly previous: Previous;
  readonly signal: AbortSignal;
}

/**
 * Takes the lease for this attempt, or finds that an earlier one finished the copy.
 *
 * @throws ImportError `ImportLost`; `AttemptOvertaken` when this attempt is late
 */
async function takeOver(
  { database, staging }: NodeDependencies,
  { order, copy, store, attempt, previous, signal }: Taking,
): Promise<HeldLease | { readonly stored: StoredCopy }> {
  const writer = await thisProcess();
  const token = randomUUID();
  const key = storeKey(copy.imageId, copy.epoch);
  for (;;) {
    const before = await database.query((db) => findLease(db, copy));
    const finished = await finishedCopy(before, store, signal);
    if (finished !== undefined) return { stored: finished };
    requireNotLate(before?.attempt ?? null, attempt, `the copy in store "${store.name}"`);
    const mayResume =
      before !== undefined &&
      // Parts that the server copied cannot be told apart from parts that were sent to it: the copy
      // restarts from byte 0.
      !(order.from === "stores" && store.kind === "s3") &&
      // Bytes that were written before the machine went down may be missing, or zeros.
      (store.kind === "s3" || before.writer.bootId === writer.bootId) &&
      // All multipart uploads of a key are removed together, and an attempt that owns one of them
      // may be alive.
      !(store.kind === "s3" && before.earlierParts.length > 0) &&
      (await isOver(before.writer, previous));
    const part = mayResume ? before.part : newPartName(copy.imageId, copy.epoch);
    // A writer that may still be alive keeps its file without a name. Its bytes are never
    // published.
    const left = mayResume ? before.earlierParts : [...(before?.earlierParts ?? []), before?.part];
    const earlierParts = left.filter((name) => name !== undefined);
    const isTaken = await database.transaction(async (db) => {
      await requireClaim(db, copy);
      // Another attempt may have taken the lease since it was read. Then the part belongs to that
      // attempt.
      if ((await findLease(db, copy))?.token !== before?.token) return false;
      const { node } = staging;
      await takeLease(db, copy, { node, token, writer, attempt, part, earlierParts, key });
      await beginProcessing(db, order.task_id);
      return true;
    });
    if (!isTaken) continue;
    if (earlierParts.length > 0) {
      // After the lease was taken: an attempt that stood still before this line would remove the
      // part of a later one.
      await store.remove(earlierParts);
      await database.query((db) => dropEarlierParts(db, copy, token));
    }
    return { copy, token, part, key, mayResume };
  }
}

/**
 * Writes the copy. An attempt whose import lost its claim meanwhile removes its bytes.
 */
async function writeOrCleanUp(
  dependencies: NodeDependencies,
  order: StoreOrder,
  store: Store,
  lease: HeldLease,
  progress: Progress,
): Promise<StoredCopy> {
  try {
    return await writeCopy(dependencies, order, store, lease, progress);
  } catch (error) {
    // A copy that cannot be removed now keeps its lease, and the reconciler removes it. The caller
    // must get the reason.
    if (isLost(error)) await removeOrphaned(dependencies, store, lease).catch(() => undefined);
    throw error;
  }
}

/** True if the failure of an attempt may mean that its import, and so its undo, is over. */
function isLost(error: unknown): boolean {
  if (error instanceof ImportError) return error.code === "ImportLost";
  return cancellationDetails()?.notFound === true;
}

async function removeOrphaned(
  { database }: NodeDependencies,
  store: Store,
  { copy, token }: HeldLease,
): Promise<void> {
  const taker = randomUUID();
  const orphan = await database.transaction((db) => takeOrphanedLease(db, copy, token, taker));
  if (orphan === undefined) return;
  await store.remove(namesOf(orphan));
  await database.transaction(async (db) => {
    if (await dropLease(db, copy, taker)) await returnLinkRight(db, copy);
  });
}

async function finishedCopy(
  lease: LeaseRow | undefined,
  store: Store,
  signal: AbortSignal,
): Promise<StoredCopy | undefined> {
  if (lease?.state !== "published" || lease.crc32 === null || lease.sizeBytes === null) {
    return undefined;
  }
  const found = await store.find(lease.key, signal);
  // A copy that may have changed since it was checked is checked again.
  if (found === undefined || mayHaveChanged(lease.version, found.version)) return undefined;
  return {
    store: store.name,
    url: store.urlOf(lease.key),
    size: lease.sizeBytes,
    crc32: lease.crc32,
    method: "found",
  };
}

async function writeCopy(
  dependencies: NodeDependencies,
  order: StoreOrder,
  store: Store,
  lease: HeldLease,
  progress: Progress,
): Promise<StoredCopy> {
  const { database } = dependencies;
  await using source = await openSource(dependencies, order, progress);
  const found = await copyUnderKey(store, lease, source, progress);
  const copied =
    found ??
    (await makeCopy(store, source, lease, {
      source: source.bytes,
      sizeBytes: source.sizeBytes,
      crc32: source.crc32,
      zeroBlocks: source.zeroBlocks,
      part: lease.part,
      key: lease.key,
      mayResume: lease.mayResume,
      signal: progress.signal,
      report: (doneBytes) => {
        progress.report(doneBytes);
      },
    }));
  const writing = { dependencies, store, lease, source, copied, progress };
  await source.requireInPlace(copied);
  await requireAgreement(writing);
  await database.transaction((db) => requireLease(db, lease.copy, lease.token));
  await source.whilePublishing(copied, () => publish(store, copied));
  // Taken before the checks that follow: a copy that changes after them has another version, and is
  // read again when it goes live.
  const version = found?.version ?? (await store.find(lease.key, progress.signal))?.version;
  await requireSourceUnchanged(writing);
  if (dependencies.verifyOnPublish && found === undefined) {
    await requireReadBack(writing);
  }
  await database.transaction(async (db) => {
    const { crc32, shared } = copied;
    await publishLease(db, lease.copy, lease.token, {
      sizeBytes: source.sizeBytes,
      crc32,
      shared,
      version,
    });
    await recordStored(db, lease.copy, order.store);
  });
  return {
    store: order.store,
    url: store.urlOf(lease.key),
    size: source.sizeBytes,
    crc32: copied.crc32,
    method: copied.method,
  };
}

/** Copies the source in the way that moves the fewest bytes. */
async function makeCopy(
  store: Store,
  source: OpenSource,
  lease: HeldLease,
  order: CopyOrder,
): Promise<PrivateCopy> {
  return (
    (await store.clone?.(order)) ??
    (await source.link({ store, order, lease })) ??
    (await store.copy(order))
  );
}

/**
 * Checks and takes the copy of an attempt that died after publishing and before recording it.
 */
async function copyUnderKey(
  store: Store,
  lease: HeldLease,
  source: OpenSource,
  progress: Progress,
): Promise<(PrivateCopy & { readonly version: string }) | undefined> {
  const { signal } = progress;
  if ((await store.find(lease.key, signal)) === undefined) return undefined;
  await using copy = await store.open(lease.key, signal);
  const crc32 = await rebuildCrc(copy, copy.sizeBytes, signal, (doneBytes) => {
    progress.report(doneBytes);
  });
  const shared = await source.isSharedWith(copy);
  return {
    crc32,
    shared,
    version: copy.version,
    method: shared ? "link" : "copy",
    writtenBytes: 0,
    publish: async () => {
      await store.remove([lease.part]);
      return "published";
    },
  };
}

/** A copy that this attempt has written, or found, and checks. */
interface Writing {
  readonly dependencies: NodeDependencies;
  readonly store: Store;
  readonly lease: HeldLease;
  readonly source: OpenSource;
  readonly copied: Copied;
  readonly progress: Progress;
}

/**
 * Compares the copy with the digests, if they are known. A copy that differs is removed and made
 * again.
 */
async function requireAgreement(writing: Writing): Promise<void> {
  const { store, source, copied, progress } = writing;
  const { crc32: expected } = source;
  if (expected === undefined || expected === copied.crc32) return;
  await throwAway(writing);
  await source.requireSound(progress);
  throw new ImportError(
    "CopyMismatch",
    `The copy in store "${store.name}" differs from its source (crc32 ${copied.crc32.toString(16)}, not ${expected.toString(16)})`,
  );
}

/**
 * Removes a copy that was made without reading its source, if the source did not agree with the
 * catalogue.
 */
async function requireSourceUnchanged(writing: Writing): Promise<void> {
  const { source, copied, progress } = writing;
  try {
    await source.requireUnchanged(copied, progress);
  } catch (error) {
    const isDamage = error instanceof ImportError && DAMAGED.includes(error.code);
    if (isDamage) await throwAway(writing);
    throw error;
  }
}

const DAMAGED: readonly ImportFailureCode[] = [
  "CopyMismatch",
  "DigestMismatch",
  "StagedDataChanged",
];

/** Reads a copy as readers will: a store may have kept other bytes than it was given. */
async function requireReadBack(writing: Writing): Promise<void> {
  const { store, lease, source, copied, progress } = writing;
  const all = (): void => {
    // Every byte was copied before; this only shows that the step still moves.
    progress.report(source.sizeBytes);
  };
  const found = await copyUnderKey(store, lease, source, { signal: progress.signal, report: all });
  if (found?.crc32 === copied.crc32) return;
  await throwAway(writing);
  await source.requireSound(progress);
  throw new ImportError(
    "CopyMismatch",
    `The copy in store "${store.name}" reads back differently from what was written there`,
  );
}

/**
 * Removes part and copy under the lock of the claim: they may belong to an attempt that took over
 * long ago.
 */
async function throwAway({ dependencies, store, lease }: Writing): Promise<void> {
  await dependencies.database.transaction(async (db) => {
    await requireLease(db, lease.copy, lease.token);
    await store.remove([lease.part, lease.key]);
  });
}

async function publish(store: Store, copy: PrivateCopy): Promise<void> {
  if ((await copy.publish()) === "published") return;
  // A late writer was faster, and its copy is unchecked. The next attempt finds and checks it.
  throw new ImportError(
    "CopyMismatch",
    `Cannot publish the copy in store "${store.name}": an earlier attempt published its own meanwhile`,
  );
}
