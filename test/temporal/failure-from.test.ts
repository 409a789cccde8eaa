import { WorkflowFailedError } from "@temporalio/client";
import {
  ApplicationFailure,
  CancelledFailure,
  RetryState,
  TerminatedFailure,
  TimeoutFailure,
  TimeoutType,
} from "@temporalio/common";
import { describe, expect, it } from "vitest";
import { failureFrom } from "../../src/temporal/failure-from.ts";
import { ImportError, UnlistedFailure } from "../../src/domain/import-failure.ts";

function failedRun(cause: Error): WorkflowFailedError {
  return new WorkflowFailedError("Workflow failed", cause, RetryState.NON_RETRYABLE_FAILURE);
}

const ENDS: readonly { readonly cause: Error; readonly code: string }[] = [
  { cause: new CancelledFailure("CANCELLED"), code: "ImportCancelled" },
  { cause: new TerminatedFailure("terminated"), code: "ImportAbandoned" },
  {
    cause: new TimeoutFailure("too long", undefined, TimeoutType.START_TO_CLOSE),
    code: "ImportAbandoned",
  },
];

describe("failureFrom()", () => {
  it("has the code, hint, step and store of the failure", () => {
    const details = { code: "NoSpace", hint: "Free space.", step: "store", store: "fast" };
    const error = failedRun(
      ApplicationFailure.nonRetryable('store "fast": it is full', "NoSpace", details),
    );

    const failure = failureFrom(error);

    expect(failure).toBeInstanceOf(ImportError);
    expect(failure).toMatchObject({
      ...details,
      message: 'store "fast": it is full',
      cause: error,
    });
  });

  it("keeps the type of a failure that the table does not list", () => {
    const failure = failureFrom(
      failedRun(ApplicationFailure.nonRetryable("save: x is not a function", "TypeError")),
    );

    expect(failure).toBeInstanceOf(UnlistedFailure);
    expect(failure).toMatchObject({ code: "TypeError", message: "save: x is not a function" });
  });

  it.each(ENDS)("is $code when the cause is $cause.name", ({ cause, code }) => {
    expect(failureFrom(failedRun(cause))).toMatchObject({ code });
  });

  it("returns any other cause unchanged", () => {
    const cause = new Error("it broke");

    expect(failureFrom(failedRun(cause))).toBe(cause);
  });
});
