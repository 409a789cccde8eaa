import {
  WorkflowFailedError,
  WorkflowNotFoundError,
  type WorkflowUpdateFailedError,
} from "@temporalio/client";
import { ApplicationFailure } from "@temporalio/common";
import { ImportError } from "../domain/import-failure.ts";
import { failureFrom } from "../temporal/failure-from.ts";
import { temporalFailure } from "../temporal/temporal-failure.ts";

/** True if the run closed before it answered an update. */
export function endedBeforeItAnswered({ cause }: WorkflowUpdateFailedError): boolean {
  return cause instanceof ApplicationFailure && cause.type === "AcceptedUpdateCompletedWorkflow";
}

/** Sends a request to a run, and translates Temporal's errors to failures of the table. */
export async function translating<T>(imageId: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof WorkflowNotFoundError) throw notFound(imageId);
    throw temporalFailure(error);
  }
}

function notFound(imageId: string): ImportError {
  return new ImportError(
    "ImportNotFound",
    `Temporal has no import of image "${imageId}" that could answer`,
  );
}

/** The failure of an import whose result was waited for. */
export function outcomeFailure(error: unknown, imageId: string): unknown {
  if (error instanceof WorkflowNotFoundError) return notFound(imageId);
  if (error instanceof WorkflowFailedError) return failureFrom(error);
  return temporalFailure(error);
}
