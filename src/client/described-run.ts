import type { WorkflowExecutionDescription } from "@temporalio/client";
import type { RunState } from "./import-report.ts";

/** True while a run has not closed. */
export function isOpen({ status }: WorkflowExecutionDescription): boolean {
  return status.name === "RUNNING" || status.name === "PAUSED";
}

const RUN_STATES: Readonly<Record<string, RunState>> = {
  RUNNING: "open",
  PAUSED: "open",
  COMPLETED: "completed",
  CANCELLED: "cancelled",
  TERMINATED: "terminated",
  TIMED_OUT: "timed out",
};

/** The state of a run in words of a report. */
export function stateOf({ status }: WorkflowExecutionDescription): RunState {
  return RUN_STATES[status.name] ?? "failed";
}

/** The id of the first run of the chain. A run that a reset makes belongs to the same chain. */
export function chainOf({ raw, runId }: WorkflowExecutionDescription): string {
  const { firstRunId } = raw.workflowExecutionInfo ?? {};
  return firstRunId == null || firstRunId === "" ? runId : firstRunId;
}
