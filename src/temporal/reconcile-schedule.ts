import {
  ScheduleAlreadyRunning,
  ScheduleNotFoundError,
  ScheduleOverlapPolicy,
  type Client,
} from "@temporalio/client";
import { CONTROL_QUEUE, RECONCILER_ID } from "../workflow/contract.ts";

/**
 * Creates the Schedule of the reconciler, or sets the interval of the existing one. Idempotent.
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
      // While the server is unreachable, runs are missed. The next run does their work.
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

/** True if the Schedule of the reconciler exists. */
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
 * Creates the Schedule of the reconciler if it is missing, as after the loss of the server's data.
 */
export async function ensureReconcilerSchedule(client: Client, everyMs: number): Promise<void> {
  if (!(await hasReconcilerSchedule(client))) await scheduleReconciler(client, everyMs);
}
