import type { ImportPhase, StoreProgress } from "../workflow/contract.ts";
import type { FailureDocument } from "./failure.ts";

/** A change of an import, for programs. A line of `--json-lines` adds time and subject. */
export type ImportEvent =
  | { readonly event: "created"; readonly name: string | null }
  | { readonly event: "phase"; readonly phase: ImportPhase; readonly started_at: string }
  | ProgressEvent
  | FailedAttempt
  | StoreEvent
  | { readonly event: "pausing" | "resumed" }
  | { readonly event: "paused"; readonly paused_at?: string | undefined }
  | { readonly event: "note" | "warning"; readonly message: string }
  | {
      readonly event: "accepted";
      readonly workflow_id?: string | undefined;
      readonly answer?: unknown;
    }
  | EndEvent;

/** The work that an event is about. */
interface EventWork {
  /** `copying` into a store, or the name of a step. */
  readonly work: string;
  /** The store of a copy. */
  readonly store?: string | undefined;
}

/** The event of more bytes that are done. */
export interface ProgressEvent extends EventWork {
  readonly event: "progress";
  readonly done_bytes: number;
  readonly total_bytes?: number | undefined;
  readonly bytes_per_second?: number | undefined;
}

/** The event of a failed attempt of a step; another attempt follows. */
export interface FailedAttempt extends EventWork {
  readonly event: "attempt_failed";
  /** Number of the attempt that failed. */
  readonly attempt: number;
  /** ISO 8601; absent once it has begun. */
  readonly next_attempt_at?: string | undefined;
  readonly message: string;
}

/** The event of a new state of the copy in a store. */
export interface StoreEvent {
  readonly event: "store";
  readonly store: string;
  readonly state: StoreProgress["state"];
  /** The way in which the copy was made, such as `link` or `copy`. */
  readonly method?: string | undefined;
  /** ISO 8601. */
  readonly started_at?: string | undefined;
  readonly ended_at?: string | undefined;
  /** The failure of the copy. */
  readonly message?: string | undefined;
}

/**
 * The end of the command, or of one of several imports. `left`: the user has left, and the import
 * continues. `waiting`: no worker has accepted it yet.
 */
export interface EndEvent {
  readonly event: "succeeded" | "failed" | "cancelled" | "left" | "waiting";
  /** The document that `--json` writes to stdout. */
  readonly answer?: unknown;
  /** The document that `--json` writes to stderr. */
  readonly error?: FailureDocument | undefined;
}

/** The kind of an end. `accepted`: the command did not follow the import. */
export type End = EndEvent["event"] | "accepted";
