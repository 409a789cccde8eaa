import { listClaims } from "../db/claim-records.ts";
import {
  listDeletionSites,
  listUnfinishedCopyRemovals,
  listUnfinishedDeletions,
} from "../db/deletion-records.ts";
import type { LocationRow } from "../db/image-records.ts";
import { listAbandonedLeases, listLeasesOf, type LeaseRow } from "../db/lease-records.ts";
import { storeAt } from "../domain/place.ts";
import type { CopyToRemove } from "../domain/undo-order.ts";
import type { Dependencies } from "./dependencies.ts";

/** Leftovers that the reconciler has to undo. */
export interface Abandoned {
  /** Claims whose runs have closed without their undo, each with its copies. */
  readonly claims: readonly {
    readonly image_id: string;
    readonly workflow_id: string;
    readonly run_id: string;
    readonly copies: readonly CopyToRemove[];
  }[];
  /** Copies of imports that ended without removing them. */
  readonly copies: readonly CopyToRemove[];
  /** Images whose deletion began and did not end. */
  readonly deletions: readonly string[];
  /**
   * Copies of published images whose removal began and did not end. Absent in histories of 0.1.0.
   */
  readonly removals?: readonly CopyToRemove[];
  /** The staging volume of this worker, and all others with leases, or with copies to remove. */
  readonly nodes: readonly string[];
}

// A deletion that has just begun has a workflow of its own, which may be about to start.
const DELETION_GRACE_MS = 30_000;

// One reconciliation is one history: Temporal ends one of more than 51,200 events, and takes no
// more than 2,000 steps that are under way. The next reconciliation does the rest.
const MOST_CLAIMS = 300;
const MOST_COPIES = 1_000;
const MOST_DELETIONS = 300;
// Queries to Temporal that run at once: a step must look at thousands of claims within its time
// limit.
const QUESTIONS_AT_ONCE = 20;

/** The search for leftovers. */
export function findAbandonedActivities({ database, isRunOpen, staging }: Dependencies) {
  return {
    /**
     * Finds everything that no running import owns. Terminate, reset and lost history run no undo.
     */
    async findAbandoned(): Promise<Abandoned> {
      const held = await database.query(listClaims);
      const orphaned = await filterSideBySide(
        held,
        async ({ workflowId }) => !(await isRunOpen(workflowId)),
      );
      const claims = [];
      for (const claim of sample(orphaned, MOST_CLAIMS)) {
        const leases = await database.query((db) => listLeasesOf(db, claim));
        claims.push({
          image_id: claim.imageId,
          workflow_id: claim.workflowId,
          run_id: claim.runId,
          copies: copiesOf(leases),
        });
      }
      const [leases, deletions, removals, sites] = await Promise.all([
        database.query((db) => listAbandonedLeases(db, { copies: true })),
        database.query((db) => listUnfinishedDeletions(db, DELETION_GRACE_MS)),
        database.query((db) => listUnfinishedCopyRemovals(db, DELETION_GRACE_MS)),
        database.query(listDeletionSites),
      ]);
      const here = "node" in staging ? [staging.node] : [];
      return {
        claims,
        copies: sample(copiesOf(leases), MOST_COPIES),
        deletions: sample(deletions, MOST_DELETIONS),
        removals: sample(removals, MOST_DELETIONS).map(copyToRemove),
        nodes: [...new Set([...here, ...sites])].sort(),
      };
    },
  };
}

/** The items for which `ask` returns true, in their order. */
async function filterSideBySide<Item>(
  items: readonly Item[],
  ask: (item: Item) => Promise<boolean>,
): Promise<Item[]> {
  const answers: boolean[] = [];
  let next = 0;
  const askOnes = async (): Promise<void> => {
    for (let index = next++; index < items.length; index = next++) {
      const item = items[index];
      if (item !== undefined) answers[index] = await ask(item);
    }
  };
  await Promise.all(Array.from({ length: QUESTIONS_AT_ONCE }, askOnes));
  return items.filter((_, index) => answers[index]);
}

/** All items, or a random choice: items that cannot be undone now must not block the others. */
function sample<Item>(items: readonly Item[], most: number): Item[] {
  if (items.length <= most) return [...items];
  const shuffled = items.map((item) => ({ item, at: Math.random() }));
  shuffled.sort((one, other) => one.at - other.at);
  return shuffled.slice(0, most).map(({ item }) => item);
}

/** The copies among leases. The sweeper of the node removes uploads, downloads and products. */
function copiesOf(leases: readonly LeaseRow[]): CopyToRemove[] {
  return leases.flatMap(({ place, ...lease }) => {
    const store = storeAt(place);
    return store === undefined ? [] : [copyToRemove({ ...lease, store })];
  });
}

function copyToRemove(
  copy: Pick<LocationRow, "imageId" | "epoch" | "store" | "node">,
): CopyToRemove {
  return { image_id: copy.imageId, epoch: copy.epoch, store: copy.store, node: copy.node };
}
