import { randomUUID } from "node:crypto";
import { basename } from "node:path";
import { log } from "@temporalio/activity";
import { keyOfPart } from "../bytes/part-name.ts";
import { thisProcess } from "../bytes/process-identity.ts";
import {
  dropStaging,
  listExpiredStaging,
  listStaged,
  STAGING_LEASE_SECONDS,
  takeOverStaging,
} from "../db/staged-records.ts";
import { listLeases } from "../db/lease-records.ts";
import { listAbandonedUndos } from "../db/transform-undo-records.ts";
import type { NodeDependencies } from "./dependencies.ts";
import { undoTransform } from "./undo-transform.ts";

/** What a sweep removed. */
export interface Swept {
  readonly staged: number;
  readonly parts: number;
}

/**
 * Removes from the staging area and the stores of a node what nobody owns: stagings whose stager died, staged data
 * past its time to live, products of imports that are over, private files without a row; and undoes what transforms did
 * elsewhere for such imports. What can't be removed now keeps nothing else from going; then the first failure is thrown.
 */
export async function sweepNode(dependencies: NodeDependencies): Promise<Swept> {
  const [staged, parts, undone] = await Promise.allSettled([
    sweepStaging(dependencies),
    sweepParts(dependencies),
    sweepUndos(dependencies),
  ]);
  if (staged.status === "rejected") throw staged.reason;
  if (parts.status === "rejected") throw parts.reason;
  if (undone.status === "rejected") throw undone.reason;
  return { staged: staged.value, parts: parts.value };
}

/** The sweep as a step of the reconciler. */
export function sweepNodeActivities(dependencies: NodeDependencies) {
  return {
    /** Runs {@link sweepNode} and says what it removed. */
    async sweepNode(): Promise<Swept> {
      const swept = await sweepNode(dependencies);
      if (swept.staged + swept.parts > 0) log.info("Swept what nobody owns", { ...swept });
      return swept;
    },
  };
}

async function sweepStaging({ database, staging }: NodeDependencies): Promise<number> {
  const sweeper = { node: staging.node, writer: await thisProcess() };
  const expired = await database.query((db) => listExpiredStaging(db, staging.node));
  return sweepEach(expired, async (row) => {
    const token = randomUUID();
    const taken = await database.transaction((db) =>
      takeOverStaging(db, row, { ...sweeper, token }),
    );
    if (taken === undefined) return 0;
    await staging.discard({ part: taken.part, path: taken.path });
    await database.transaction((db) => dropStaging(db, row.imageId, token));
    return 1;
  });
}

async function sweepParts({ database, staging, stores }: NodeDependencies): Promise<number> {
  // The rows are read after the names: a name whose row comes later has a row by now.
  const olderThanMs = STAGING_LEASE_SECONDS * 1000;
  const stagedParts = await staging.listParts(olderThanMs);
  const owned = await database.query((db) => listStaged(db, staging.node));
  const names = new Set(owned.flatMap(({ part, path }) => [part, basename(path)]));
  const orphans = stagedParts.filter((part) => !names.has(part));
  for (const part of orphans) await staging.discard({ part });
  const swept = await sweepEach(stores.names, async (name) => {
    const store = stores.get(name);
    if (!(await store.check()).works) return 0;
    const parts = await store.listParts(olderThanMs);
    // An import that runs owns all private names of its key: those of its earlier attempts go when it has ended.
    const leased = new Set(
      (await database.query((db) => listLeases(db, name))).map(({ key }) => key),
    );
    const unowned = parts.filter((part) => !leased.has(keyOfPart(part)));
    await store.remove(unowned);
    return unowned.length;
  });
  return orphans.length + swept;
}

async function sweepUndos(dependencies: NodeDependencies): Promise<number> {
  const { database, staging } = dependencies;
  const abandoned = await database.query((db) => listAbandonedUndos(db, staging.node));
  return sweepEach(abandoned, async (undo) => {
    await undoTransform(dependencies, undo);
    return 1;
  });
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
