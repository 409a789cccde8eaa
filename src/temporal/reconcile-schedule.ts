import {
  ScheduleAlreadyRunning,
  ScheduleNotFoundError,
  ScheduleOverlapPolicy,
  type Client,
} from "@temporalio/client";
import { CONTROL_QUEUE, RECONCILER_ID } from "../workflow/contract.ts";

/**
 * Makes the Schedule of the reconciler, or gives the one that is there this interval. Idempotent.
 */
export async function scheduleReconciler(client: Client, everyMs: number): Promise<void> {
  const schedule = {
    spec: { intervals: [{ every: everyMs }] },
    action: {
      type: "startWorkflow" as const,
      workflowType: "reconcileImports",
      workflowId: RECONCILER_ID,
      taskQueue: CONTROL_QUEUE,
      args: [],
    },
    policies: {
      overlap: ScheduleOverlapPolicy.SKIP,
      // What was missed while the server was away is done by the next run.
      catchupWindow: "1m" as const,
      pauseOnFailure: false,
    },
  };
  try {
    await client.schedule.create({ scheduleId: RECONCILER_ID, ...schedule });
  } catch (error) {
    if (!(error instanceof ScheduleAlreadyRunning)) throw error;
    await client.schedule.getHandle(RECONCILER_ID).update(({ state }) => ({ ...schedule, state }));
  }
}

/** Whether the Schedule of the reconciler is there. */
export async function hasReconcilerSchedule(client: Client): Promise<boolean> {
  try {
    await client.schedule.getHandle(RECONCILER_ID).describe();
    return true;
  } catch (error) {
    if (error instanceof ScheduleNotFoundError) return false;
    throw error;
  }
}

/**
 * Makes the Schedule of the reconciler when it is not there, as after the loss of the server's
 * data.
 */
export async function ensureReconcilerSchedule(client: Client, everyMs: number): Promise<void> {
  if (!(await hasReconcilerSchedule(client))) await scheduleReconciler(client, everyMs);
}
