import {
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  isCancellation,
} from "@temporalio/workflow";
import { placeText } from "../domain/failure-details.ts";
import { taskFailure } from "../domain/task-failure.ts";
import {
  causeOf,
  describeFailure,
  placeOf,
  wasStopped,
  type FailureReport,
} from "./failure-report.ts";
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
  const report = isPastDeadline ? tracker.pastDeadline(placeOf(error)) : describeFailure(error);
  const { text, ...details } = report;
  const task = taskFailure(details, text);
  const { message } = task;

  acceptance.refuse(report);
  pause.end();
  copies.end();
  tracker.failed(message, report);
  run.enter("undoing");
  const leftovers = await run.undo({ task, failedStores: tracker.failedStores });
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
  return failedRun(report, cause);
}

/** The failure of a run, with its details for the client. */
export function failedRun({ text, ...details }: FailureReport, cause: unknown): ApplicationFailure {
  // A refusal has no place: no step has begun.
  const place = details.step === "claim" ? "" : placeText(details);
  return ApplicationFailure.create({
    type: details.code,
    message: place === "" ? text : `${place}: ${text}`,
    nonRetryable: true,
    details: [details],
    ...(cause instanceof Error ? { cause } : {}),
  });
}
