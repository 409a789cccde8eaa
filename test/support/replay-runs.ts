import type { Client } from "@temporalio/client";
import { Worker } from "@temporalio/worker";

/** A run that has left a history. */
export interface StartedRun {
  readonly workflowId: string;
  readonly runId: string;
}

/**
 * Replays these runs on today's code, and fails when there is none, or when one of them does not
 * replay: then the workflow is not deterministic.
 */
export async function replayRuns(
  client: Client,
  bundlePath: string,
  runs: readonly StartedRun[],
): Promise<void> {
  const histories = [];
  for (const { workflowId, runId } of runs) {
    const handle = client.workflow.getHandle(workflowId, runId);
    histories.push({ workflowId, history: await handle.fetchHistory() });
  }
  const replayed = Worker.runReplayHistories(
    { workflowBundle: { codePath: bundlePath } },
    histories,
  );
  let count = 0;
  for await (const { error } of replayed) {
    if (error !== undefined) throw error;
    count += 1;
  }
  if (count === 0) throw new Error("No run was replayed: the test started none, or lost them");
}
