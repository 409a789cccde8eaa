import type { WorkflowExecutionDescription } from "@temporalio/client";
import { defaultPayloadConverter } from "@temporalio/common";
import type { ByteProgress, LastFailure } from "../activities/progress.ts";
import { readFailureDetails } from "../domain/failure-details.ts";
import type { ImportStatus, StoreProgress } from "../workflow/contract.ts";

type PendingActivity = NonNullable<
  WorkflowExecutionDescription["raw"]["pendingActivities"]
>[number];
type Payloads = NonNullable<PendingActivity["heartbeatDetails"]>;

/**
 * Adds to the status of the workflow the last heartbeat of each running step, and the failure of
 * its last attempt or the reason for which the current one waits.
 */
export function withLiveProgress(
  status: ImportStatus,
  description: WorkflowExecutionDescription,
): ImportStatus {
  const stores: Record<string, StoreProgress> = { ...status.stores };
  let own: Partial<ImportStatus> = {};
  for (const activity of description.raw.pendingActivities ?? []) {
    const beat = lastHeartbeat(activity);
    const { attempt, lastFailure } = activity;
    if (beat === undefined && lastFailure == null) continue;
    const next = nextAttemptOf(activity);
    // After an attempt has ended, its failure is newer than its last heartbeat.
    const waitsFor = "next_attempt_at" in next ? undefined : beat?.waitsFor;
    const reason = waitsFor ?? lastFailure?.message;
    const live = {
      ...bytesOf(beat),
      ...(waitsFor === undefined ? {} : { bytes_per_second: 0 }),
      attempt: attempt ?? 1,
      ...next,
      ...(reason == null ? {} : { last_failure: reason }),
    };
    // With an unreachable store every attempt may fail before its first heartbeat.
    const store = beat?.store ?? storeOf(activity);
    if (store === undefined) own = { ...own, ...totalOf(beat), ...live };
    else stores[store] = { state: "copying", ...stores[store], ...live };
  }
  return { ...status, stores, ...own };
}

/** The last failure of each step of an open run that has failed and is retried. */
export function lastFailures(description: WorkflowExecutionDescription): LastFailure[] {
  return (description.raw.pendingActivities ?? []).flatMap((activity) => {
    const { lastFailure, attempt, activityType } = activity;
    if (lastFailure == null) return [];
    const store = storeOf(activity) ?? lastHeartbeat(activity)?.store;
    return [
      {
        activity: activityType?.name ?? "",
        ...(store === undefined ? {} : { store }),
        // Temporal counts the attempt that runs or comes next.
        attempt: Math.max(1, (attempt ?? 1) - 1),
        type: lastFailure.applicationFailureInfo?.type ?? "Timeout",
        message: lastFailure.message ?? "",
      },
    ];
  });
}

function lastHeartbeat({ heartbeatDetails }: PendingActivity): ByteProgress | undefined {
  const details = firstOf(heartbeatDetails);
  const isOurs = typeof details === "object" && details !== null && "doneBytes" in details;
  return isOurs ? (details as ByteProgress) : undefined;
}

/** The store that the failed attempt of a step was about. */
function storeOf({ lastFailure }: PendingActivity): string | undefined {
  const { details, type } = lastFailure?.applicationFailureInfo ?? {};
  return readFailureDetails(firstOf(details), type ?? "").store;
}

function firstOf(details: Payloads | null | undefined): unknown {
  const [payload] = details?.payloads ?? [];
  return payload === undefined ? undefined : defaultPayloadConverter.fromPayload(payload);
}

function bytesOf(beat: ByteProgress | undefined) {
  if (beat === undefined) return {};
  const { doneBytes, bytesPerSecond } = beat;
  const rate = bytesPerSecond === undefined ? {} : { bytes_per_second: bytesPerSecond };
  return { done_bytes: doneBytes, ...rate };
}

/** The start of the next attempt of a step that waits for it. No bytes move meanwhile. */
function nextAttemptOf({ nextAttemptScheduleTime: time }: PendingActivity) {
  if (time == null || Number(time.seconds ?? 0) === 0) return {};
  const atMs = Number(time.seconds) * 1000 + Math.floor((time.nanos ?? 0) / 1e6);
  return { next_attempt_at: new Date(atMs).toISOString(), bytes_per_second: 0 };
}

/** The total of a step that concerns no store. That of a copy is the size in the status. */
function totalOf(beat: ByteProgress | undefined) {
  return beat?.totalBytes === undefined ? {} : { total_bytes: beat.totalBytes };
}
