import {
  ActivityFailure,
  ApplicationFailure,
  isCancellation,
  TimeoutFailure,
} from "@temporalio/workflow";
import { readFailureDetails, type FailureDetails } from "../domain/failure-details.ts";
import type { ImportFailureCode } from "../domain/import-failure.ts";

/** A failure for users: its details, and its text. */
export interface FailureReport extends FailureDetails {
  readonly text: string;
}

/** The failure of a step, with its place. */
export class StepFailure extends Error {
  readonly place: Pick<FailureDetails, "step" | "store">;

  constructor(cause: unknown, { name, store }: { readonly name: string; readonly store?: string }) {
    super(`Step "${name}" failed`, { cause });
    this.name = "StepFailure";
    this.place = { step: name, ...(store === undefined ? {} : { store }) };
  }
}

/** The error that a step threw, without its place. */
export function causeOf(error: unknown): unknown {
  return error instanceof StepFailure ? error.cause : error;
}

/**
 * True if a step ended because of a cancel: it was cancelled, or it failed and a cancel prevented
 * its retry (its worker died, or its store became unreachable).
 */
export function wasStopped(failure: unknown): boolean {
  const error = causeOf(failure);
  if (isCancellation(error)) return true;
  if (!(error instanceof ActivityFailure) || error.retryState !== "CANCEL_REQUESTED") return false;
  return !(error.cause instanceof ApplicationFailure && error.cause.nonRetryable === true);
}

/** The step that failed, and its store; neither if the error was thrown outside of a step. */
export function placeOf(failure: unknown): Pick<FailureDetails, "step" | "store"> {
  return failure instanceof StepFailure ? failure.place : {};
}

/** Finds the failure that matters under the wrappings of Temporal. */
export function describeFailure(failure: unknown): FailureReport {
  const error = causeOf(failure);
  const place = placeOf(failure);
  const cause = error instanceof ActivityFailure ? (error.cause ?? error) : error;
  if (wasStopped(error)) return { code: "ImportCancelled", text: "it was cancelled", ...place };
  if (cause instanceof ApplicationFailure) {
    const details = readFailureDetails(cause.details?.[0], cause.type ?? "Error");
    return { ...details, text: cause.message, ...place };
  }
  return { ...ofUnlisted(cause), ...place };
}

/** The attempt of a step that failed permanently; undefined if it is unknown. */
export function attemptOf(failure: unknown): number | undefined {
  const error = causeOf(failure);
  const cause = error instanceof ActivityFailure ? error.cause : undefined;
  if (!(cause instanceof ApplicationFailure)) return undefined;
  const at: unknown = cause.details?.[1];
  if (typeof at !== "object" || at === null || !("attempt" in at)) return undefined;
  return typeof at.attempt === "number" ? at.attempt : undefined;
}

function ofUnlisted(cause: unknown): FailureReport {
  if (cause instanceof TimeoutFailure) {
    const last =
      cause.cause instanceof ApplicationFailure ? `; before: ${cause.cause.message}` : "";
    return { code: "Timeout", text: `${cause.message}${last}` };
  }
  if (cause instanceof Error) return { code: cause.name, text: cause.message };
  return { code: "Error", text: String(cause) };
}

/** True if a failure of this type is among the causes of an error, also under a timeout. */
export function hasFailedWith(error: unknown, type: ImportFailureCode): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof ApplicationFailure && cause.type === type) return true;
  }
  return false;
}
