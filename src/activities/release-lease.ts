import { randomUUID } from "node:crypto";
import {
  dropLease,
  namesOf,
  takeLeaseAway,
  type LeaseId,
  type LeaseRow,
  type LeaseTaker,
} from "../db/lease-records.ts";
import type { AttemptOrder } from "../domain/attempt-order.ts";
import { storeAt, transformAt } from "../domain/place.ts";
import { thisProcess } from "../processes/process-identity.ts";
import type { NodeDependencies } from "./dependencies.ts";
import type { StoreCalls } from "./store-calls.ts";
import { undoTransform } from "./undo-transform.ts";

/**
 * The undo of every step that writes: takes the lease away, removes all bytes that it names, and
 * forgets it. A late writer that begins after that cannot finish. A published copy stays. Nothing
 * there is success.
 *
 * @param attempt - of the undo: what a later attempt writes is not removed. Default: no attempt is
 *   later
 * @param calls - through which a store is called. Default: it is called directly
 * @throws ImportError `AttemptOvertaken`; what {@link removeLeased} throws
 */
export async function releaseLease(
  dependencies: NodeDependencies,
  id: LeaseId,
  attempt: AttemptOrder | null = null,
  calls?: StoreCalls,
): Promise<void> {
  const { database } = dependencies;
  const taker: LeaseTaker = { token: randomUUID(), writer: await thisProcess(), attempt };
  const lease = await database.transaction((db) => takeLeaseAway(db, id, taker));
  if (lease === undefined) return;
  await removeLeased(dependencies, lease, calls);
  await database.transaction((db) => dropLease(db, id, taker.token));
}

/**
 * Removes the bytes that a lease names from its store or from staging, or undoes the effects of its
 * transform. Nothing there is success.
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
