import { ActivityFailure, CancelledFailure } from "@temporalio/workflow";
import type { ByteProgress } from "../activities/progress.ts";
import { causeOf } from "./failure-report.ts";

/** The bytes at which a step was stopped; undefined if it had reported none. */
export function bytesAtStop(failure: unknown): ByteProgress | undefined {
  const error = causeOf(failure);
  const cause = error instanceof ActivityFailure ? error.cause : error;
  const details: unknown = cause instanceof CancelledFailure ? cause.details[0] : undefined;
  const isProgress = typeof details === "object" && details !== null && "doneBytes" in details;
  return isProgress ? (details as ByteProgress) : undefined;
}
