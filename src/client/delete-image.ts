import {
  WorkflowExecutionAlreadyStartedError,
  WorkflowFailedError,
  type Client,
} from "@temporalio/client";
import { ImportError } from "../domain/import-failure.ts";
import { timerMs } from "../domain/timer-ms.ts";
import type { CopyToRemove } from "../domain/undo-order.ts";
import { CONTROL_QUEUE, copyRemovalWorkflowId, deletionWorkflowId } from "../workflow/contract.ts";
import { temporalFailure } from "../temporal/temporal-failure.ts";

/** The state of a deletion; from `pending_delete` the workers continue it. */
export type DeletionState = "deleted" | "pending_delete";

/** The state of the removal of a copy; from `pending_delete` the workers continue it. */
export type CopyRemovalState = "removed" | "pending_delete";

/**
 * Starts the workflow that removes the bytes of an image in `pending_delete`, and waits for it for
 * some time. If Temporal is unreachable, the reconciler starts it later.
 *
 * @internal
 */
export async function finishDeletion(
  connect: () => Promise<Client>,
  imageId: string,
  waitMs: number,
): Promise<DeletionState> {
  const deletion = {
    type: "deleteImage",
    workflowId: deletionWorkflowId(imageId),
    args: [imageId],
    staticSummary: `delete ${imageId}`,
  };
  return (await hasEnded(connect, deletion, waitMs)) ? "deleted" : "pending_delete";
}

/** {@link finishDeletion} for one copy whose location is `pending_delete`. @internal */
export async function finishCopyRemoval(
  connect: () => Promise<Client>,
  copy: CopyToRemove,
  waitMs: number,
): Promise<CopyRemovalState> {
  const removal = {
    type: "removeImageCopy",
    workflowId: copyRemovalWorkflowId(copy),
    args: [copy],
    staticSummary: `remove ${copy.image_id} from ${copy.store}`,
  };
  return (await hasEnded(connect, removal, waitMs)) ? "removed" : "pending_delete";
}

/** A workflow that removes the bytes of an image or of a copy. */
interface Removal {
  readonly type: string;
  readonly workflowId: string;
  readonly args: unknown[];
  readonly staticSummary: string;
}

/**
 * Starts a removal and waits for it for some time. The reconciler continues what it has not done.
 *
 * @returns true if it has succeeded by then
 */
async function hasEnded(
  connect: () => Promise<Client>,
  removal: Removal,
  waitMs: number,
): Promise<boolean> {
  try {
    const client = await connect();
    await startUnlessRunning(client, removal);
    const ended = client.workflow
      .getHandle(removal.workflowId)
      .result()
      .then(() => true);
    return await Promise.race([ended, falseAfter(waitMs)]);
  } catch (error) {
    if (error instanceof WorkflowFailedError) return false;
    const failure = temporalFailure(error);
    if (failure instanceof ImportError && failure.code === "TemporalUnavailable") return false;
    throw failure;
  }
}

async function startUnlessRunning(client: Client, removal: Removal): Promise<void> {
  const { type, ...options } = removal;
  try {
    await client.workflow.start(type, { ...options, taskQueue: CONTROL_QUEUE });
  } catch (error) {
    if (!(error instanceof WorkflowExecutionAlreadyStartedError)) throw error;
  }
}

async function falseAfter(waitMs: number): Promise<false> {
  return new Promise((resolve) => {
    setTimeout(() => {
      resolve(false);
    }, timerMs(waitMs)).unref();
  });
}
