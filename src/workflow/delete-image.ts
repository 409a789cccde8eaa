import { getExternalWorkflowHandle, log, patched } from "@temporalio/workflow";
import type { CopyToRemove } from "../domain/undo-order.ts";
import { control, removalSteps, waiting } from "./steps.ts";

/**
 * Deletes the bytes of an image that is `pending_delete`: cancels the import that claims it,
 * removes the bytes from each store and staging area, retried while one is unreachable, and changes
 * the image to `deleted`.
 */
export async function deleteImage(imageId: string): Promise<void> {
  for (;;) {
    const plan = await control.planDeletion.executeWithOptions(
      { summary: "plan: which bytes remain?" },
      [imageId],
    );
    if (plan.import_workflow_id !== null) {
      await cancelImport(plan.import_workflow_id);
      await waiting.awaitRelease.executeWithOptions(
        { summary: "wait until the import releases its claim" },
        [imageId],
      );
      continue;
    }
    await removeBytes(imageId, plan.nodes);
    const isDone = await control.finishDeletion.executeWithOptions(
      { summary: "record: the image is deleted" },
      [imageId],
    );
    if (isDone) return;
  }
}

/** Removes the bytes on all nodes. An unreachable node does not delay the others. */
async function removeBytes(imageId: string, nodes: readonly string[]): Promise<void> {
  const remove = async (node: string): Promise<void> =>
    removalSteps(node).removeImageBytes.executeWithOptions(
      { summary: `remove the bytes on ${node}` },
      [imageId],
    );
  // In the first histories of 0.1.0 the nodes follow one another.
  if (nodes.length > 1 && patched("nodes-side-by-side")) await Promise.all(nodes.map(remove));
  else for (const node of nodes) await remove(node);
}

/**
 * Removes the bytes of one copy that readers do not see any more, retried while its store is
 * unreachable. The image stays.
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
    // The import has closed. If its undo failed, the reconciler releases the claim.
    log.info("The import to cancel is not running", { workflowId, error });
  }
}
