import { rebuildCrc } from "../bytes/copy-blocks.ts";
import { finishLease, requireLease, type LeaseRow } from "../db/lease-records.ts";
import { recordStored } from "../db/outcome-records.ts";
import { ImportError, type ImportFailureCode } from "../domain/import-failure.ts";
import { storePlace } from "../domain/place.ts";
import type { RemovalOrder } from "../domain/undo-order.ts";
import { readBootId } from "../processes/process-table.ts";
import {
  mayHaveChanged,
  storeKey,
  type Copied,
  type CopyOrder,
  type PrivateCopy,
  type Store,
} from "../stores/store.ts";
import { attemptKey, currentAttempt } from "./attempts.ts";
import { openSource, type OpenSource, type SourceOrder } from "./copy-source.ts";
import type { NodeDependencies } from "./dependencies.ts";
import { holdLease, type HeldLease, type LeasePolicy } from "./hold-lease.ts";
import { patiently } from "./patiently.ts";
import { withProgress, type Progress } from "./progress.ts";
import { releaseLease } from "./release-lease.ts";
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
  /** The attempt that finished it. Absent in histories of 0.1.0. */
  readonly attempt?: number;
}

/** One copy of an image in one store. Its undo is {@link removeCopyActivities}. */
export function storeImageActivities(dependencies: NodeDependencies) {
  const { stores, idleTimeoutMs } = dependencies;
  return {
    /**
     * Copies the staged bytes, or another store's copy, into a store and publishes the copy there
     * under a key of this import's own. Readers do not see it before the activation. It resumes
     * only the part of an attempt that is known to be over. A late attempt touches nothing.
     *
     * @throws ImportError `ImportLost`, `NoSpace`, `PermissionDenied`, `StagedDataChanged`,
     *   `StagedDataMissing`, `CopyNotFound`, `DigestMismatch`; retried: `StoreUnavailable`,
     *   `CopyMismatch`, `AttemptOvertaken`
     */
    async storeImage(order: StoreOrder): Promise<StoredCopy> {
      const store = stores.get(order.store);
      const copy = await withProgress(
        {
          about: { step: "store", store: order.store, totalBytes: order.size },
          idleTimeoutMs,
          idleFailure: "StoreUnavailable",
        },
        async (progress) =>
          holdLease(
            dependencies,
            order,
            storePlace(order.store),
            policyOf(order, store),
            progress,
            (lease, stoppable) => writeCopy(dependencies, order, store, lease, stoppable),
          ),
      );
      return { ...copy, attempt: currentAttempt().attempt };
    },
  };
}

/** The undo of {@link storeImageActivities}. It runs on a queue of its own, never behind copies. */
export function removeCopyActivities(dependencies: NodeDependencies, removals = new StoreCalls()) {
  return {
    /**
     * Undoes `storeImage`: removes part and copy of this epoch, then the lease. Never touches a
     * copy that the catalogue publishes, nor the copy of a later run of the same import. Succeeds
     * if nothing is there.
     *
     * @throws ImportError retried: `StoreUnavailable`, `AttemptOvertaken`
     */
    async removeCopy(order: RemovalOrder): Promise<void> {
      const place = storePlace(order.store);
      const copy = { imageId: order.image_id, epoch: order.epoch, place };
      const attempt = currentAttempt();
      await dependencies.attempts.end(attemptKey(copy), attempt);
      await releaseLease(dependencies, copy, attempt, removals);
    },
  };
}

/** The rules of the leases of copies. */
function policyOf(order: StoreOrder, store: Store): LeasePolicy<StoredCopy> {
  return {
    pathOf: () => storeKey(order.image_id, order.epoch),
    resultOf: (lease, signal) => finishedCopy(lease, store, signal),
    mayResume: ({ writer, earlierParts }) =>
      store.kind === "s3"
        ? // Parts that the server copied cannot be distinguished from parts that were sent to it: the
          // copy restarts from byte 0. All multipart uploads of a key are removed together, and an
          // attempt that owns one of them may be alive.
          order.from !== "stores" && earlierParts.length === 0
        : // Bytes that were written before the machine went down may be missing, or zeros.
          writer.bootId === readBootId(),
  };
}

async function finishedCopy(
  { state, path, copy }: LeaseRow,
  store: Store,
  signal: AbortSignal,
): Promise<StoredCopy | undefined> {
  if (state !== "whole" || copy === null) return undefined;
  const found = await store.find(path, signal);
  // A copy that may have changed since it was checked is checked again.
  if (found === undefined || mayHaveChanged(copy.version ?? null, found.version)) return undefined;
  return {
    store: store.name,
    url: store.urlOf(path),
    size: copy.sizeBytes,
    crc32: copy.crc32,
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
      key: lease.path,
      mayResume: lease.resumes,
      signal: progress.signal,
      report: (doneBytes) => {
        progress.report(doneBytes);
      },
    }));
  const writing = { dependencies, store, lease, source, copied, progress };
  await source.requireInPlace(copied);
  await requireAgreement(writing);
  await patiently(progress, () =>
    database.transaction((db) => requireLease(db, lease.id, lease.token)),
  );
  await source.whilePublishing(copied, () => publish(store, copied));
  // Taken before the checks that follow: a copy that changes after them has another version, and is
  // read again when it goes live.
  const version = found?.version ?? (await store.find(lease.path, progress.signal))?.version;
  await requireSourceUnchanged(writing);
  if (dependencies.verifyOnPublish && found === undefined) {
    await requireReadBack(writing);
  }
  await patiently(progress, () =>
    database.transaction(async (db) => {
      const { crc32, shared } = copied;
      const copy = { sizeBytes: source.sizeBytes, crc32, shared, version };
      await finishLease(db, lease.id, lease.token, { copy });
      await recordStored(db, lease.id, order.store);
    }),
  );
  return {
    store: order.store,
    url: store.urlOf(lease.path),
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
  if ((await store.find(lease.path, signal)) === undefined) return undefined;
  await using copy = await store.open(lease.path, signal);
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
  const { signal, showLife } = progress;
  const found = await copyUnderKey(store, lease, source, { signal, showLife, report: all });
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
    await requireLease(db, lease.id, lease.token);
    await store.remove([lease.part, lease.path]);
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
