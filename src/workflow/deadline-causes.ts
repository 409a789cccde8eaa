import type { LastFailure } from "../activities/progress.ts";

/** Names of steps for users, by the names of activities. */
const STEPS: Readonly<Record<string, string>> = {
  fetchImage: "fetch",
  verifyStaging: "verify",
  transformStaged: "transform",
  digestStaged: "digest",
  checkDigest: "check",
  storeImage: "store",
  removeCopy: "the removal from store",
  giveUpStore: "continuing without store",
  saveImage: "save",
  activateImage: "activate",
  publishImage: "publish",
};

/** A cause of a passed deadline: the last failure of a step that was retried until then. */
export function causeOfDeadline(failure: LastFailure): string {
  const { activity, store, attempt, type, message } = failure;
  const step = STEPS[activity] ?? activity;
  const where = store === undefined ? step : `${step} "${store}"`;
  return `attempt ${String(attempt)} of ${where} failed: ${type}: ${message}`;
}
