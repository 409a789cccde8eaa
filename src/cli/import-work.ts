import type { EndPhase, ImportPhase, ImportStatus, StoreProgress } from "../workflow/contract.ts";
import type { Amount, Work, WorkState } from "./work-state.ts";

/** The work of an import: the step that concerns no store, if it has news, and each copy. */
export function workOf(status: ImportStatus): Work[] {
  const own = ownStep(status);
  return [
    ...(own === undefined ? [] : [own]),
    ...Object.entries(status.stores).map(([store, progress]) => ({
      label: `store ${store}`,
      state: stateOfCopy(progress, status),
    })),
  ];
}

/**
 * True for the last phase of an import. Repeats `isEndPhase` of the contract, which loads Temporal.
 */
export function isEnd(phase: ImportPhase): phase is EndPhase {
  return ["done", "failed", "refused", "cancelled"].includes(phase);
}

/** Label of the step that runs beside the copies. */
export const DIGESTING = "digesting";

/** The step that concerns no store, if it moves bytes or is retried. */
function ownStep(status: ImportStatus): Work | undefined {
  const { phase, last_failure: reason, done_bytes: doneBytes, attempt } = status;
  const label = phase === "storing" ? DIGESTING : phase;
  const amount =
    doneBytes === undefined ? undefined : { doneBytes, totalBytes: status.total_bytes };
  if (status.pause === "paused") return amount && { label, state: pausedAt(amount, status) };
  const nextAttemptAt = status.next_attempt_at;
  if (reason !== undefined && (amount === undefined || !isMoving(status))) {
    return { label, state: { kind: "retrying", attempt: attempt ?? 1, nextAttemptAt, reason } };
  }
  if (amount === undefined) return undefined;
  return { label, state: { kind: "moving", ...amount, bytesPerSecond: status.bytes_per_second } };
}

/** The state of the copy in one store. */
export function stateOfCopy(copy: StoreProgress, status: ImportStatus): WorkState {
  const { state, last_failure: reason, attempt = 1, next_attempt_at: nextAttemptAt } = copy;
  if (state !== "copying" && state !== "waiting") return endOfCopy(copy);
  if (state === "waiting") return { kind: "still", text: state };
  const amount = amountOf(copy, status);
  if (status.pause === "paused") return pausedAt(amount, status);
  // Once the next attempt moves bytes, they are more important than the failure of the last one.
  if (reason !== undefined && (amount === undefined || !isMoving(copy))) {
    return { kind: "retrying", attempt, nextAttemptAt, reason };
  }
  if (amount === undefined) return { kind: "still", text: state };
  return { kind: "moving", ...amount, bytesPerSecond: copy.bytes_per_second };
}

/** False for a step that waits for its next attempt, or moves no bytes in the current one. */
function isMoving({
  next_attempt_at: nextAttemptAt,
  bytes_per_second: bytesPerSecond,
}: Pick<StoreProgress, "next_attempt_at" | "bytes_per_second">): boolean {
  return nextAttemptAt === undefined && bytesPerSecond !== 0;
}

function amountOf({ done_bytes }: StoreProgress, { size }: ImportStatus): Amount | undefined {
  return done_bytes === undefined
    ? undefined
    : { doneBytes: done_bytes, totalBytes: size ?? undefined };
}

function pausedAt(amount: Amount | undefined, { paused_at: since }: ImportStatus): WorkState {
  return { kind: "paused", amount, since };
}

function endOfCopy(copy: StoreProgress): WorkState {
  const { state, started_at: startedAt, ended_at: endedAt, last_failure: reason } = copy;
  const tookMs =
    startedAt === undefined || endedAt === undefined
      ? undefined
      : Date.parse(endedAt) - Date.parse(startedAt);
  const isFailed = state === "failed";
  const hasTime = state === "stored" || state === "failed";
  return { kind: "ended", text: state, isFailed, tookMs: hasTime ? tookMs : undefined, reason };
}
