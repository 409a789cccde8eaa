import { WorkflowIdConflictPolicy, type Client } from "@temporalio/client";
import { formatDuration } from "../domain/duration.ts";
import { ImportError } from "../domain/import-failure.ts";
import { timerMs } from "../domain/timer-ms.ts";
import { temporalFailure } from "../temporal/temporal-failure.ts";
import {
  CONTROL_QUEUE,
  FIND_LEFTOVERS_ID,
  RECONCILIATION_BY_HAND_ID,
  type Leftovers,
  type Reconciled,
} from "../workflow/contract.ts";

/** Runs the reconciler once, and waits for its result. @internal */
export async function reconcile(client: Client, waitMs: number): Promise<Reconciled> {
  const start = { workflowId: RECONCILIATION_BY_HAND_ID, staticSummary: "reconcile, by hand" };
  return resultOf<Reconciled>(client, "reconcileImports", start, waitMs);
}

/** Finds what the reconciler would do, and waits for the result. @internal */
export async function findLeftovers(client: Client, waitMs: number): Promise<Leftovers> {
  const start = { workflowId: FIND_LEFTOVERS_ID, staticSummary: "what would the reconciler do?" };
  return resultOf<Leftovers>(client, "findLeftovers", start, waitMs);
}

/** Starts a workflow, or takes the one that another user has started, and waits for its result. */
async function resultOf<Result>(
  client: Client,
  type: string,
  start: { readonly workflowId: string; readonly staticSummary: string },
  waitMs: number,
): Promise<Result> {
  try {
    const run = await client.workflow.start(type, {
      ...start,
      taskQueue: CONTROL_QUEUE,
      workflowIdConflictPolicy: WorkflowIdConflictPolicy.USE_EXISTING,
    });
    const result = (await Promise.race([run.result(), afterwards(waitMs)])) as Result | undefined;
    if (result !== undefined) return result;
  } catch (error) {
    throw temporalFailure(error);
  }
  throw new ImportError(
    "NotAcceptedYet",
    `The workflow "${start.workflowId}" is started, and has not ended within ${formatDuration(waitMs)}`,
    { hint: "It continues once a worker runs. `image-import doctor` shows whether one does." },
  );
}

async function afterwards(waitMs: number): Promise<undefined> {
  return new Promise((resolve) => {
    setTimeout(() => {
      resolve(undefined);
    }, timerMs(waitMs)).unref();
  });
}
