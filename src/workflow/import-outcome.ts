import { workflowInfo } from "@temporalio/workflow";
import type { KnownImage } from "../activities/claim-import.ts";
import type { AcceptedCopy, ImportOutcome } from "./contract.ts";

/** The result of an import that succeeded. */
export function outcomeOf(
  { image_id, task_id }: Pick<AcceptedCopy, "image_id" | "task_id">,
  { size, virtual_size, digests }: KnownImage,
  ended: Pick<ImportOutcome, "stores" | "unstaged">,
): ImportOutcome {
  const { workflowId, runId } = workflowInfo();
  return {
    image_id,
    task_id,
    workflow_id: workflowId,
    run_id: runId,
    status: "active",
    size,
    virtual_size,
    checksum: digests.checksum,
    os_hash_algo: digests.osHashAlgo,
    os_hash_value: digests.osHashValue,
    ...ended,
  };
}
