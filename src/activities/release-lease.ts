import { randomUUID } from "node:crypto";
import type { Queries } from "../db/connect.ts";
import {
  dropLease,
  namesOf,
  takeLeaseAway,
  type LeaseId,
  type LeaseRow,
  type LeaseTaker,
} from "../db/lease-records.ts";
import { dropStaging } from "../db/upload-records.ts";
import type { AttemptOrder } from "../domain/attempt-order.ts";
import { storeAt, transformAt } from "../domain/place.ts";
import { thisProcess } from "../processes/process-identity.ts";
import type { NodeDependencies } from "./dependencies.ts";
import type { StoreCalls } from "./store-calls.ts";
import { undoTransform } from "./undo-transform.ts";

/**
 * The undo of every step that writes: takes the lease away, removes all bytes that it names, and
 * forgets it. A late writer that begins after that cannot finish. A published copy stays. Succeeds
 * if nothing is there.
 *
 * @param attempt - the place of the undo among the attempts: bytes of a later attempt are not
 *   removed. Default: no attempt is later
 * @param calls - through which a store is called. Default: it is called directly
 * @throws ImportError `AttemptOvertaken`; what {@link removeLeased} throws
 */
export async function releaseLease(
  dependencies: NodeDependencies,
  id: LeaseId,
  attempt: AttemptOrder | null = null,
  calls?: StoreCalls,
): Promise<void> {
  const take: TakeLease = (db, taker) => takeLeaseAway(db, id, { ...taker, attempt });
  await removeTaken(dependencies, take, calls);
}

/** Takes a lease away for the removal of its bytes; undefined when there is nothing to remove. */
type TakeLease = (db: Queries, taker: LeaseTaker) => Promise<LeaseRow | undefined>;

/**
 * Takes a lease away, removes all bytes that it names, and forgets it. An image that loses its
 * upload is `queued` again.
 *
 * @param calls - through which a store is called. Default: it is called directly
 * @returns false when nothing was taken
 * @throws ImportError what `take` and {@link removeLeased} throw
 */
export async function removeTaken(
  dependencies: NodeDependencies,
  take: TakeLease,
  calls?: StoreCalls,
): Promise<boolean> {
  const { database } = dependencies;
  const taker = { token: randomUUID(), writer: await thisProcess() };
  const lease = await database.transaction((db) => take(db, taker));
  if (lease === undefined) return false;
  await removeLeased(dependencies, lease, calls);
  await database.transaction(async (db) =>
    lease.place === "upload"
      ? dropStaging(db, lease.imageId, taker.token)
      : dropLease(db, lease, taker.token),
  );
  return true;
}

/**
 * Removes the bytes that a lease names from its store or from staging, or undoes the effects of its
 * transform. Succeeds if nothing is there.
 *
 * @param calls - through which a store is called. Default: it is called directly
 * @throws ImportError retried: `StoreUnavailable`, `StagingUnavailable`, `TransformUnavailable`;
 *   `PermissionDenied`; `BadConfiguration` for a transform that this worker does not have
 */
export async function removeLeased(
  dependencies: NodeDependencies,
  lease: LeaseRow,
  calls?: StoreCalls,
): Promise<void> {
  const { stores, staging } = dependencies;
  const store = storeAt(lease.place);
  const transform = transformAt(lease.place);
  if (store !== undefined) {
    const remove = () => stores.get(store).remove(namesOf(lease));
    await (calls === undefined ? remove() : calls.run(store, remove));
  } else if (transform !== undefined) await undoTransform(dependencies, transform, lease);
  else {
    await removeEarlierParts(dependencies, lease);
    await staging.discard({ part: lease.part, path: lease.path });
  }
}

/** Removes the bytes of attempts before the one that holds a lease. */
export async function removeEarlierParts(
  { stores, staging }: NodeDependencies,
  { place, earlierParts }: Pick<LeaseRow, "place" | "earlierParts">,
): Promise<void> {
  const store = storeAt(place);
  if (store !== undefined) {
    await stores.get(store).remove(earlierParts);
    return;
  }
  for (const part of earlierParts) {
    await staging.discard({ part, path: staging.productPathOf(part) });
  }
}
