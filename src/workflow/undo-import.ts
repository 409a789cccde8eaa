import {
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  isCancellation,
} from "@temporalio/workflow";
import { failureDetails } from "./contract.ts";
import { causeOf, describeFailure, placeOf, wasStopped } from "./failure-report.ts";
import type { ImportRun } from "./import-run.ts";

/**
 * Undoes an import that failed, was cancelled, or passed its deadline.
 *
 * @returns the failure with which the run ends
 */
export async function undoImport(error: unknown, run: ImportRun): Promise<unknown> {
  const { tracker, pause, acceptance, copies } = run;
  // Only a caller cancels the root scope; a deadline cancels a scope within it.
  const isStopped = wasStopped(error);
  const isCancelled = isStopped && CancellationScope.current().consideredCancelled;
  const isPastDeadline = isStopped && !isCancelled;
  const failure = describeFailure(error);
  const { step, store } = placeOf(error);
  const type = isPastDeadline ? "ImportDeadlineExceeded" : failure.type;
  const text = isPastDeadline ? tracker.pastDeadline : failure.text;
  const where = store === undefined ? step : `${step} "${store}"`;
  const message = `Error: ${type}: ${where}: ${text}`;

  // The hint of a step that was stopped by the deadline does not help.
  const details = failureDetails(isPastDeadline ? undefined : failure.hint);

  acceptance.refuse({ type, text, ...details[0] });
  pause.end();
  copies.end();
  tracker.failed(message, { type, text, step, store, ...details[0] });
  run.enter("undoing");
  const leftovers = await run.undo({ message, failedStores: tracker.failedStores });
  run.enter(isCancelled && leftovers.length === 0 ? "cancelled" : "failed");
  await run.handlersFinished();

  const cause = causeOf(error);
  if (leftovers.length > 0) {
    return ApplicationFailure.create({
      type: "CompensationIncomplete",
      message: `${message}; left behind: ${leftovers.map((each) => each.undo).join(", ")}`,
      nonRetryable: true,
      details: [leftovers],
      ...(cause instanceof Error ? { cause } : {}),
    });
  }
  if (isCancelled) return isCancellation(cause) ? cause : new CancelledFailure(message);
  return ApplicationFailure.create({
    type,
    // A refusal has no place: no step has begun.
    message: step === "claim" ? text : `${where}: ${text}`,
    nonRetryable: true,
    details,
    ...(cause instanceof Error ? { cause } : {}),
  });
}
