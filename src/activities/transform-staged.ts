import { randomUUID } from "node:crypto";
import { fingerprintOf } from "../bytes/fingerprint.ts";
import {
  dropLease,
  finishLease,
  listLeasesOf,
  promiseUndo,
  requireLease,
  type LeaseId,
} from "../db/lease-records.ts";
import { recordStaged, type StagedRow } from "../db/staged-facts.ts";
import type { Queries } from "../db/connect.ts";
import type { AttemptOrder } from "../domain/attempt-order.ts";
import type { DiskFormat } from "../domain/disk-format.ts";
import { ImportError } from "../domain/import-failure.ts";
import { productPlace, transformAt, transformPlace } from "../domain/place.ts";
import { thisProcess } from "../processes/process-identity.ts";
import type { UndoOrder } from "../domain/undo-order.ts";
import { runTransform, type Outcome } from "../transforms/run-transform.ts";
import type { Transform } from "../transforms/transform.ts";
import { attemptKey, currentAttempt } from "./attempts.ts";
import type { NodeDependencies } from "./dependencies.ts";
import { Doubts } from "./doubts.ts";
import { holdLease, type HeldLease } from "./hold-lease.ts";
import { patiently } from "./patiently.ts";
import { withProgress, type Progress } from "./progress.ts";
import { releaseLease } from "./release-lease.ts";
import {
  openTrustedStaged,
  requireUnchanged,
  type StagedOrder,
  type TrustedStaged,
} from "./staged-data.ts";
import { ProductRoom } from "./product-room.ts";

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
  /** The program that made the product, with its version. */
  readonly tool?: string;
}

/** One transform of the staged bytes. Its undo is {@link discardProductsActivities}. */
export function transformStagedActivities(dependencies: NodeDependencies) {
  const { transforms, idleTimeoutMs, staging } = dependencies;
  const doubts = new Doubts();
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
          about: { step: "transform", transform: order.transform },
          idleTimeoutMs,
          idleFailure: "TransformUnavailable",
        },
        async (progress) =>
          holdLease(
            dependencies,
            order,
            productPlace(order.product + 1),
            {
              pathOf: (part) => staging.productPathOf(part),
              resultOf: async (lease) => {
                const made = madeBefore(lease, order);
                if (made !== undefined) await dropSource(dependencies, order);
                return made;
              },
              alsoTake: (db, attempt) =>
                promiseEffects(db, staging.node, transform, order, attempt),
            },
            progress,
            (held, stoppable) =>
              doubts.settle(held.id, () =>
                makeProduct(dependencies, transform, order, held, stoppable),
              ),
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
     * The upload or download stays. Succeeds if nothing is there.
     *
     * @throws ImportError retried `AttemptOvertaken` when a later run of the same import makes a
     *   product; `BadConfiguration`, or retried `TransformUnavailable`, for a transform that can't
     *   be undone, when all else is done
     */
    async discardProducts(order: UndoOrder): Promise<void> {
      const claim = { imageId: order.image_id, epoch: order.epoch };
      const attempt = currentAttempt();
      await attempts.end(attemptKey({ ...claim, place: "product/1" }), attempt);
      const all = await database.query((db) => listLeasesOf(db, claim));
      const here = all.filter(({ node }) => node === staging.node);
      const products = here.filter(({ place }) => place.startsWith("product/"));
      for (const product of products) await releaseLease(dependencies, product, attempt);
      const effects = here.filter(({ place }) => transformAt(place) !== undefined);
      const undone = await Promise.allSettled(
        effects.map((effect) => releaseLease(dependencies, effect, attempt)),
      );
      for (const undo of undone) if (undo.status === "rejected") throw undo.reason;
    },
  };
}

/** Promises, before a transform runs, to undo its outside effects with its import. */
async function promiseEffects(
  db: Queries,
  node: string,
  transform: Transform,
  { image_id: imageId, epoch, disk_format, container_format, roles }: TransformOrder,
  attempt: AttemptOrder,
): Promise<void> {
  if (transform.undo === undefined) return;
  const effects = { diskFormat: disk_format, containerFormat: container_format, roles };
  const holder = { node, token: randomUUID(), writer: await thisProcess(), attempt };
  const place = transformPlace(transform.name);
  await promiseUndo(db, { imageId, epoch, place }, holder, effects);
}

/**
 * The product that an earlier attempt made. After a reset of the run, another transform's product
 * may have the number of this one's.
 */
function madeBefore({ state, made }: StagedRow, order: TransformOrder): Transformed | undefined {
  if (state !== "whole" || made?.transform !== order.transform) return undefined;
  const { diskFormat, properties, tool } = made;
  return {
    product: order.product + 1,
    disk_format: diskFormat as DiskFormat,
    properties,
    ...(tool === undefined ? {} : { tool }),
  };
}

async function makeProduct(
  dependencies: NodeDependencies,
  transform: Transform,
  order: TransformOrder,
  held: HeldLease,
  progress: Progress,
): Promise<Transformed> {
  const { database, staging } = dependencies;
  try {
    const outcome = await runOn(dependencies, transform, order, held, progress);
    const { hasProduct, diskFormat, properties, tool } = outcome;
    if (hasProduct) {
      await publish(dependencies, transform, held, outcome, progress);
      await dropSource(dependencies, order);
    } else {
      await staging.discard({ part: held.part });
      await patiently(progress, () =>
        database.transaction((db) => dropLease(db, held.id, held.token)),
      );
    }
    const product = hasProduct ? order.product + 1 : order.product;
    return {
      product,
      disk_format: diskFormat,
      properties,
      ...(tool === undefined ? {} : { tool }),
    };
  } catch (error) {
    // The attempt that took over, or the undo, may remove the part, too. But if this attempt is
    // late, only it knows the name of its part.
    await staging.discard({ part: held.part }).catch(() => undefined);
    throw error;
  }
}

async function runOn(
  dependencies: NodeDependencies,
  transform: Transform,
  order: TransformOrder,
  { id, part }: HeldLease,
  progress: Progress,
): Promise<Outcome> {
  await using source = await openTrustedStaged(dependencies, order, progress);
  if (transform.leavesBytes !== true) await requireRoomFor(dependencies, source);
  const before = await fingerprintOf(source.handle);
  const productPath = dependencies.staging.partPathOf(part);
  const besideBytes = order.product === 0 ? 0 : source.sizeBytes;
  await using room = await ProductRoom.hold(dependencies, id, productPath, besideBytes);
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
  await room.reserveAll(progress);
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
  { id, token, part, path }: HeldLease,
  { diskFormat, properties, tool }: Outcome,
  progress: Progress,
): Promise<void> {
  const handle = await staging.openPart(part);
  try {
    await staging.syncPart(handle, part);
    const requireOurs = async (): Promise<void> => {
      await patiently(progress, () => database.transaction((db) => requireLease(db, id, token)));
    };
    await requireOurs();
    await staging.publish(part, path, requireOurs);
    const fingerprint = await fingerprintOf(handle);
    const made = { transform: transform.name, diskFormat, properties, tool };
    await patiently(progress, () =>
      database.transaction(async (db) => {
        await finishLease(db, id, token);
        await recordStaged(db, id, {
          sizeBytes: Number(fingerprint.sizeBytes),
          fingerprint,
          // The digest step reads it beside the copies.
          digests: undefined,
          timeToLiveMs: stagingTimeToLiveMs,
          made,
        });
      }),
    );
  } finally {
    await handle.close();
  }
}

/** Deletes the previous product. The upload or download is not a product, and is kept. */
async function dropSource(
  dependencies: NodeDependencies,
  { image_id: imageId, epoch, product }: TransformOrder,
): Promise<void> {
  if (product === 0) return;
  const source: LeaseId = { imageId, epoch, place: productPlace(product) };
  try {
    await releaseLease(dependencies, source, currentAttempt());
  } catch (error) {
    // After a reset, the later run has just made this product again, and needs it.
    if (!(error instanceof ImportError && error.code === "AttemptOvertaken")) throw error;
  }
}
