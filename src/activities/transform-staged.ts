import { randomUUID } from "node:crypto";
import { newPartName } from "../bytes/part-name.ts";
import { fingerprintOf } from "../bytes/fingerprint.ts";
import { thisProcess } from "../processes/process-identity.ts";
import { requireClaim } from "../db/claim-guard.ts";
import {
  beginProduct,
  finishProduct,
  type ProductAttempt,
  type ProductId,
  requireProduct,
  takeProduct,
  takeProductsAway,
} from "../db/product-records.ts";
import { dropStagedRow, findStaged, type StagedRow } from "../db/staged-records.ts";
import { beginProcessing } from "../db/task-records.ts";
import { listUndosOf, promiseUndo } from "../db/transform-undo-records.ts";
import { isLater } from "../domain/attempt-order.ts";
import type { DiskFormat } from "../domain/disk-format.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { UndoOrder } from "../domain/undo-order.ts";
import { runTransform, type Outcome } from "../transforms/run-transform.ts";
import type { Transform } from "../transforms/transform.ts";
import { attemptKey, currentAttempt } from "./attempts.ts";
import type { NodeDependencies } from "./dependencies.ts";
import { withProgress, type Progress } from "./progress.ts";
import {
  openTrustedStaged,
  requireUnchanged,
  type StagedOrder,
  type TrustedStaged,
} from "./staged-data.ts";
import { ProductRoom } from "./product-room.ts";
import { undoTransform } from "./undo-transform.ts";

/** The transform to run, and its input. */
export interface TransformOrder extends StagedOrder {
  readonly epoch: number;
  readonly task_id: string;
  /** The product that is transformed. */
  readonly product: number;
  /** Name of the transform in the configuration. */
  readonly transform: string;
  /** Format of that product. */
  readonly disk_format: string;
  readonly container_format: string;
  /** Roles of the user who requested the import. */
  readonly roles: readonly string[];
}

/** The product of a transform. */
export interface Transformed {
  /**
   * Number of the product that holds the bytes now: that of the order if the transform changed
   * nothing, else the next.
   */
  readonly product: number;
  readonly disk_format: DiskFormat;
  /** To be set on the image when it becomes active. */
  readonly properties: Readonly<Record<string, string>>;
}

/** One transform of the staged bytes. Its undo is {@link discardProductsActivities}. */
export function transformStagedActivities(dependencies: NodeDependencies) {
  const { transforms, attempts, idleTimeoutMs } = dependencies;
  return {
    /**
     * Runs a transform on the upload, the download or the previous product, and publishes its
     * product in staging; the upload or download stays as it is. An attempt that died is not
     * resumed: its part is removed. A late attempt touches nothing.
     *
     * @throws ImportError `ImportLost`, `TransformFailed`, `BadConfiguration`, `NoSpace`,
     *   `QuotaExceeded`, `StagedDataMissing`, `StagedDataChanged`; retried: `TransformUnavailable`,
     *   `StagingUnavailable`, `AttemptOvertaken`
     */
    async transformStaged(order: TransformOrder): Promise<Transformed> {
      const transform = transforms.get(order.transform);
      return withProgress(
        {
          about: { step: "transform", transform: order.transform, totalBytes: 0 },
          idleTimeoutMs,
          idleFailure: "TransformUnavailable",
        },
        async (progress) =>
          attempts.run(
            attemptKey(order, "the products"),
            async (takenOver) => {
              const signal = AbortSignal.any([progress.signal, takenOver]);
              const stoppable = { signal, report: progress.report };
              return transformOnce(dependencies, transform, order, stoppable);
            },
            currentAttempt(),
          ),
      );
    },
  };
}

/**
 * The undo of {@link transformStagedActivities}. It runs on a queue of its own, never behind
 * copies.
 */
export function discardProductsActivities(dependencies: NodeDependencies) {
  const { database, staging, attempts } = dependencies;
  return {
    /**
     * Undoes all transforms of an import: removes their products, and undoes their outside effects.
     * The upload or download stays. Nothing there is success.
     *
     * @throws ImportError retried `AttemptOvertaken` when a later run of the same import makes a
     *   product; `BadConfiguration`, or retried `TransformUnavailable`, for a transform that can't
     *   be undone, when all else is done
     */
    async discardProducts(order: UndoOrder): Promise<void> {
      const attempt = currentAttempt();
      await attempts.end(attemptKey(order, "the products"), attempt);
      const claim = { imageId: order.image_id, epoch: order.epoch };
      // The rows are taken away before the bytes go: a late writer cannot publish.
      const { node } = staging;
      const taker = { node, token: randomUUID(), writer: await thisProcess(), attempt };
      const taken = await database.transaction((db) => takeProductsAway(db, claim, taker));
      for (const { part, path } of taken) await staging.discard({ part, path });
      await database.transaction((db) => dropStagedRow(db, claim.imageId, taker.token));
      const undos = await database.query((db) => listUndosOf(db, claim));
      const undone = await Promise.allSettled(
        undos.map((undo) => undoTransform(dependencies, undo)),
      );
      for (const undo of undone) if (undo.status === "rejected") throw undo.reason;
    },
  };
}

async function transformOnce(
  dependencies: NodeDependencies,
  transform: Transform,
  order: TransformOrder,
  progress: Progress,
): Promise<Transformed> {
  const { staging } = dependencies;
  const part = newPartName(order.image_id, order.epoch);
  const attempt: ProductAttempt = {
    ...productOf(order),
    node: staging.node,
    token: randomUUID(),
    writer: await thisProcess(),
    attempt: currentAttempt(),
    part,
    path: staging.productPathOf(part),
  };
  const finished = await takeOver(dependencies, transform, order, attempt);
  if (finished !== undefined) {
    await dropSource(dependencies, order);
    return finished;
  }
  try {
    return await makeProduct(dependencies, transform, order, attempt, progress);
  } catch (error) {
    // The attempt that took over, or the undo, removes it too. Only a late attempt knows the name
    // of its own file.
    await staging.discard({ part }).catch(() => undefined);
    if (error instanceof ImportError && error.code === "ImportLost") {
      // The undo of a lost import may have come before this attempt took its row.
      await removeOrphaned(dependencies, attempt).catch(() => undefined);
    }
    throw error;
  }
}

async function removeOrphaned(
  { database, staging }: NodeDependencies,
  { imageId, token, part, path }: ProductAttempt,
): Promise<void> {
  await staging.discard({ part, path });
  await database.transaction((db) => dropStagedRow(db, imageId, token));
}

function productOf(order: TransformOrder): ProductId {
  return { imageId: order.image_id, epoch: order.epoch, product: order.product + 1 };
}

/**
 * Takes the lease for this attempt and removes the files of earlier ones, or finds that one of them
 * finished.
 */
async function takeOver(
  { database, staging }: NodeDependencies,
  transform: Transform,
  order: TransformOrder,
  attempt: ProductAttempt,
): Promise<Transformed | undefined> {
  const before = await database.transaction(async (db) => {
    await requireClaim(db, attempt);
    const found = await findStaged(db, attempt.imageId, attempt.product);
    if (found !== undefined && isFinished(found, order)) return found;
    await beginProcessing(db, order.task_id);
    const { image_id: imageId, epoch, disk_format, container_format, roles } = order;
    if (transform.undo !== undefined) {
      await promiseUndo(db, {
        imageId,
        epoch,
        transform: transform.name,
        node: attempt.node,
        diskFormat: disk_format,
        containerFormat: container_format,
        roles: [...roles],
      });
    }
    return takeProduct(db, attempt);
  });
  if (before === undefined) return undefined;
  if (isFinished(before, order)) return madeBefore(before, order);
  await staging.discard({ part: before.part, path: before.path });
  await database.transaction((db) => beginProduct(db, attempt));
  return undefined;
}

/** After a reset of the run, another transform's product may have the number of this one's. */
function isFinished({ state, epoch, made }: StagedRow, order: TransformOrder): boolean {
  return state === "staged" && epoch === order.epoch && made?.transform === order.transform;
}

function madeBefore({ product, made }: StagedRow, order: TransformOrder): Transformed {
  const { diskFormat = order.disk_format, properties = {} } = made ?? {};
  return { product, disk_format: diskFormat as DiskFormat, properties };
}

async function makeProduct(
  dependencies: NodeDependencies,
  transform: Transform,
  order: TransformOrder,
  attempt: ProductAttempt,
  progress: Progress,
): Promise<Transformed> {
  const { database, staging } = dependencies;
  const outcome = await runOn(dependencies, transform, order, attempt, progress);
  const { hasProduct, diskFormat, properties } = outcome;
  if (!hasProduct) {
    await staging.discard({ part: attempt.part });
    await database.transaction((db) => dropStagedRow(db, attempt.imageId, attempt.token));
    return { product: order.product, disk_format: diskFormat, properties };
  }
  await publish(dependencies, transform, attempt, outcome);
  await dropSource(dependencies, order);
  return { product: attempt.product, disk_format: diskFormat, properties };
}

async function runOn(
  dependencies: NodeDependencies,
  transform: Transform,
  order: TransformOrder,
  attempt: ProductAttempt,
  progress: Progress,
): Promise<Outcome> {
  await using source = await openTrustedStaged(dependencies, order, progress);
  if (transform.leavesBytes !== true) await requireRoomFor(dependencies, source);
  const before = await fingerprintOf(source.handle);
  const productPath = dependencies.staging.partPathOf(attempt.part);
  const besideBytes = order.product === 0 ? 0 : source.sizeBytes;
  await using room = await ProductRoom.hold(dependencies, attempt, productPath, besideBytes);
  progress.report(0, source.sizeBytes);
  const signal = AbortSignal.any([progress.signal, room.signal]);
  const outcome = await runTransform(transform, {
    image: {
      id: order.image_id,
      epoch: order.epoch,
      diskFormat: order.disk_format,
      containerFormat: order.container_format,
      roles: order.roles,
    },
    source: source.handle,
    sourcePath: source.path,
    sizeBytes: source.sizeBytes,
    productPath,
    maxProductBytes: room.maxBytes,
    signal,
    report: progress.report,
  });
  signal.throwIfAborted();
  await room.reserve();
  // If the source changed during the run, this product was not made from the verified bytes.
  await requireUnchanged(source, before);
  return outcome;
}

/**
 * Makes sure that the product has room. Its size is unknown; the best guess is that of its source.
 * Holes need no room.
 */
async function requireRoomFor({ staging }: NodeDependencies, source: TrustedStaged): Promise<void> {
  const { size, blocks } = await source.handle.stat();
  await staging.requireRoom(Math.min(size, blocks * 512));
}

async function publish(
  { database, staging, stagingTimeToLiveMs }: NodeDependencies,
  transform: Transform,
  attempt: ProductAttempt,
  { diskFormat, properties }: Outcome,
): Promise<void> {
  const handle = await staging.openPart(attempt.part);
  try {
    await staging.syncPart(handle, attempt.part);
    const requireOurs = () => database.transaction((db) => requireProduct(db, attempt));
    await requireOurs();
    await staging.publish(attempt.part, attempt.path, requireOurs);
    const fingerprint = await fingerprintOf(handle);
    const staged = {
      path: attempt.path,
      sizeBytes: Number(fingerprint.sizeBytes),
      fingerprint,
      // The digest step reads it beside the copies.
      digests: undefined,
      timeToLiveMs: stagingTimeToLiveMs,
    };
    const made = { transform: transform.name, diskFormat, properties };
    await database.transaction((db) => finishProduct(db, attempt, staged, made));
  } finally {
    await handle.close();
  }
}

/** Deletes the previous product. The upload or download is not a product, and is kept. */
async function dropSource(
  { database, staging }: NodeDependencies,
  { image_id: imageId, epoch, product }: TransformOrder,
): Promise<void> {
  if (product === 0) return;
  const row = await database.query((db) => findStaged(db, imageId, product));
  if (row?.epoch !== epoch) return;
  // After a reset the later run may have just made it once more.
  if (isLater(row.attempt, currentAttempt())) return;
  await staging.discard({ part: row.part, path: row.path });
  await database.transaction((db) => dropStagedRow(db, imageId, row.token));
}
