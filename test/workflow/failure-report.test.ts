import {
  ActivityFailure,
  ApplicationFailure,
  CancelledFailure,
  RetryState,
  TimeoutFailure,
  TimeoutType,
} from "@temporalio/common";
import { describe, expect, it } from "vitest";
import {
  causeOf,
  describeFailure,
  StepFailure,
  wasStopped,
} from "../../src/workflow/failure-report.ts";

/** The failure of a step, as the workflow sees it. */
function stepFailure(
  cause: Error,
  retryState: RetryState = RetryState.NON_RETRYABLE_FAILURE,
): ActivityFailure {
  return new ActivityFailure(
    "Activity task failed",
    "storeImage",
    "3",
    retryState,
    "1@host",
    cause,
  );
}

const full = ApplicationFailure.nonRetryable("it is full", "NoSpace");
const away = ApplicationFailure.retryable("it is unreachable", "StoreUnavailable");

describe("describeFailure()", () => {
  it("finds type and text of the step's own failure", () => {
    const report = describeFailure(stepFailure(full));

    expect(report).toEqual({ code: "NoSpace", text: "it is full" });
  });

  it("takes a failure without a step as it is", () => {
    const report = describeFailure(full);

    expect(report).toEqual({ code: "NoSpace", text: "it is full" });
  });

  it("calls a failure without a type an Error", () => {
    const report = describeFailure(ApplicationFailure.nonRetryable("it broke"));

    expect(report).toEqual({ code: "Error", text: "it broke" });
  });

  it("names a cancel in one word", () => {
    const report = describeFailure(stepFailure(new CancelledFailure("CANCELLED")));

    expect(report).toEqual({ code: "ImportCancelled", text: "it was cancelled" });
  });

  it("adds the last failure to a timeout", () => {
    const timeout = Object.assign(
      new TimeoutFailure("it took too long", undefined, TimeoutType.SCHEDULE_TO_CLOSE),
      { cause: away },
    );

    const report = describeFailure(stepFailure(timeout, RetryState.TIMEOUT));

    expect(report).toEqual({
      code: "Timeout",
      text: "it took too long; before: it is unreachable",
    });
  });

  it("describes a timeout alone when nothing failed before it", () => {
    const timeout = new TimeoutFailure(
      "it was never begun",
      undefined,
      TimeoutType.SCHEDULE_TO_START,
    );

    const report = describeFailure(stepFailure(timeout, RetryState.TIMEOUT));

    expect(report).toEqual({ code: "Timeout", text: "it was never begun" });
  });

  it("describes a step that failed without a cause", () => {
    const failure = new ActivityFailure(
      "Activity task failed",
      "storeImage",
      "3",
      RetryState.INTERNAL_SERVER_ERROR,
      "1@host",
    );

    const report = describeFailure(failure);

    expect(report).toEqual({ code: "ActivityFailure", text: "Activity task failed" });
  });

  it("describes an error of any other kind", () => {
    const report = describeFailure(new RangeError("out of range"));

    expect(report).toEqual({ code: "RangeError", text: "out of range" });
  });

  it("describes a thrown value that is not an error", () => {
    const report = describeFailure("just a text");

    expect(report).toEqual({ code: "Error", text: "just a text" });
  });
});

describe("StepFailure", () => {
  const failure = new StepFailure(
    stepFailure(
      ApplicationFailure.create({
        type: "NoSpace",
        message: "it is full",
        nonRetryable: true,
        details: [{ code: "NoSpace", hint: "Free space.", store: "fast" }],
      }),
    ),
    { name: "store", store: "fast" },
  );

  it("adds the place to the details that the step sent", () => {
    expect(describeFailure(failure)).toEqual({
      code: "NoSpace",
      text: "it is full",
      hint: "Free space.",
      step: "store",
      store: "fast",
    });
  });

  it("is a stop when its cause is one", () => {
    const stopped = new StepFailure(new CancelledFailure("CANCELLED"), { name: "save" });

    expect(wasStopped(stopped)).toBe(true);
    expect(describeFailure(stopped)).toEqual({
      code: "ImportCancelled",
      text: "it was cancelled",
      step: "save",
    });
  });

  it("keeps the error that the step threw", () => {
    expect(causeOf(failure)).toBe(failure.cause);
    expect(causeOf(full)).toBe(full);
  });
});

describe("wasStopped()", () => {
  it.each([
    { what: "a cancel", error: new CancelledFailure("CANCELLED"), expected: true },
    {
      what: "a step that was cancelled",
      error: stepFailure(new CancelledFailure("CANCELLED")),
      expected: true,
    },
    {
      what: "a step that would have been tried again, had no cancel been asked for",
      error: stepFailure(away, RetryState.CANCEL_REQUESTED),
      expected: true,
    },
    {
      what: "a step that failed permanently while a cancel was asked for",
      error: stepFailure(full, RetryState.CANCEL_REQUESTED),
      expected: false,
    },
    { what: "a step that failed", error: stepFailure(full), expected: false },
    { what: "an error", error: new Error("it broke"), expected: false },
  ])("is $expected for $what", ({ error, expected }) => {
    const answer = wasStopped(error);

    expect(answer).toBe(expected);
  });
});
