import type { WorkflowExecutionDescription } from "@temporalio/client";
import { defaultPayloadConverter } from "@temporalio/common";
import { describe, expect, it } from "vitest";
import { withLiveProgress } from "../../src/temporal/live-progress.ts";
import type { ImportStatus, StoreProgress } from "../../src/workflow/contract.ts";

function statusWith(stores: Record<string, StoreProgress> = {}): ImportStatus {
  return {
    image_id: "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b",
    task_id: "0b1c2d3e-8a34-4b7e-9a51-0f6f3f1d2c3b",
    method: "glance-direct",
    phase: "storing",
    pause: "running",
    size: 1000,
    stores,
    phases: [],
    detected_format: null,
    checks: {},
    message: null,
  };
}

/** The description of a run with these last heartbeats and failures of its byte steps. */
function describing(
  ...steps: readonly {
    beat?: unknown;
    attempt?: number;
    nextAttemptScheduleTime?: { seconds: number; nanos: number };
    lastFailure?: string;
    about?: object;
  }[]
): WorkflowExecutionDescription {
  const pendingActivities = steps.map(({ beat, lastFailure, about, ...step }) => ({
    ...step,
    heartbeatDetails: beat === undefined ? null : payloadsOf(beat),
    lastFailure:
      lastFailure === undefined
        ? null
        : {
            message: lastFailure,
            applicationFailureInfo: about === undefined ? null : { details: payloadsOf(about) },
          },
  }));
  return { raw: { pendingActivities } } as unknown as WorkflowExecutionDescription;
}

function payloadsOf(value: unknown) {
  return { payloads: [defaultPayloadConverter.toPayload(value)] };
}

describe("withLiveProgress()", () => {
  it("adds the bytes and the attempt of each copy that runs", () => {
    const status = statusWith({ fast: { state: "copying" }, slow: { state: "copying" } });

    const live = withLiveProgress(
      status,
      describing(
        { beat: { step: "store", store: "fast", doneBytes: 700, totalBytes: 1000 }, attempt: 1 },
        { beat: { step: "store", store: "slow", doneBytes: 20, totalBytes: 1000 }, attempt: 3 },
      ),
    );

    expect(live).toEqual({
      ...status,
      stores: {
        fast: { state: "copying", done_bytes: 700, attempt: 1 },
        slow: { state: "copying", done_bytes: 20, attempt: 3 },
      },
    });
  });

  it("adds the rate of a copy", () => {
    const live = withLiveProgress(
      statusWith({ fast: { state: "copying" } }),
      describing({
        beat: { step: "store", store: "fast", doneBytes: 700, bytesPerSecond: 30 },
        attempt: 1,
      }),
    );

    expect(live.stores).toEqual({
      fast: { state: "copying", done_bytes: 700, bytes_per_second: 30, attempt: 1 },
    });
  });

  it("adds when the next attempt of a copy begins; meanwhile nothing moves", () => {
    const live = withLiveProgress(
      statusWith({ fast: { state: "copying" } }),
      describing({
        beat: { step: "store", store: "fast", doneBytes: 700, bytesPerSecond: 30 },
        attempt: 4,
        nextAttemptScheduleTime: { seconds: 1_900_000_000, nanos: 5e8 },
        lastFailure: "it does not work",
      }),
    );

    expect(live.stores).toEqual({
      fast: {
        state: "copying",
        done_bytes: 700,
        bytes_per_second: 0,
        attempt: 4,
        next_attempt_at: "2030-03-17T17:46:40.500Z",
        last_failure: "it does not work",
      },
    });
  });

  it("adds why the last attempt of a copy failed", () => {
    const live = withLiveProgress(
      statusWith({ fast: { state: "copying" } }),
      describing({
        beat: { step: "store", store: "fast", doneBytes: 0, totalBytes: 1000 },
        attempt: 2,
        lastFailure: "it does not work",
      }),
    );

    expect(live.stores).toEqual({
      fast: { state: "copying", done_bytes: 0, attempt: 2, last_failure: "it does not work" },
    });
  });

  it("adds what a step waits for within its attempt; meanwhile nothing moves", () => {
    const beat = { step: "store", store: "fast", doneBytes: 700, waitsFor: "no answer" };

    const live = withLiveProgress(
      statusWith({ fast: { state: "copying" } }),
      describing({ beat, attempt: 2, lastFailure: "it does not work" }),
    );

    expect(live.stores).toEqual({
      fast: {
        state: "copying",
        done_bytes: 700,
        bytes_per_second: 0,
        attempt: 2,
        last_failure: "no answer",
      },
    });
  });

  it("adds the failure of an attempt that ended while it waited", () => {
    const beat = { step: "store", store: "fast", doneBytes: 700, waitsFor: "no answer" };
    const nextAttemptScheduleTime = { seconds: 1_900_000_000, nanos: 0 };

    const live = withLiveProgress(
      statusWith({ fast: { state: "copying" } }),
      describing({ beat, attempt: 2, nextAttemptScheduleTime, lastFailure: "it does not work" }),
    );

    expect(live.stores["fast"]).toMatchObject({ last_failure: "it does not work" });
  });

  it("names the store whose copy fails before its first heartbeat", () => {
    const live = withLiveProgress(
      statusWith({ fast: { state: "copying" }, slow: { state: "copying" } }),
      describing({ attempt: 7, lastFailure: "it is unreachable", about: { store: "slow" } }),
    );

    expect(live.stores).toEqual({
      fast: { state: "copying" },
      slow: { state: "copying", attempt: 7, last_failure: "it is unreachable" },
    });
  });

  it("adds why the last attempt failed when the step has no store", () => {
    const status = statusWith();

    const live = withLiveProgress(
      status,
      describing({ attempt: 3, lastFailure: "no answer", about: {} }),
    );

    expect(live).toEqual({ ...status, attempt: 3, last_failure: "no answer" });
  });

  it("adds why an attempt ended when its failure has no details", () => {
    const status = statusWith();

    const live = withLiveProgress(
      status,
      describing({ attempt: 2, lastFailure: "activity Heartbeat timeout" }),
    );

    expect(live).toEqual({ ...status, attempt: 2, last_failure: "activity Heartbeat timeout" });
  });

  it("shows a copy as copying before the workflow reports it", () => {
    const live = withLiveProgress(
      statusWith(),
      describing({ beat: { step: "store", store: "fast", doneBytes: 5, totalBytes: 1000 } }),
    );

    expect(live.stores).toEqual({ fast: { state: "copying", done_bytes: 5, attempt: 1 } });
  });

  it("adds the bytes that verifying or digesting has read", () => {
    const status = statusWith();

    const live = withLiveProgress(
      status,
      describing({ beat: { step: "digest", doneBytes: 300, totalBytes: 1000 } }),
    );

    expect(live).toEqual({ ...status, done_bytes: 300, total_bytes: 1000, attempt: 1 });
  });

  it.each([
    ["no step runs", describing()],
    ["a step has not sent a heartbeat yet", describing({ attempt: 1 })],
    ["a step sends other heartbeats", describing({ beat: "alive" }, { beat: null })],
    ["Temporal returns no steps", { raw: {} } as unknown as WorkflowExecutionDescription],
  ])("adds nothing when %s", (_, description) => {
    const status = statusWith({ fast: { state: "stored", method: "link" } });

    expect(withLiveProgress(status, description)).toEqual(status);
  });

  it("does not change the given status", () => {
    const status = statusWith({ fast: { state: "copying" } });
    const before = structuredClone(status);

    withLiveProgress(
      status,
      describing({ beat: { step: "store", store: "fast", doneBytes: 5, totalBytes: 1000 } }),
    );

    expect(status).toEqual(before);
  });
});
