import {
  ActivityFailure,
  ApplicationFailure,
  isCancellation,
  TimeoutFailure,
} from "@temporalio/workflow";
import type { ImportFailureCode } from "../domain/import-failure.ts";
import { hintOf } from "./contract.ts";

/** A failure in two words for people: its stable type, and what happened. */
export interface FailureReport {
  readonly type: string;
  readonly text: string;
  /** The way out, where the step that failed knows one. */
  readonly hint?: string;
}

/**
 * Whether a step ended because it was told to: by a cancel, or by a failure that would have been
 * tried again, had no cancel been asked for meanwhile (its worker died, or its store went away).
 */
export function wasStopped(error: unknown): boolean {
  if (isCancellation(error)) return true;
  if (!(error instanceof ActivityFailure) || error.retryState !== "CANCEL_REQUESTED") return false;
  return !(error.cause instanceof ApplicationFailure && error.cause.nonRetryable === true);
}

/** Finds the failure that matters under the wrappings of Temporal. */
export function describeFailure(error: unknown): FailureReport {
  const cause = error instanceof ActivityFailure ? (error.cause ?? error) : error;
  if (wasStopped(error)) return { type: "ImportCancelled", text: "it was cancelled" };
  if (cause instanceof ApplicationFailure) {
    const hint = hintOf(cause.details);
    return {
      type: cause.type ?? "Error",
      text: cause.message,
      ...(hint === undefined ? {} : { hint }),
    };
  }
  if (cause instanceof TimeoutFailure) {
    const last =
      cause.cause instanceof ApplicationFailure ? `; before: ${cause.cause.message}` : "";
    return { type: "Timeout", text: `${cause.message}${last}` };
  }
  if (cause instanceof Error) return { type: cause.name, text: cause.message };
  return { type: "Error", text: String(cause) };
}

/** Whether a failure of this type is the cause of an error, also of a step whose time was over. */
export function hasFailedWith(error: unknown, type: ImportFailureCode): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof ApplicationFailure && cause.type === type) return true;
  }
  return false;
}
