import type { WorkflowHandle } from "@temporalio/client";
import { errorOf } from "../domain/failure-details.ts";
import type { ImportOutcome, RefusedImport } from "../workflow/contract.ts";

/** The result of a run that completes: its outcome, or the refusal of its start. */
export async function resultOf(handle: WorkflowHandle): Promise<ImportOutcome | RefusedImport> {
  const result: unknown = await handle.result();
  return result as ImportOutcome | RefusedImport;
}

/**
 * The outcome of an import.
 *
 * @throws the refusal, if its start was refused
 */
export function accepted(result: ImportOutcome | RefusedImport): ImportOutcome {
  if (result.status === "refused") throw errorOf(result.failure, result.message);
  return result;
}
