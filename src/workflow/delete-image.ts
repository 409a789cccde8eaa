import { getExternalWorkflowHandle, log, patched } from "@temporalio/workflow";
import type { CopyToRemove } from "./contract.ts";
import { control, removalSteps, waiting } from "./steps.ts";

/**
 * Deletes the bytes of an image that is `pending_delete`: cancels the import that still holds it,
 * removes the bytes where they lie, retried while a store is away, and ends with the image
 * `deleted`.
 */
export async function deleteImage(imageId: string): Promise<void> {
  for (;;) {
    const plan = await control.planDeletion.executeWithOptions({ summary: "what is left?" }, [
      imageId,
    ]);
    if (plan.import_workflow_id !== null) {
      await cancelImport(plan.import_workflow_id);
      await waiting.awaitRelease.executeWithOptions({ summary: "wait for the import to let go" }, [
        imageId,
      ]);
      continue;
    }
    await removeBytes(imageId, plan.nodes);
    const isDone = await control.finishDeletion.executeWithOptions({ summary: "deleted" }, [
      imageId,
    ]);
    if (isDone) return;
  }
}

/** A node that is away keeps no other from removing what it has. */
async function removeBytes(imageId: string, nodes: readonly string[]): Promise<void> {
  const remove = async (node: string): Promise<void> =>
    removalSteps(node).removeImageBytes.executeWithOptions(
      { summary: `remove the bytes on ${node}` },
      [imageId],
    );
  // Histories of 0.1.0 have the nodes one after the other.
  if (nodes.length > 1 && patched("nodes-side-by-side")) await Promise.all(nodes.map(remove));
  else for (const node of nodes) await remove(node);
}

/**
 * Removes the bytes of one copy that readers do not see any more, retried while its store is away;
 * the image stays.
 */
export async function removeImageCopy({
  image_id,
  epoch,
  store,
  node,
}: CopyToRemove): Promise<void> {
  await removalSteps(node).removePublishedCopy.executeWithOptions(
    { summary: `remove the copy in ${store}` },
    [{ image_id, epoch, store }],
  );
}

async function cancelImport(workflowId: string): Promise<void> {
  try {
    await getExternalWorkflowHandle(workflowId).cancel();
  } catch (error) {
    // The import has closed. If it could not undo, the reconciler releases its claim.
    log.info("The import to cancel is not running", { workflowId, error });
  }
}
