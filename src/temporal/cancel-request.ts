import { randomUUID } from "node:crypto";
import { hostname, userInfo } from "node:os";
import { isGrpcServiceError, WorkflowNotFoundError, type Client } from "@temporalio/client";

/** One run of a workflow. */
export interface RunToCancel {
  readonly workflowId: string;
  readonly runId: string;
}

// A cancelled import undoes its work in some dozens of events after the request.
const PAGE_EVENTS = 100;
const MOST_PAGES = 10;
/** Number of NOT_FOUND in gRPC. */
const NOT_FOUND = 5;

/** The user and the host of this process. */
export function thisUser(): string {
  return `${nameOfUser()}@${hostname()}`;
}

function nameOfUser(): string {
  try {
    return userInfo().username;
  } catch {
    // A container may run with an id that has no name.
    return `uid ${String(process.getuid?.() ?? "?")}`;
  }
}

/**
 * Requests the cancellation of a run. `handle.cancel()` would record only the process that asks.
 *
 * @param by - the person or program that asks for it, as the history of the run records it
 * @throws WorkflowNotFoundError when Temporal has no such run. For a run that has closed, Temporal
 *   takes the request and does nothing
 */
export async function requestCancel(client: Client, run: RunToCancel, by: string): Promise<void> {
  try {
    await client.workflowService.requestCancelWorkflowExecution({
      namespace: client.options.namespace,
      workflowExecution: run,
      requestId: randomUUID(),
      identity: by,
    });
  } catch (error) {
    if (isGrpcServiceError(error) && (error.code as number) === NOT_FOUND) {
      throw new WorkflowNotFoundError(error.details, run.workflowId, run.runId);
    }
    throw error;
  }
}

/**
 * Finds who requested the cancellation of a run. Reads the history of the run from its end. For a
 * request by Temporal's Web UI or command line, the result is the identity of that process.
 *
 * @returns undefined when the last events of the history have no request that names its sender
 */
export async function findCanceller(client: Client, run: RunToCancel): Promise<string | undefined> {
  let nextPageToken: Uint8Array | undefined;
  for (let page = 0; page < MOST_PAGES; page += 1) {
    const { history, nextPageToken: next } =
      await client.workflowService.getWorkflowExecutionHistoryReverse({
        namespace: client.options.namespace,
        execution: run,
        maximumPageSize: PAGE_EVENTS,
        ...(nextPageToken === undefined ? {} : { nextPageToken }),
      });
    for (const event of history?.events ?? []) {
      const request = event.workflowExecutionCancelRequestedEventAttributes;
      const identity = request?.identity ?? "";
      if (identity !== "") return identity;
    }
    if (next.length === 0) return undefined;
    nextPageToken = next;
  }
  return undefined;
}
