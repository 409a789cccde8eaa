import { errorOf, type FailureDetails } from "../domain/failure-details.ts";
import { ImportError, type UnlistedFailure } from "../domain/import-failure.ts";
import { abandonedTask, textOfTask } from "../domain/task-failure.ts";
import type { ImportStatus, StoreProgress } from "../workflow/contract.ts";
import type { ImageView, TaskView } from "./image-view.ts";

/** The state of a run in Temporal; all but the first are ends. */
export type RunState =
  "open" | "completed" | "failed" | "refused" | "cancelled" | "terminated" | "timed out";

/** One run of the workflow that imports an image. */
export interface RunView {
  readonly run_id: string;
  /** First run of its chain: a reset makes another run of the same chain. */
  readonly first_run_id: string;
  readonly state: RunState;
  /** The run's own status; null if no worker answers for it now. */
  readonly status: ImportStatus | null;
}

/**
 * The state of the newest import of an image. It is `waiting` for its acceptance, or `running`, or
 * it has ended: `succeeded`, `failed` (also if it was cancelled), `refused`, or `abandoned`, which
 * means that its run ended without an undo. It is `unknown` while Temporal is unreachable.
 */
export type ImportState =
  "waiting" | "running" | "succeeded" | "failed" | "refused" | "abandoned" | "unknown";

/**
 * The newest import of an image: its task in the catalogue, and the status of its run.
 */
export interface ImportReport {
  readonly image_id: string;
  /** Status of the image; null when no catalogue is configured. */
  readonly status: string | null;
  readonly state: ImportState;
  /** Stores from which the image can be read now; null when no catalogue is configured. */
  readonly stores: readonly string[] | null;
  /** The record of this import; null before its acceptance, and without a catalogue. */
  readonly task: TaskView | null;
  /** The run of this import; null if its record has expired. */
  readonly run_id: string | null;
  /** The status of the run of this import, and of no other run; null if it cannot be queried. */
  readonly live: ImportStatus | null;
  /** The message of its task if it failed, was refused or abandoned; else null. */
  readonly message: string | null;
  /** The failure in this message. Null if it did not fail, or if its code is not recorded. */
  readonly failure: FailureDetails | null;
  /**
   * The user who cancelled it, such as `ann@desk`, or the process of a program of Temporal. Absent
   * if it was not cancelled, or if Temporal no longer knows it.
   */
  readonly cancelled_by?: string;
}

/** The records of one image's imports in the catalogue and in Temporal. */
export interface KnownImports {
  readonly imageId: string;
  /** Undefined when no catalogue is configured. */
  readonly image: Pick<ImageView, "status" | "stores"> | undefined;
  /** The task of the import that holds the image, else the newest. */
  readonly task: TaskView | undefined;
  /** The newest run; undefined if Temporal has none, "away" if Temporal is unreachable. */
  readonly newest: RunView | undefined | "away";
  /** The run that took the claim of the task, if it is another one and Temporal still has it. */
  readonly claimant: RunView | undefined;
}

/**
 * Reports on the newest import of an image. The task has the end of an accepted import. A run
 * reports on a task only if it has that task; after a refused start or a reset the newest run may
 * have another one. An open run with another task or none is a later import that waits for its
 * acceptance.
 *
 * @throws ImportError `ImportNotFound`
 */
export function reportOf(known: KnownImports): ImportReport {
  const { imageId, image, task, newest } = known;
  const about = { image_id: imageId, status: image?.status ?? null, stores: image?.stores ?? null };
  if (image === undefined) return { ...about, ...ofRunAlone(imageId, newest) };
  if (newest !== undefined && newest !== "away" && newest.state === "open") {
    const isOfTask = isOf(newest, known);
    if (!isOfTask && mayBeAccepted(newest)) {
      return { ...about, ...ofRun("waiting", newest), task: null };
    }
    if (isOfTask && task !== undefined && !hasEnded(task)) {
      return { ...about, ...ofRun("running", newest), task };
    }
  }
  if (task === undefined) return { ...about, ...ofNoTask(known, image) };
  if (!hasEnded(task)) return { ...about, ...ofUnfinished(known, task) };
  return {
    ...about,
    state: task.status === "success" ? "succeeded" : "failed",
    task,
    run_id: task.run_id,
    live: asItIs(runOf(known)?.status, image),
    message: task.message === "" ? null : task.message,
    failure: task.failure,
  };
}

type OfRun = Pick<ImportReport, "state" | "run_id" | "live" | "message" | "failure">;

function ofRun(state: ImportState, { run_id, status }: RunView): OfRun {
  const { message = null, failure = null } = status ?? {};
  return { state, run_id, live: status, message, failure };
}

/** True if a worker may still accept the run. A refused run stays open for a moment. */
function mayBeAccepted({ status }: RunView): boolean {
  return status === null || status.phase === "accepting";
}

/** Without a catalogue there is only the newest run. */
function ofRunAlone(imageId: string, newest: KnownImports["newest"]): OfRun & { task: null } {
  if (newest === undefined || newest === "away") throw noImport(imageId);
  const { status, state } = newest;
  const isAccepted = status !== null && status.task_id !== null;
  const reported = ((): ImportState => {
    switch (state) {
      case "open":
        return isAccepted ? "running" : "waiting";
      case "completed":
        return "succeeded";
      case "refused":
        return "refused";
      case "failed":
      case "cancelled":
        return status === null || isAccepted ? "failed" : "refused";
      case "terminated":
      case "timed out":
        return "abandoned";
    }
  })();
  const end = reported === "abandoned" ? abandonedBy(newest) : {};
  return { ...ofRun(reported, newest), ...end, task: null };
}

/** No import of this image is recorded. */
function ofNoTask(
  { imageId, newest }: KnownImports,
  { status }: Pick<ImageView, "status" | "stores">,
): OfRun & { task: null } {
  // The records of imports expire, images do not.
  const isPublished = status !== "queued" && status !== "uploading";
  if (isPublished) {
    return { state: "succeeded", task: null, run_id: null, live: null, ...NO_FAILURE };
  }
  // An import may be waiting for its acceptance.
  if (newest === "away") {
    return { state: "unknown", task: null, run_id: null, live: null, ...NO_FAILURE };
  }
  if (newest === undefined) throw noImport(imageId);
  const state = newest.state === "terminated" || newest.state === "timed out";
  return {
    ...ofRun(state ? "abandoned" : "refused", newest),
    ...(state ? abandonedBy(newest) : {}),
    task: null,
  };
}

/** The task has not ended, and its run does not continue. */
function ofUnfinished(known: KnownImports, task: TaskView): OfRun & { task: TaskView } {
  const { newest } = known;
  if (newest === "away") {
    return { state: "unknown", task, run_id: task.run_id, live: null, ...NO_FAILURE };
  }
  const run = runOf(known);
  return {
    state: "abandoned",
    task,
    run_id: run?.run_id ?? task.run_id,
    live: null,
    ...abandonedBy(run),
  };
}

const NO_FAILURE = { message: null, failure: null } as const;

/** The end of a run that left its claim behind. */
function abandonedBy(run: RunView | undefined): Pick<ImportReport, "message" | "failure"> {
  const text = `${endOf(run)}; the reconciler undoes within minutes what it left`;
  return abandonedTask(text);
}

function endOf(run: RunView | undefined): string {
  if (run === undefined) {
    return "Temporal has no run of this import any more, its history was deleted or lost";
  }
  switch (run.state) {
    case "terminated":
      return "its run was terminated";
    case "timed out":
      return "its run passed the time limit with which it was started";
    case "open":
    case "completed":
    case "failed":
    case "refused":
    case "cancelled":
      return `its run ended (${run.state}) and could not undo everything`;
  }
}

/** The run that reports on the task. */
function runOf(known: KnownImports): RunView | undefined {
  const { newest, claimant } = known;
  const candidates = [newest === "away" ? undefined : newest, claimant];
  return candidates.find((run) => run !== undefined && isOf(run, known));
}

/** True if a run has the task: by its status, or by its chain if no worker answers for it. */
function isOf(run: RunView, { task, claimant }: KnownImports): boolean {
  if (task === undefined) return false;
  if (run.status !== null) return run.status.task_id === task.id;
  return run.run_id === task.run_id || run.first_run_id === (claimant?.first_run_id ?? task.run_id);
}

/** True if the end of the import is recorded. */
function hasEnded({ status }: TaskView): boolean {
  return status === "success" || status === "failure";
}

/**
 * The status of a run that has ended, with the copies that were removed since.
 */
function asItIs(
  status: ImportStatus | null | undefined,
  { stores: present }: Pick<ImageView, "stores">,
): ImportStatus | null {
  if (status == null) return null;
  const stores = Object.entries(status.stores).map(([store, progress]) => {
    const isGone = progress.state === "stored" && !present.includes(store);
    return [store, isGone ? ({ state: "removed" } satisfies StoreProgress) : progress] as const;
  });
  return { ...status, stores: Object.fromEntries(stores) };
}

/** The error to throw for an import that failed, was refused or abandoned. */
export function failureOfImport({
  message,
  failure,
}: Pick<ImportReport, "message" | "failure">): ImportError | UnlistedFailure {
  const details = failure ?? { code: "Unknown" };
  return errorOf(details, textOfTask(message ?? "", details.code));
}

function noImport(imageId: string): ImportError {
  return new ImportError(
    "ImportNotFound",
    `No import of image "${imageId}" is on record: none was started, or its record has expired`,
  );
}
