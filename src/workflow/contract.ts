import { defineSearchAttributeKey } from "@temporalio/common";
import { defineQuery, defineSignal, defineUpdate } from "@temporalio/workflow";
import type { FailureDetails } from "../domain/failure-details.ts";
import type { ImportMethod } from "../domain/import-request.ts";

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
 * Workflow id of the import of an image. It is the lock that people see: one open run at a time has
 * it.
 */
export function importWorkflowId(imageId: string): string {
  return `image-import/${imageId}`;
}

/** Workflow id of the deletion of an image. */
export function deletionWorkflowId(imageId: string): string {
  return `image-delete/${imageId}`;
}

/** A copy of a published image whose removal has begun, and the node that reaches its store. */
export interface CopyToRemove {
  readonly image_id: string;
  readonly epoch: number;
  readonly store: string;
  readonly node: string;
}

/**
 * Workflow id of the removal of one copy. Each copy has its own: none waits for a store of another.
 */
export function copyRemovalWorkflowId({ image_id, epoch, store }: CopyToRemove): string {
  return `image-remove-copy/${image_id}/${store}/${String(epoch)}`;
}

/** Id of the Schedule that runs the reconciler, and of its workflow. */
export const RECONCILER_ID = "reconcile-imports";

/** How far an import is. `done`, `failed` and `cancelled` are the ends. */
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
  | "cancelled";

/** What has become of the copy in one store; `removed`: it was made, and is not there any more. */
export interface StoreProgress {
  state: "waiting" | "copying" | "stored" | "failed" | "stopped" | "dropped" | "removed";
  /** How the copy was made. */
  method?: string;
  /** Live: bytes of the source that are in the copy, when the copy runs. */
  done_bytes?: number;
  /** Live: which attempt runs, or is waited for. */
  attempt?: number;
  /** Why it failed; live: why the last attempt did. */
  last_failure?: string;
}

/** A phase and when it began and ended, as ISO 8601. */
export interface PhaseTime {
  readonly phase: ImportPhase;
  readonly started_at: string;
  ended_at: string | null;
}

/** The answer of the query `importStatus`. */
export interface ImportStatus {
  readonly image_id: string;
  readonly task_id: string | null;
  readonly method: ImportMethod;
  readonly phase: ImportPhase;
  /** `pausing after this step` when what runs now can't stop in the middle. */
  readonly pause: "running" | "pausing after this step" | "paused";
  /** Size of the image in bytes, once verified. */
  readonly size: number | null;
  readonly stores: Readonly<Record<string, StoreProgress>>;
  readonly phases: readonly PhaseTime[];
  /** What the bytes are, once verified. */
  readonly detected_format: string | null;
  /**
   * The checks of the verdict: `pass`, or why the image fails one that is tolerated; none before it
   * is verified.
   */
  readonly checks: Readonly<Record<string, string>>;
  /** The message of its task, if it failed. */
  readonly message: string | null;
  /** The failure in this message. Absent if it did not fail, and in runs of 0.1.0. */
  readonly failure?: FailureDetails;
  /** Live: what fetching, verifying, transforming or digesting has done, when it runs. */
  done_bytes?: number;
  /** Live: of how many bytes, where that is known. */
  total_bytes?: number;
  /** Live: which attempt of it runs, or is waited for. */
  attempt?: number;
  /** Live: why its last attempt failed; also of a step that is about no bytes. */
  last_failure?: string;
}

/** What accepted copies of an active image answer. */
export interface AcceptedCopy {
  readonly image_id: string;
  /** Null when there was nothing to do: every store that was asked for has the image. */
  readonly task_id: string | null;
  readonly workflow_id: string;
  readonly run_id: string;
}

/** What an accepted import answers. */
export interface AcceptedImport extends AcceptedCopy {
  readonly task_id: string;
}

/** What a finished import answers. */
export interface ImportOutcome extends AcceptedCopy {
  readonly status: "active";
  readonly size: number;
  readonly virtual_size: number | null;
  readonly checksum: string;
  readonly os_hash_algo: string;
  readonly os_hash_value: string;
  readonly stores: readonly string[];
  /** Staged data that could not be deleted in time; the sweeper removes it. */
  readonly unstaged: boolean;
}

/** What the import does now, for people and programs. */
export const importStatus = defineQuery<ImportStatus>("importStatus");
/** Stops the bytes within seconds and keeps what was copied. */
export const pauseImport = defineSignal("pauseImport");
/** Goes on from where the pause stopped. */
export const resumeImport = defineSignal("resumeImport");
/** Sent with the start: answers with the verdict of the acceptance. */
export const acceptImport = defineUpdate<AcceptedCopy, [string]>("acceptImport");

/**
 * Goes on without a store: its copy is stopped and removed. Answers with the stores that are left.
 */
export const dropStore = defineUpdate<{ readonly stores: readonly string[] }, [string]>(
  "dropStore",
);

/**
 * Failure type of {@link acceptImport} from a run that is ending: start again once that run, which
 * the failure's detail names, has closed.
 */
export const IMPORT_ENDING = "ImportEnding";

/** Search attributes of imports, registered by `migrate`. */
export const SEARCH_ATTRIBUTES = {
  imageId: defineSearchAttributeKey("ImageId", "KEYWORD"),
  importPhase: defineSearchAttributeKey("ImportPhase", "KEYWORD"),
  importStores: defineSearchAttributeKey("ImportStores", "KEYWORD_LIST"),
  importMethod: defineSearchAttributeKey("ImportMethod", "KEYWORD"),
  owner: defineSearchAttributeKey("Owner", "KEYWORD"),
} as const;
