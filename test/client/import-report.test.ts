import { describe, expect, it } from "vitest";
import {
  failureOfImport,
  reportOf,
  type ImportReport,
  type KnownImports,
  type RunState,
  type RunView,
} from "../../src/client/import-report.ts";
import type { TaskView } from "../../src/client/image-view.ts";
import type { FailureDetails } from "../../src/domain/failure-details.ts";
import { IMPORT_FAILURES, ImportError, UnlistedFailure } from "../../src/domain/import-failure.ts";
import type { ImportStatus } from "../../src/workflow/contract.ts";
import { failureOf } from "../support/failure-of.ts";

const IMAGE_ID = "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b";

function task(
  status: TaskView["status"],
  message = "",
  failure: FailureDetails | null = null,
): TaskView {
  return {
    id: "task-1",
    type: "api_image_import",
    status,
    image_id: IMAGE_ID,
    owner: null,
    workflow_id: `image-import/${IMAGE_ID}`,
    run_id: "run-1",
    request_id: null,
    user_id: null,
    input: {},
    result: null,
    message,
    failure,
    created_at: "2026-01-01T00:00:00.000Z",
    updated_at: "2026-01-01T00:00:00.000Z",
    expires_at: null,
  };
}

function statusOf(taskId: string | null, phase: ImportStatus["phase"]): ImportStatus {
  return {
    image_id: IMAGE_ID,
    task_id: taskId,
    method: "glance-direct",
    phase,
    pause: "running",
    size: taskId === null ? null : 1000,
    stores: taskId === null ? {} : { fast: { state: phase === "done" ? "stored" : "copying" } },
    phases: [],
    detected_format: null,
    checks: {},
    message: phase === "failed" ? "Error: ImageConflict: claim: it may not be" : null,
  };
}

/** A run. Its status is null when no worker answers for it. */
function run(runId: string, state: RunState, status: ImportStatus | null, first = runId): RunView {
  return { run_id: runId, first_run_id: first, state, status };
}

const OURS = statusOf("task-1", "storing");
const DONE = statusOf("task-1", "done");
const REFUSED = statusOf(null, "failed");
const ACTIVE = { status: "active", stores: ["fast"] };
const IMPORTING = { status: "importing", stores: [] };
const QUEUED = { status: "queued", stores: [] };
const FAILURE = 'Error: NoSpace: store "fast": it is full';
const NO_SPACE = { code: "NoSpace", hint: "Free space.", step: "store", store: "fast" };

interface Case extends Partial<Omit<KnownImports, "imageId">> {
  readonly title: string;
  readonly report: Partial<Record<keyof ImportReport, unknown>>;
}

const ABANDONED = (how: string) =>
  `Error: ImportAbandoned: ${how}; the reconciler undoes within minutes what it left`;

const CASES: readonly Case[] = [
  {
    title: "an import that runs",
    image: IMPORTING,
    task: task("processing"),
    newest: run("run-1", "open", OURS),
    report: { state: "running", run_id: "run-1", live: OURS, task: task("processing") },
  },
  {
    title: "an import that runs while no worker answers",
    image: IMPORTING,
    task: task("processing"),
    newest: run("run-1", "open", null),
    report: { state: "running", run_id: "run-1", live: null, message: null },
  },
  {
    title: "a run that no worker has accepted, of an image that was never imported",
    image: QUEUED,
    newest: run("run-1", "open", null),
    report: { state: "waiting", run_id: "run-1", task: null, live: null },
  },
  {
    title: "an image without a recorded import while Temporal is unreachable: one may be waiting",
    image: QUEUED,
    newest: "away",
    report: { state: "unknown", run_id: null, task: null, live: null, message: null },
  },
  {
    title: "a run that waits for its acceptance after an import that failed",
    image: QUEUED,
    task: task("failure", FAILURE),
    newest: run("run-2", "open", statusOf(null, "accepting")),
    claimant: run("run-1", "failed", OURS),
    report: { state: "waiting", run_id: "run-2", task: null, message: null },
  },
  {
    title: "an import that succeeded",
    image: ACTIVE,
    task: task("success"),
    newest: run("run-1", "completed", DONE),
    report: { state: "succeeded", run_id: "run-1", live: DONE, message: null },
  },
  {
    title: "an import that succeeded and whose run still unstages, while no worker answers",
    image: ACTIVE,
    task: task("success"),
    newest: run("run-1", "open", null),
    report: { state: "succeeded", run_id: "run-1", live: null },
  },
  {
    title: "an image that is active after a start that was refused",
    image: ACTIVE,
    task: task("success"),
    newest: run("run-2", "failed", REFUSED),
    claimant: run("run-1", "completed", DONE),
    report: { state: "succeeded", run_id: "run-1", live: DONE, message: null },
  },
  {
    title: "an image that is active while a start is being refused",
    image: ACTIVE,
    task: task("success"),
    newest: run("run-2", "open", statusOf(null, "undoing")),
    claimant: run("run-1", "completed", DONE),
    report: { state: "succeeded", run_id: "run-1", live: DONE, message: null },
  },
  {
    title: "an image that is active after a start that was refused, without the run of its import",
    image: ACTIVE,
    task: task("success"),
    newest: run("run-2", "failed", REFUSED),
    report: { state: "succeeded", run_id: "run-1", live: null, message: null },
  },
  {
    title: "an image that is active after a reset of its run that was refused",
    image: ACTIVE,
    task: task("success"),
    newest: run("run-2", "failed", REFUSED, "run-1"),
    claimant: run("run-1", "completed", DONE),
    report: { state: "succeeded", run_id: "run-1", live: DONE, message: null },
  },
  {
    title: "a copy that was removed after the import",
    image: { status: "active", stores: ["slow"] },
    task: task("success"),
    newest: run("run-1", "completed", DONE),
    report: {
      state: "succeeded",
      stores: ["slow"],
      live: { ...DONE, stores: { fast: { state: "removed" } } },
    },
  },
  {
    title: "an image that is being deleted",
    image: { status: "pending_delete", stores: [] },
    task: task("success"),
    newest: run("run-1", "completed", DONE),
    report: {
      state: "succeeded",
      status: "pending_delete",
      live: { ...DONE, stores: { fast: { state: "removed" } } },
    },
  },
  {
    title: "an import that failed",
    image: QUEUED,
    task: task("failure", FAILURE, NO_SPACE),
    newest: run("run-1", "failed", null),
    report: { state: "failed", run_id: "run-1", message: FAILURE, failure: NO_SPACE },
  },
  {
    title: "an import that continues after a reset",
    image: IMPORTING,
    task: task("processing"),
    newest: run("run-2", "open", OURS, "run-1"),
    claimant: run("run-1", "terminated", OURS),
    report: { state: "running", run_id: "run-2", live: OURS },
  },
  {
    title: "an import that continues after a reset, while no worker answers",
    image: IMPORTING,
    task: task("processing"),
    newest: run("run-2", "open", null, "run-1"),
    claimant: run("run-1", "terminated", null),
    report: { state: "running", run_id: "run-2", live: null },
  },
  {
    title: "a start that waits for its acceptance after a run that was terminated",
    image: IMPORTING,
    task: task("processing"),
    newest: run("run-2", "open", statusOf(null, "accepting")),
    claimant: run("run-1", "terminated", OURS),
    report: { state: "waiting", run_id: "run-2", task: null },
  },
  {
    title: "a run that was terminated",
    image: IMPORTING,
    task: task("processing"),
    newest: run("run-1", "terminated", OURS),
    report: {
      state: "abandoned",
      run_id: "run-1",
      live: null,
      message: ABANDONED("its run was terminated"),
      failure: { code: "ImportAbandoned" },
    },
  },
  {
    title: "a run that passed its time limit",
    image: IMPORTING,
    task: task("pending"),
    newest: run("run-1", "timed out", null),
    report: {
      state: "abandoned",
      message: ABANDONED("its run passed the time limit with which it was started"),
    },
  },
  {
    title: "a run that could not release its claim",
    image: IMPORTING,
    task: task("processing"),
    newest: run("run-1", "failed", OURS),
    report: {
      state: "abandoned",
      message: ABANDONED("its run ended (failed) and could not undo everything"),
    },
  },
  {
    title: "a run that Temporal no longer knows",
    image: IMPORTING,
    task: task("processing"),
    report: {
      state: "abandoned",
      run_id: "run-1",
      message: ABANDONED(
        "Temporal has no run of this import any more, its history was deleted or lost",
      ),
    },
  },
  {
    title: "an import that had not ended when Temporal became unreachable",
    image: IMPORTING,
    task: task("processing"),
    newest: "away",
    report: { state: "unknown", live: null, message: null },
  },
  {
    title: "an import that had ended when Temporal became unreachable",
    image: ACTIVE,
    task: task("success"),
    newest: "away",
    report: { state: "succeeded", live: null },
  },
  {
    title: "an image whose records have expired",
    image: ACTIVE,
    report: { state: "succeeded", run_id: null, task: null, live: null },
  },
  {
    title: "a first start that was refused",
    image: QUEUED,
    newest: run("run-1", "failed", REFUSED),
    report: { state: "refused", run_id: "run-1", message: REFUSED.message },
  },
  {
    title: "without a catalogue: a run that waits",
    newest: run("run-1", "open", null),
    report: { state: "waiting", status: null, stores: null },
  },
  {
    title: "without a catalogue: a run that was terminated",
    newest: run("run-1", "terminated", OURS),
    report: { state: "abandoned", message: ABANDONED("its run was terminated") },
  },
  {
    title: "without a catalogue: a run that has failed",
    newest: run("run-1", "failed", {
      ...OURS,
      phase: "failed",
      message: FAILURE,
      failure: NO_SPACE,
    }),
    report: { state: "failed", message: FAILURE, failure: NO_SPACE },
  },
];

function knownOf({ image, task: found, newest, claimant }: Case): KnownImports {
  return { imageId: IMAGE_ID, image, task: found, newest, claimant };
}

describe("reportOf()", () => {
  it.each(CASES)("reports $title", (given) => {
    expect(reportOf(knownOf(given))).toMatchObject({ image_id: IMAGE_ID, ...given.report });
  });

  it.each([
    ["with a catalogue", QUEUED],
    ["without", undefined],
  ])("fails when the image was never imported: %s", async (_, image) => {
    const asked = Promise.resolve().then(() =>
      reportOf({
        imageId: IMAGE_ID,
        image,
        task: undefined,
        newest: undefined,
        claimant: undefined,
      }),
    );

    expect(await failureOf(asked)).toMatchObject({ code: "ImportNotFound" });
  });
});

describe("failureOfImport()", () => {
  it("has code, hint, step and store of the record, and the message without the code", () => {
    const failure = failureOfImport({ message: FAILURE, failure: NO_SPACE });

    expect(failure).toBeInstanceOf(ImportError);
    expect(failure).toMatchObject({ ...NO_SPACE, message: 'store "fast": it is full' });
  });

  it("has the hint of the table when none is recorded", () => {
    const failure = failureOfImport({ message: FAILURE, failure: { code: "NoSpace" } });

    expect(failure.hint).toBe(IMPORT_FAILURES.NoSpace.hint);
  });

  it("keeps a code that the table does not list", () => {
    const message = "Error: TypeError: save: x is not a function";

    const failure = failureOfImport({ message, failure: { code: "TypeError", step: "save" } });

    expect(failure).toBeInstanceOf(UnlistedFailure);
    expect(failure).toMatchObject({
      code: "TypeError",
      message: "save: x is not a function",
      step: "save",
    });
  });

  it("shows the complete message when no code is recorded", () => {
    const failure = failureOfImport({ message: "ended by hand", failure: null });

    expect(failure).toMatchObject({ code: "Unknown", message: "ended by hand" });
  });
});
