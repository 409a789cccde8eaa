import { activityInfo } from "@temporalio/activity";
import { ApplicationFailure, CancelledFailure } from "@temporalio/common";
import type { ActivityInboundCallsInterceptor } from "@temporalio/worker";
import type { ByteActivities, ControlActivities, CleanUpActivities } from "../activities/index.ts";
import { DatabaseRefusal } from "../db/database-failure.ts";
import type { FailureDetails } from "../domain/failure-details.ts";
import { ImportError } from "../domain/import-failure.ts";

type Step = keyof (ControlActivities & ByteActivities & CleanUpActivities);

/**
 * The steps that end their import when they fail again and again with an error that this software
 * does not know. Undos, removals and sweeps are not among them: they are tried again whatever the
 * error, because without them bytes or claims are left behind.
 * `giveUpStore` is not among them either: the import continues without the store already, and the
 * catalogue must record that.
 */
const GIVEN_UP: readonly string[] = [
  "claimImport",
  "fetchImage",
  "verifyStaging",
  "transformStaged",
  "digestStaged",
  "checkDigest",
  "storeImage",
  "saveImage",
  "confirmCopies",
  "activateImage",
  "publishImage",
] satisfies readonly Step[];

// An error that this software does not know is a bug or an unforeseen fault: a few retries may
// help, and then a person must see it.
const PATIENCE_ATTEMPTS = 10;

/**
 * The one place where our failures become Temporal's: an activity throws `ImportError`, the
 * workflow sees its code.
 */
export const translateFailures: ActivityInboundCallsInterceptor = {
  async execute(input, next) {
    try {
      return await next(input);
    } catch (error) {
      throw translated(error, storeOf(input.args));
    }
  },
};

/** The store that a step is about: of several stores, a user must see which one is unreachable. */
function storeOf([order]: readonly unknown[]): Pick<FailureDetails, "store"> {
  if (typeof order !== "object" || order === null || !("store" in order)) return {};
  return typeof order.store === "string" ? { store: order.store } : {};
}

function translated(error: unknown, store: Pick<FailureDetails, "store">): unknown {
  if (error instanceof CancelledFailure || error instanceof ApplicationFailure) return error;
  const at = { attempt: activityInfo().attempt };
  if (error instanceof ImportError) {
    return ApplicationFailure.create({
      type: error.code,
      message: error.message,
      nonRetryable: isPermanent(error),
      // Without a given time, the retry policy sets the pause.
      ...(error.retryAfterMs ? { nextRetryDelay: error.retryAfterMs } : {}),
      details: [{ code: error.code, hint: error.hint, ...store } satisfies FailureDetails, at],
      cause: error,
    });
  }
  if (!isGivenUp() || !(error instanceof Error)) return error;
  return ApplicationFailure.create({
    type: error.name,
    message: error.message,
    nonRetryable: true,
    details: [{ code: error.name, ...store } satisfies FailureDetails, at],
    cause: error,
  });
}

/**
 * True if a step is not retried after this failure. Before an import is accepted, a refusal of the
 * database is the answer to its request. Afterwards there is finished work, and an undo that must
 * run: both wait for the operator.
 */
function isPermanent(error: ImportError): boolean {
  if (error instanceof DatabaseRefusal) return activityInfo().activityType === "claimImport";
  return !error.retryable;
}

function isGivenUp(): boolean {
  const { activityType, attempt } = activityInfo();
  return attempt >= PATIENCE_ATTEMPTS && GIVEN_UP.includes(activityType);
}
