import { WorkflowFailedError } from "@temporalio/client";
import { ActivityFailure, defaultDataConverter, RetryState } from "@temporalio/common";
import { MockActivityEnvironment } from "@temporalio/testing";
import { DefaultLogger } from "@temporalio/worker";
import { renderFailure } from "../../src/cli/failure.ts";
import { failureFrom } from "../../src/temporal/failure-from.ts";
import { failureOfImport } from "../../src/client/import-report.ts";
import { taskFailure } from "../../src/domain/task-failure.ts";
import { translateFailures } from "../../src/worker/translate-failures.ts";
import {
  describeFailure,
  StepFailure,
  type FailureReport,
} from "../../src/workflow/failure-report.ts";
import { failedRun } from "../../src/workflow/undo-import.ts";

/** The step in which the failures of {@link reportOf} happen. */
export const FAILED_STEP = { name: "store", store: "fast" } as const;

/** The report that a workflow makes of an error that one of its steps threw. */
export async function reportOf(thrown: unknown): Promise<FailureReport> {
  const environment = new MockActivityEnvironment(
    { attempt: 1 },
    { interceptors: [() => ({ inbound: translateFailures })], logger: new DefaultLogger("ERROR") },
  );
  const sent: unknown = await environment
    .run(async () => {
      throw thrown;
    })
    .catch((error: unknown) => error);
  const failure = new ActivityFailure(
    "Activity task failed",
    "storeImage",
    "1",
    RetryState.NON_RETRYABLE_FAILURE,
    "1@host",
    acrossTheBorder(sent),
  );
  return describeFailure(new StepFailure(failure, FAILED_STEP));
}

/** The output of a command that follows the run that fails so. */
export function shownByRun(report: FailureReport): string {
  const cause = acrossTheBorder(failedRun(report, undefined));
  const error = new WorkflowFailedError(
    "Workflow execution failed",
    cause,
    RetryState.NON_RETRYABLE_FAILURE,
  );
  return renderFailure(failureFrom(error), false);
}

/** The output of a command that reads the record of the import that failed so. */
export function shownByRecord({ text, ...details }: FailureReport): string {
  return renderFailure(failureOfImport(taskFailure(details, text)), false);
}

/** An error as Temporal's server passes it on. */
function acrossTheBorder(error: unknown): Error {
  const { failureConverter, payloadConverter } = defaultDataConverter;
  return failureConverter.failureToError(
    failureConverter.errorToFailure(error, payloadConverter),
    payloadConverter,
  );
}
