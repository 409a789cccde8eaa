import {
  ApplicationFailure,
  CancelledFailure,
  TerminatedFailure,
  TimeoutFailure,
} from "@temporalio/common";
import { errorOf, readFailureDetails } from "../domain/failure-details.ts";
import { ImportError } from "../domain/import-failure.ts";

/**
 * The failure with which a run or an update ended, with the hint, step and store that the step
 * reported.
 *
 * @param error - the error of Temporal's client; its cause is the failure
 */
export function failureFrom(error: Error): unknown {
  const { cause } = error;
  if (cause instanceof CancelledFailure) {
    return new ImportError("ImportCancelled", "The import was cancelled", { cause: error });
  }
  if (cause instanceof TerminatedFailure) {
    return new ImportError(
      "ImportAbandoned",
      "The import was terminated; what it left is removed by the reconciler within minutes",
      { cause: error },
    );
  }
  if (cause instanceof TimeoutFailure) {
    return new ImportError(
      "ImportAbandoned",
      "The run of the import passed the time limit with which it was started; what it left is removed by the reconciler within minutes",
      { cause: error },
    );
  }
  if (!(cause instanceof ApplicationFailure)) return cause ?? error;
  const details = readFailureDetails(cause.details?.[0], cause.type ?? "Error");
  return errorOf(details, cause.message, error);
}
