import { listClaims } from "../db/claim-records.ts";
import { listDeletionSites, listUnfinishedCopyRemovals } from "../db/deletion-records.ts";
import { listUnfinishedDeletions } from "../db/image-records.ts";
import { listAbandonedLeases, listLeasesOf, type CopyId } from "../db/lease-records.ts";
import type { Dependencies } from "./dependencies.ts";

/** A copy that no running import owns. */
export interface AbandonedCopy {
  readonly image_id: string;
  readonly epoch: number;
  readonly store: string;
  readonly node: string;
}

/** What the reconciler has to undo. */
export interface Abandoned {
  /** Claims whose runs have closed without their undo, each with its copies. */
  readonly claims: readonly {
    readonly image_id: string;
    readonly workflow_id: string;
    readonly run_id: string;
    readonly copies: readonly AbandonedCopy[];
  }[];
  /** Copies of imports that ended without removing them. */
  readonly copies: readonly AbandonedCopy[];
  /** Images whose deletion began and did not end. */
  readonly deletions: readonly string[];
  /** Copies of published images whose removal began and did not end; not told in histories of 0.1.0. */
  readonly removals?: readonly AbandonedCopy[];
  /** All staging volumes that hold something. */
  readonly nodes: readonly string[];
}

// A deletion that began just now has a workflow of its own, which may be about to start.
const DELETION_GRACE_MS = 30_000;

/** What the reconciler looks for. */
export function findAbandonedActivities({ database, isRunOpen, staging }: Dependencies) {
  return {
    /** Finds what no running import owns: after terminate, reset and lost history, which run no undo. */
    async findAbandoned(): Promise<Abandoned> {
      const claims = [];
      for (const claim of await database.query(listClaims)) {
        if (await isRunOpen(claim.workflowId)) continue;
        const leases = await database.query((db) => listLeasesOf(db, claim));
        claims.push({
          image_id: claim.imageId,
          workflow_id: claim.workflowId,
          run_id: claim.runId,
          copies: leases.map(abandonedCopy),
        });
      }
      const [leases, deletions, removals, sites] = await Promise.all([
        database.query(listAbandonedLeases),
        database.query((db) => listUnfinishedDeletions(db, DELETION_GRACE_MS)),
        database.query((db) => listUnfinishedCopyRemovals(db, DELETION_GRACE_MS)),
        database.query(listDeletionSites),
      ]);
      const here = "node" in staging ? [staging.node] : [];
      return {
        claims,
        copies: leases.map(abandonedCopy),
        deletions,
        removals: removals.map(abandonedCopy),
        nodes: [...new Set([...here, ...sites])].sort(),
      };
    },
  };
}

function abandonedCopy(copy: CopyId & { readonly node: string }): AbandonedCopy {
  return { image_id: copy.imageId, epoch: copy.epoch, store: copy.store, node: copy.node };
}
