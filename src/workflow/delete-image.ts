import { getExternalWorkflowHandle, log } from "@temporalio/workflow";
import type { CopyToRemove } from "./contract.ts";
import { control, removalSteps, waiting } from "./steps.ts";

/**
 * Deletes the bytes of an image that is `pending_delete`: cancels the import that still holds it, removes the bytes
 * where they lie, retried while a store is away, and ends with the image `deleted`.
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
    for (const node of plan.nodes) {
      await removalSteps(node).removeImageBytes.executeWithOptions(
        { summary: `remove the bytes on ${node}` },
        [imageId],
      );
    }
    const isDone = await control.finishDeletion.executeWithOptions({ summary: "deleted" }, [
      imageId,
    ]);
    if (isDone) return;
  }
}

/** Removes the bytes of one copy that readers do not see any more, retried while its store is away; the image stays. */
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
    // It has closed by itself; if it could not undo, the reconciler releases its claim.
    log.info("The import to cancel is not running", { workflowId, error: String(error) });
  }
}
