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

/** The place of a failure: a step, and the store that it was about. */
export interface FailedAt {
  readonly step: string;
  readonly store: string | undefined;
}

/** The failure of a step, with its place. */
export class StepFailure extends Error {
  readonly at: FailedAt;

  constructor(cause: unknown, { name, store }: { readonly name: string; readonly store?: string }) {
    super(`Step "${name}" failed`, { cause });
    this.name = "StepFailure";
    this.at = { step: name, store };
  }
}

/** The error that a step threw, without its place. */
export function causeOf(error: unknown): unknown {
  return error instanceof StepFailure ? error.cause : error;
}

/** The place of a failure. Before the first step that is the claim. */
export function placeOf(error: unknown): FailedAt {
  return error instanceof StepFailure ? error.at : { step: "claim", store: undefined };
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

/** Finds the failure that matters under the wrappings of Temporal. */
export function describeFailure(failure: unknown): FailureReport {
  const error = causeOf(failure);
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

/** True if a failure of this type is among the causes of an error, also under a timeout. */
export function hasFailedWith(error: unknown, type: ImportFailureCode): boolean {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof ApplicationFailure && cause.type === type) return true;
  }
  return false;
}
