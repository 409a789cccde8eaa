import { activityInfo } from "@temporalio/activity";
import type { Dependencies } from "./dependencies.ts";
import type { LastFailure } from "./progress.ts";

/**
 * What Temporal alone knows of the steps of a run: a workflow does not see failures that are tried
 * again.
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
