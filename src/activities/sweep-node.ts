import { basename } from "node:path";
import { log } from "@temporalio/activity";
import { keyOfPart } from "../bytes/part-name.ts";
import type { Database } from "../db/connect.ts";
import {
  listAbandonedLeases,
  listNodeLeases,
  listStoreLeases,
  STAGING_LEASE_SECONDS,
  takeAbandonedLease,
  type LeaseRow,
} from "../db/lease-records.ts";
import { isInStaging, storeAt, storePlace, transformAt, type Place } from "../domain/place.ts";
import type { Store } from "../stores/store.ts";
import type { NodeDependencies } from "./dependencies.ts";
import { removeTaken } from "./release-lease.ts";
import { StoreCalls } from "./store-calls.ts";

/** The number of things that a sweep removed. */
export interface Swept {
  readonly staged: number;
  readonly parts: number;
}

/**
 * Removes everything without an owner from the staging area and the stores of a node: parts of
 * uploads whose process died, uploads past their time to live, downloads and products of imports
 * that are over, private files without a lease. Undoes the outside effects of transforms of such
 * imports. A failure does not stop the rest; the first one is thrown at the end.
 */
export async function sweepNode(dependencies: NodeDependencies): Promise<Swept> {
  const [staged, parts] = await Promise.allSettled([
    sweepLeases(dependencies),
    sweepParts(dependencies),
  ]);
  if (staged.status === "rejected") throw staged.reason;
  if (parts.status === "rejected") throw parts.reason;
  return { staged: staged.value, parts: parts.value };
}

/** Things without an owner on a node, which a sweep removes or undoes. */
export interface Unowned {
  /** Leases of uploads, downloads, products and effects of transforms. */
  readonly leases: readonly { readonly image_id: string; readonly place: Place }[];
  /** Private files without a lease; `store`: null for those in staging. */
  readonly parts: readonly { readonly store: string | null; readonly name: string }[];
  /** The number of those that are not listed. */
  readonly left_out: number;
}

// Limit of the leases, and of the parts: Temporal accepts results of up to 2 MiB.
const MOST_LISTED = 1_000;

/** The sweep as a step of the reconciler, and the look that changes nothing. */
export function sweepNodeActivities(dependencies: NodeDependencies) {
  return {
    /** Runs {@link sweepNode} and returns what it removed. */
    async sweepNode(): Promise<Swept> {
      const swept = await sweepNode(dependencies);
      if (swept.staged + swept.parts > 0) log.info("Removed files without an owner", { ...swept });
      return swept;
    },

    /** Finds what {@link sweepNode} would remove now, and changes nothing. */
    async findUnowned(): Promise<Unowned> {
      const { database, stores } = dependencies;
      const leases = await findLeases(dependencies);
      const staged = await findParts(dependencies);
      const stored = await Promise.all(
        stores.names.map((name) =>
          sweeps.run(name, async () =>
            (await findStoreParts(database, stores.get(name))).map((part) => [name, part] as const),
          ),
        ),
      );
      const parts = [
        ...staged.map((name) => ({ store: null, name })),
        ...stored.flat().map(([store, name]) => ({ store, name })),
      ];
      const leftOut = [leases, parts].map(({ length }) => Math.max(0, length - MOST_LISTED));
      return {
        leases: leases
          .slice(0, MOST_LISTED)
          .map(({ imageId, place }) => ({ image_id: imageId, place })),
        parts: parts.slice(0, MOST_LISTED),
        left_out: leftOut.reduce((sum, each) => sum + each, 0),
      };
    },
  };
}

/** The abandoned leases of a node, without those of copies. */
async function findLeases({ database, staging }: NodeDependencies): Promise<LeaseRow[]> {
  const abandoned = await database.query((db) => listAbandonedLeases(db, { node: staging.node }));
  return abandoned.filter(({ place }) => storeAt(place) === undefined);
}

/**
 * Removes the bytes that abandoned leases name, and undoes effects of transforms. The reconciler
 * removes copies, store by store.
 */
async function sweepLeases(dependencies: NodeDependencies): Promise<number> {
  const byTool = new Map<string, LeaseRow[]>();
  for (const lease of await findLeases(dependencies)) {
    const tool = transformAt(lease.place) ?? "";
    byTool.set(tool, [...(byTool.get(tool) ?? []), lease]);
  }
  // In parallel: a transform whose undo hangs does not delay the others.
  return settled(
    [...byTool.values()].map((leases) =>
      sweepEach(leases, (lease) => sweepLease(dependencies, lease)),
    ),
  );
}

/** @returns 1 if it removed an upload, download or product, complete or not; else 0 */
async function sweepLease(dependencies: NodeDependencies, lease: LeaseRow): Promise<number> {
  const isRemoved = await removeTaken(dependencies, (db, taker) =>
    takeAbandonedLease(db, lease, taker),
  );
  return isRemoved && isInStaging(lease.place) ? 1 : 0;
}

// Listing takes time in proportion to the number of names; the sweep runs again five minutes later.
const sweeps = new StoreCalls({ limitMs: 90_000, atOnce: 1 });

async function sweepParts(dependencies: NodeDependencies): Promise<number> {
  const { database, stores } = dependencies;
  // In parallel: a store that does not respond delays neither the others nor the staging area.
  return settled([
    sweepStaging(dependencies),
    ...stores.names.map((name) => sweeps.run(name, () => sweepStore(database, stores.get(name)))),
  ]);
}

async function sweepStaging(dependencies: NodeDependencies): Promise<number> {
  return sweepEach(await findParts(dependencies), async (part) => {
    await dependencies.staging.discard({ part });
    return 1;
  });
}

/** The names of private files in staging that no lease has. */
async function findParts({ database, staging }: NodeDependencies): Promise<string[]> {
  // The leases are read after the names: a name that got its lease meanwhile has one now.
  const olderThanMs = STAGING_LEASE_SECONDS * 1000;
  const stagedParts = await staging.listParts(olderThanMs);
  const owned = await database.query((db) => listNodeLeases(db, staging.node));
  const names = new Set(
    owned.flatMap(({ earlierParts, part, path }) => [...earlierParts, part, basename(path)]),
  );
  return stagedParts.filter((part) => !names.has(part));
}

async function sweepStore(database: Database, store: Store): Promise<number> {
  const unowned = await findStoreParts(database, store);
  if (unowned.length > 0) await store.remove(unowned);
  return unowned.length;
}

/** The names of unfinished copies in a store that no lease has; none if the store does not work. */
async function findStoreParts(database: Database, store: Store): Promise<string[]> {
  if (!(await store.check()).works) return [];
  const parts = await store.listParts(STAGING_LEASE_SECONDS * 1000);
  // A running import owns all private names of its key; those of its earlier attempts are removed
  // when it has ended.
  const rows = await database.query((db) => listStoreLeases(db, storePlace(store.name)));
  const leased = new Set(rows.map(({ path }) => path));
  return parts.filter((part) => !leased.has(keyOfPart(part)));
}

/** The sum of parallel sweeps. When all have ended, the first failure is thrown. */
async function settled(sweeping: readonly Promise<number>[]): Promise<number> {
  let swept = 0;
  for (const each of await Promise.allSettled(sweeping)) {
    if (each.status === "rejected") throw each.reason;
    swept += each.value;
  }
  return swept;
}

async function sweepEach<Item>(
  items: readonly Item[],
  sweep: (item: Item) => Promise<number>,
): Promise<number> {
  const failures: unknown[] = [];
  let swept = 0;
  for (const item of items) {
    try {
      swept += await sweep(item);
    } catch (error) {
      failures.push(error);
    }
  }
  if (failures.length > 0) throw failures[0];
  return swept;
}
