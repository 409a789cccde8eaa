import { workflowInfo } from "@temporalio/workflow";
import type { KnownImage } from "../activities/claim-import.ts";
import type { AcceptedCopy, ImportOutcome } from "./contract.ts";

type Formats = Pick<ImportOutcome, "detected_format" | "staged_format">;

/** The result of an import that succeeded. */
export function outcomeOf(
  { image_id, task_id }: Pick<AcceptedCopy, "image_id" | "task_id">,
  { size, virtual_size, digests, detected_format, staged_format }: KnownImage & Formats,
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
    ...(detected_format === undefined ? {} : { detected_format }),
    ...(staged_format === undefined ? {} : { staged_format }),
    checksum: digests.checksum,
    os_hash_algo: digests.osHashAlgo,
    os_hash_value: digests.osHashValue,
    ...ended,
  };
}
