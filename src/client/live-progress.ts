import type { WorkflowExecutionDescription } from "@temporalio/client";
import { defaultPayloadConverter } from "@temporalio/common";
import type { ByteProgress } from "../activities/progress.ts";
import type { ImportStatus, StoreProgress } from "../workflow/contract.ts";

type PendingActivity = NonNullable<
  WorkflowExecutionDescription["raw"]["pendingActivities"]
>[number];

/** Adds what the running byte steps told with their last heartbeat to what the workflow says of itself. */
export function withLiveProgress(
  status: ImportStatus,
  description: WorkflowExecutionDescription,
): ImportStatus {
  const stores: Record<string, StoreProgress> = { ...status.stores };
  let own: ByteProgress | undefined;
  for (const activity of description.raw.pendingActivities ?? []) {
    const beat = lastHeartbeat(activity);
    if (beat === undefined) continue;
    if (beat.store === undefined) own = beat;
    else stores[beat.store] = liveStore(stores[beat.store], beat, activity);
  }
  if (own === undefined) return { ...status, stores };
  const { doneBytes, totalBytes } = own;
  const total = totalBytes === undefined ? {} : { total_bytes: totalBytes };
  return { ...status, stores, done_bytes: doneBytes, ...total };
}

function lastHeartbeat({ heartbeatDetails }: PendingActivity): ByteProgress | undefined {
  const [payload] = heartbeatDetails?.payloads ?? [];
  if (payload === undefined) return undefined;
  const details: unknown = defaultPayloadConverter.fromPayload(payload);
  const isOurs = typeof details === "object" && details !== null && "doneBytes" in details;
  return isOurs ? (details as ByteProgress) : undefined;
}

function liveStore(
  known: StoreProgress | undefined,
  beat: ByteProgress,
  { attempt, lastFailure }: PendingActivity,
): StoreProgress {
  return {
    state: "copying",
    ...known,
    done_bytes: beat.doneBytes,
    attempt: attempt ?? 1,
    ...(lastFailure?.message == null ? {} : { last_failure: lastFailure.message }),
  };
}
