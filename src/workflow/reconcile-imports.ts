import { log, ParentClosePolicy, startChild } from "@temporalio/workflow";
import type { AbandonedCopy } from "../activities/find-abandoned.ts";
import { copyRemovalWorkflowId, deletionWorkflowId, type CopyToRemove } from "./contract.ts";
import { deleteImage, removeImageCopy } from "./delete-image.ts";
import { describeFailure } from "./failure-report.ts";
import { cleanUpSteps, control, undoSteps } from "./steps.ts";

/** What a reconciliation undid. */
export interface Reconciled {
  readonly claims: number;
  readonly copies: number;
  /** Of images, and of single copies. */
  readonly deletions: number;
  /** What could not be done now; the next reconciliation tries again. */
  readonly failures: readonly string[];
}

/**
 * Undoes what no running import owns: a terminated run, a reset one, one whose history was lost, and an undo that
 * could not reach its store. Runs on a Schedule; each run stands alone.
 */
export async function reconcileImports(): Promise<Reconciled> {
  const failures: string[] = [];
  const attempt = async (what: string, work: () => Promise<unknown>): Promise<number> => {
    try {
      await work();
      return 1;
    } catch (error) {
      const { type, text } = describeFailure(error);
      log.warn("Could not reconcile, the next run tries again", { what, type, text });
      failures.push(`${what}: ${type}: ${text}`);
      return 0;
    }
  };
  const found = await control.findAbandoned.executeWithOptions(
    { summary: "what does no running import own?" },
    [],
  );
  let [claims, copies, deletions] = [0, 0, 0];
  for (const claim of found.claims) {
    for (const copy of claim.copies) copies += await attempt(nameOf(copy), () => remove(copy));
    claims += await attempt(`claim of ${claim.image_id}`, () => release(claim));
  }
  for (const copy of found.copies) copies += await attempt(nameOf(copy), () => remove(copy));
  for (const imageId of found.deletions) {
    deletions += await attempt(`deletion of ${imageId}`, () => goOnDeleting(imageId));
  }
  for (const copy of found.removals ?? []) {
    deletions += await attempt(`removal of the ${nameOf(copy)}`, () => goOnRemoving(copy));
  }
  for (const node of found.nodes) {
    await attempt(`sweep of ${node}`, () =>
      cleanUpSteps(node).sweepNode.executeWithOptions({ summary: `sweep ${node}` }, []),
    );
  }
  return { claims, copies, deletions, failures };
}

function nameOf({ image_id, store }: AbandonedCopy): string {
  return `copy of ${image_id} in ${store}`;
}

async function remove({ image_id, epoch, store, node }: AbandonedCopy): Promise<void> {
  await undoSteps(node).removeCopy.executeWithOptions({ summary: `remove a copy in ${store}` }, [
    { image_id, epoch, store },
  ]);
}

async function release(claim: {
  readonly image_id: string;
  readonly workflow_id: string;
  readonly run_id: string;
}): Promise<void> {
  const { image_id, workflow_id, run_id } = claim;
  await control.releaseImport.executeWithOptions({ summary: `release ${image_id}` }, [
    {
      image_id,
      workflow_id,
      run_id,
      message: "Error: ImportAbandoned: its run was ended without an undo",
      failed_stores: [],
    },
  ]);
}

async function goOnDeleting(imageId: string): Promise<void> {
  await unlessRunning(() =>
    startChild(deleteImage, {
      workflowId: deletionWorkflowId(imageId),
      args: [imageId],
      parentClosePolicy: ParentClosePolicy.ABANDON,
    }),
  );
}

async function goOnRemoving(copy: CopyToRemove): Promise<void> {
  await unlessRunning(() =>
    startChild(removeImageCopy, {
      workflowId: copyRemovalWorkflowId(copy),
      args: [copy],
      parentClosePolicy: ParentClosePolicy.ABANDON,
    }),
  );
}

async function unlessRunning(start: () => Promise<unknown>): Promise<void> {
  try {
    await start();
  } catch (error) {
    // Its own workflow runs already.
    if (!(error instanceof Error) || error.name !== "WorkflowExecutionAlreadyStartedError")
      throw error;
  }
}
