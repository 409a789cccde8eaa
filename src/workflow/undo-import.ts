import {
  ApplicationFailure,
  CancellationScope,
  CancelledFailure,
  isCancellation,
  patched,
} from "@temporalio/workflow";
import { isRefusal, placeText } from "../domain/failure-details.ts";
import { taskFailure } from "../domain/task-failure.ts";
import {
  causeOf,
  describeFailure,
  placeOf,
  wasStopped,
  type FailureReport,
} from "./failure-report.ts";
import type { RefusedImport } from "./contract.ts";
import type { ImportRun } from "./import-run.ts";

/**
 * Undoes an import that failed, was cancelled, or passed its deadline.
 *
 * @returns the refusal, if the client that started the run has received it: then the run succeeds
 * @throws the failure with which the run ends
 */
export async function undoImport(error: unknown, run: ImportRun): Promise<RefusedImport> {
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
  const isClean = leftovers.length === 0;
  const end = isCancelled ? "cancelled" : isRefusal(report) ? "refused" : "failed";
  run.enter(isClean ? end : "failed");
  await run.handlersFinished();

  const cause = causeOf(error);
  if (!isClean) {
    throw ApplicationFailure.create({
      type: "CompensationIncomplete",
      message: `${message}; left behind: ${leftovers.map((each) => each.undo).join(", ")}`,
      nonRetryable: true,
      details: [leftovers],
      ...(cause instanceof Error ? { cause } : {}),
    });
  }
  if (isCancelled) throw isCancellation(cause) ? cause : new CancelledFailure(message);
  // In the histories of 0.1.0 such a run fails.
  if (
    end === "refused" &&
    acceptance.hasReportedRefusal &&
    patched("reported-refusal-is-a-result")
  ) {
    return { ...run.ids, task_id: null, status: "refused", message: text, failure: details };
  }
  throw failedRun(report, cause);
}

/** The failure of a run, with its details for the client. */
export function failedRun(report: FailureReport, cause: unknown): ApplicationFailure {
  const { text, ...details } = report;
  // A failure of the claim names no step: the import has not begun.
  const place = details.step === "claim" ? "" : placeText(details);
  return ApplicationFailure.create({
    type: details.code,
    message: place === "" ? text : `${place}: ${text}`,
    nonRetryable: true,
    details: [details],
    // The worker neither counts nor logs it as a failure of the service.
    ...(isRefusal(report) ? { category: "BENIGN" as const } : {}),
    ...(cause instanceof Error ? { cause } : {}),
  });
}
