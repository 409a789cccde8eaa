import { activityInfo } from "@temporalio/activity";
import { ApplicationFailure, CancelledFailure } from "@temporalio/common";
import type { ActivityInboundCallsInterceptor } from "@temporalio/worker";
import type { FailedAttempt } from "../activities/progress.ts";
import { ImportError } from "../domain/import-failure.ts";

// What nobody foresaw is a bug, or a fault that we have not met: some patience, and then it must be seen.
const PATIENCE_ATTEMPTS = 10;

/** The one place where our failures become Temporal's: an activity throws `ImportError`, the workflow sees its code. */
export const translateFailures: ActivityInboundCallsInterceptor = {
  async execute(input, next) {
    try {
      return await next(input);
    } catch (error) {
      throw translated(error, attemptOf(input.args));
    }
  },
};

/** One store of several may be away: whoever watches must see which. */
function attemptOf([order]: readonly unknown[]): FailedAttempt {
  if (typeof order !== "object" || order === null || !("store" in order)) return {};
  return typeof order.store === "string" ? { store: order.store } : {};
}

function translated(error: unknown, attempt: FailedAttempt): unknown {
  if (error instanceof CancelledFailure || error instanceof ApplicationFailure) return error;
  if (error instanceof ImportError) {
    return ApplicationFailure.create({
      type: error.code,
      message: error.message,
      nonRetryable: !error.retryable,
      // Nothing to wait for is no reason to try without a pause.
      ...(error.retryAfterMs ? { nextRetryDelay: error.retryAfterMs } : {}),
      // The table of failures has a hint for each code; this one may know a better way out.
      details: [{ ...attempt, hint: error.hint } satisfies FailedAttempt],
      cause: error,
    });
  }
  if (activityInfo().attempt < PATIENCE_ATTEMPTS || !(error instanceof Error)) return error;
  return ApplicationFailure.create({
    type: error.name,
    message: error.message,
    nonRetryable: true,
    cause: error,
  });
}
