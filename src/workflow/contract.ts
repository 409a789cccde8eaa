import { defineSearchAttributeKey, type RawValue } from "@temporalio/common";
import { defineQuery, defineSignal, defineUpdate } from "@temporalio/workflow";
import type { FailureDetails } from "../domain/failure-details.ts";
import type { RemovalOrder } from "../domain/undo-order.ts";
import type { ImportMethod } from "../domain/import-request.ts";
import { ANY_ARGUMENTS } from "./message-arguments.ts";

/** Task queue of the workflows and of the steps that need only the catalogue. */
export const CONTROL_QUEUE = "image-import";

/** Task queue of the byte steps on a staging volume: few slots, long steps. */
export function byteQueue(node: string): string {
  return `image-import.staging.${node}`;
}

/**
 * Task queue of undos and clean-up on a staging volume: short steps that never wait behind copies.
 * Its name on the wire stays `prompt`: histories and running imports contain it.
 */
export function cleanUpQueue(node: string): string {
  return `image-import.staging.${node}.prompt`;
}

/**
 * Time limit of an undo with all its attempts, in ms. A client waits longer for an answer that
 * comes after one.
 */
export const UNDO_LIMIT_MS = 120_000;

/**
 * Workflow id of the import of an image. It is the lock that users see: at most one open run has
 * it.
 */
export function importWorkflowId(imageId: string): string {
  return `image-import/${imageId}`;
}

/** Id of the image in a workflow id of {@link importWorkflowId}. */
export function imageIdOf(workflowId: string): string {
  return workflowId.slice(workflowId.indexOf("/") + 1);
}

/** Workflow id of the deletion of an image. */
export function deletionWorkflowId(imageId: string): string {
  return `image-delete/${imageId}`;
}

/**
 * Workflow id of the removal of one copy. Each copy has a workflow of its own: an unreachable store
 * delays only the removals from it.
 */
export function copyRemovalWorkflowId({ image_id, epoch, store }: RemovalOrder): string {
  return `image-remove-copy/${image_id}/${store}/${String(epoch)}`;
}

/** Id of the Schedule that runs the reconciler, and of its workflow. */
export const RECONCILER_ID = "reconcile-imports";

/** Workflow id of a reconciliation that a user asks for: it does not wait for the Schedule's. */
export const RECONCILIATION_BY_HAND_ID = "reconcile-imports/by-hand";

/** Workflow id of the search for what the reconciler would do. */
export const FIND_LEFTOVERS_ID = "find-leftovers";

/** The result of a reconciliation. */
export interface Reconciled {
  /** Claims that were released. */
  readonly claims: number;
  /** Copies of imports without a run that were removed. */
  readonly copies: number;
  /** Deletions of images and of single copies that were continued. */
  readonly deletions: number;
  /** Uploads, downloads and products that were removed from staging. */
  readonly staged: number;
  /** Parts without an owner that were removed from staging and stores. */
  readonly parts: number;
  /** Records of tasks that were removed, because their time to live has passed. */
  readonly tasks: number;
  /** Work that failed; the next reconciliation retries it. */
  readonly failures: readonly string[];
}

/** Something that the reconciler would undo or continue. What does not apply is null. */
export interface Leftover {
  /**
   * `claim`: of a run that has closed without its undo. `copy`: of an import that has ended.
   * `deletion`, `copy_removal`: began, and did not end. `staged`: an upload, download or product
   * without an owner. `transform`: outside effects to undo. `part`: a private file without a lease.
   */
  readonly kind: "claim" | "copy" | "deletion" | "copy_removal" | "staged" | "transform" | "part";
  readonly image_id: string | null;
  readonly store: string | null;
  /** The staging volume whose worker does it. */
  readonly node: string | null;
  /** Name of a part or transform; of staged data `upload`, `download` or `product/<number>`. */
  readonly name: string | null;
}

/** The work of the next reconciliation. */
export interface Leftovers {
  readonly leftovers: readonly Leftover[];
  /** The number of leftovers that are not listed, because there are too many. */
  readonly left_out: number;
  /** Records of tasks whose time to live has passed. */
  readonly expired_tasks: number;
  /** Places that could not be looked at. */
  readonly failures: readonly string[];
}

/**
 * The phase of an import. `done`, `failed`, `refused` and `cancelled` are the ends; `refused` means
 * that it was never accepted.
 */
export type ImportPhase =
  | "accepting"
  | "fetching"
  | "verifying"
  | "transforming"
  | "storing"
  | "saving"
  | "activating"
  | "unstaging"
  | "undoing"
  | "done"
  | "failed"
  | "refused"
  | "cancelled";

/** The last phase of an import. */
export type EndPhase = Extract<ImportPhase, "done" | "failed" | "refused" | "cancelled">;

/** True if no phase follows. @internal */
export function isEndPhase(phase: ImportPhase): phase is EndPhase {
  return ["done", "failed", "refused", "cancelled"].includes(phase);
}

/** The state of the copy in one store. `removed`: the copy was stored and later removed. */
export interface StoreProgress {
  state: "waiting" | "copying" | "stored" | "failed" | "stopped" | "dropped" | "removed";
  /** The way in which the copy was made, such as `link` or `copy`. */
  method?: string;
  /** Begin of the copy, as ISO 8601. Absent before it, and in runs of 0.1.0. */
  started_at?: string;
  /** End of the copy, successful or not, as ISO 8601. */
  ended_at?: string;
  /** Bytes of the source that are in the copy: live, or those at which a pause stopped it. */
  done_bytes?: number;
  /** Live: rate over the last ten seconds. */
  bytes_per_second?: number;
  /** Live: number of the attempt that runs or will run next. */
  attempt?: number;
  /** Live: begin of that attempt, while the copy waits for it. */
  next_attempt_at?: string;
  /**
   * Message of its failure, if the copy has failed. Live: message of the last attempt's failure, or
   * the reason for which the copy waits.
   */
  last_failure?: string;
}

/** A phase with its begin and end, as ISO 8601. */
export interface PhaseTime {
  readonly phase: ImportPhase;
  readonly started_at: string;
  ended_at: string | null;
}

/** The result of the query `importStatus`. */
export interface ImportStatus {
  readonly image_id: string;
  readonly task_id: string | null;
  readonly method: ImportMethod;
  readonly phase: ImportPhase;
  /** `pausing after this step` until the running steps have stopped or ended. */
  readonly pause: "running" | "pausing after this step" | "paused";
  /** Time of the request to pause; absent while the import runs. */
  readonly paused_at?: string;
  /** Size of the image in bytes, once verified. */
  readonly size: number | null;
  readonly stores: Readonly<Record<string, StoreProgress>>;
  readonly phases: readonly PhaseTime[];
  /** Format of the bytes, once verified. */
  readonly detected_format: string | null;
  /**
   * The checks of the verdict: `pass`, or the reason of a failure that is tolerated. Empty before
   * the image is verified.
   */
  readonly checks: Readonly<Record<string, string>>;
  /** The message of its task, if it failed. */
  readonly message: string | null;
  /** The failure in this message. Absent if it did not fail, and in runs of 0.1.0. */
  readonly failure?: FailureDetails;
  /**
   * Bytes done by the fetch, verify, transform or digest step: live, or those at which a pause
   * stopped it.
   */
  done_bytes?: number;
  /** Total bytes of that step, if known. */
  total_bytes?: number;
  /** Live: rate of that step over the last ten seconds. */
  bytes_per_second?: number;
  /** Live: number of its attempt that runs or will run next. */
  attempt?: number;
  /** Live: begin of that attempt, while the step waits for it. */
  next_attempt_at?: string;
  /**
   * Live: message of the last attempt's failure, or the reason for which the step waits. Steps that
   * move no bytes have it, too.
   */
  last_failure?: string;
}

/** The result of an accepted request for more copies of an active image. */
export interface AcceptedCopy {
  readonly image_id: string;
  /** Null if there was nothing to do: every requested store has the image. */
  readonly task_id: string | null;
  readonly workflow_id: string;
  readonly run_id: string;
}

/** The result of an accepted import. */
export interface AcceptedImport extends AcceptedCopy {
  readonly task_id: string;
}

/** The result of a finished import. */
export interface ImportOutcome extends AcceptedCopy {
  readonly status: "active";
  readonly size: number;
  readonly virtual_size: number | null;
  /**
   * Format of the bytes, as the verdict recognised it. Absent for further copies, and if Temporal
   * has lost the run.
   */
  readonly detected_format?: string;
  /** Format of the upload or download. Absent if no transform made other bytes of it. */
  readonly staged_format?: string;
  readonly checksum: string;
  readonly os_hash_algo: string;
  readonly os_hash_value: string;
  readonly stores: readonly string[];
  /** False if the staged data could not be deleted in time; the sweeper deletes it. */
  readonly unstaged: boolean;
}

/**
 * The result of a run whose start was refused, if `acceptImport` gave the refusal to the client
 * that started it. A run that was started plainly fails with the refusal.
 */
export interface RefusedImport extends AcceptedCopy {
  readonly task_id: null;
  readonly status: "refused";
  readonly message: string;
  readonly failure: FailureDetails;
}

/** The current state of the import, for users and programs. @internal */
export const importStatus = defineQuery<ImportStatus, RawValue[]>("importStatus", ANY_ARGUMENTS);
/** Stops the byte steps within seconds and keeps their parts. @internal */
export const pauseImport = defineSignal<RawValue[]>("pauseImport", ANY_ARGUMENTS);
/** Continues from where the pause stopped. @internal */
export const resumeImport = defineSignal<RawValue[]>("resumeImport", ANY_ARGUMENTS);
/** Sent with the start: returns the result of the acceptance. @internal */
export const acceptImport = defineUpdate<AcceptedCopy, [string]>("acceptImport");

/**
 * Continues without a store: stops and removes its copy. Returns the remaining stores.
 *
 * @internal
 */
export const dropStore = defineUpdate<{ readonly stores: readonly string[] }, [string]>(
  "dropStore",
);

/**
 * Failure type of {@link acceptImport} from a run that is about to end. The detail of the failure
 * is the id of that run: the client starts again when that run has closed.
 */
export const IMPORT_ENDING = "ImportEnding";

/**
 * Search attributes of imports, registered by `migrate`. `ImageName` is the name at the time of the
 * acceptance. `ImportPhase` is a phase, or `paused`. @internal
 */
export const SEARCH_ATTRIBUTES = {
  imageId: defineSearchAttributeKey("ImageId", "KEYWORD"),
  imageName: defineSearchAttributeKey("ImageName", "KEYWORD"),
  importPhase: defineSearchAttributeKey("ImportPhase", "KEYWORD"),
  importStores: defineSearchAttributeKey("ImportStores", "KEYWORD_LIST"),
  importMethod: defineSearchAttributeKey("ImportMethod", "KEYWORD"),
  owner: defineSearchAttributeKey("Owner", "KEYWORD"),
} as const;
