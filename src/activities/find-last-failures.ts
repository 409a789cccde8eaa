import { activityInfo } from "@temporalio/activity";
import type { Dependencies } from "./dependencies.ts";
import type { LastFailure } from "./progress.ts";

/**
 * Facts about the steps of a run that only Temporal knows: a workflow does not see failures that
 * are retried.
 */
export function findLastFailuresActivities({ lastFailuresOf }: Dependencies) {
  return {
    /** Finds the last failure of each step that its own run waits for. */
    async findLastFailures(): Promise<readonly LastFailure[]> {
      const { workflowId, runId } = activityInfo().workflowExecution ?? {};
      if (workflowId === undefined || runId === undefined) return [];
      return lastFailuresOf(workflowId, runId);
    },
  };
}
