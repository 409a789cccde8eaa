import { ActivityCancellationType, proxyActivities } from "@temporalio/workflow";
import type { ByteActivities, ControlActivities, CleanUpActivities } from "../activities/index.ts";
import { byteQueue, CONTROL_QUEUE, cleanUpQueue } from "./contract.ts";

// The saga undoes files and rows: an undo may begin only when the step has really stopped. The
// SDK's own default for activities lets the step go on behind the undo.
const cancellationType = ActivityCancellationType.WAIT_CANCELLATION_COMPLETED;

/**
 * Steps that need only the catalogue. Postgres may be away for hours; what Temporal accepted waits
 * for it.
 */
export const control = proxyActivities<ControlActivities>({
  taskQueue: CONTROL_QUEUE,
  cancellationType,
  // A statement ends after 20 s in the server, 25 s here; a step that is silent for longer is tried
  // again.
  startToCloseTimeout: "30s",
  retry: { initialInterval: "200ms", backoffCoefficient: 2, maximumInterval: "10s" },
});

/**
 * A look at what is known, for the words of a failure: it must not hold up the end of an import.
 */
export const looks = proxyActivities<ControlActivities>({
  taskQueue: CONTROL_QUEUE,
  cancellationType,
  startToCloseTimeout: "5s",
  scheduleToCloseTimeout: "10s",
  retry: { initialInterval: "200ms", backoffCoefficient: 2 },
});

/** Waiting by being retried leaves no trace in the history. */
export const waiting = proxyActivities<ControlActivities>({
  taskQueue: CONTROL_QUEUE,
  cancellationType,
  startToCloseTimeout: "30s",
  retry: { initialInterval: "100ms", backoffCoefficient: 1.5, maximumInterval: "5s" },
});

/**
 * Steps that move bytes. The heartbeat tells of a dead worker, and brings the cancel. No
 * `maximumAttempts`: a deploy costs an attempt, and the import's deadline is the bound.
 */
export function byteSteps(node: string, heartbeatTimeoutMs: number) {
  return proxyActivities<ByteActivities>({
    taskQueue: byteQueue(node),
    cancellationType,
    // Above any deadline: a long copy is not a failure, one that moves nothing ends by its idle
    // time.
    startToCloseTimeout: "7d",
    heartbeatTimeout: heartbeatTimeoutMs,
    retry: { initialInterval: "500ms", backoffCoefficient: 2, maximumInterval: "30s" },
  });
}

/** The steps that move bytes, on one staging volume. */
export type ByteSteps = ReturnType<typeof byteSteps>;

/**
 * The last look at copies before they are published: brief as a rule, and as long as reading where
 * one has changed.
 */
export function confirmSteps(node: string, heartbeatTimeoutMs: number) {
  return proxyActivities<CleanUpActivities>({
    taskQueue: cleanUpQueue(node),
    cancellationType,
    startToCloseTimeout: "7d",
    heartbeatTimeout: heartbeatTimeoutMs,
    retry: { initialInterval: "500ms", backoffCoefficient: 2, maximumInterval: "30s" },
  });
}

// That of the byte steps by default, for steps of no import whose times were frozen.
const HEARTBEAT_TIMEOUT_MS = 15_000;

/**
 * Undos on a staging volume: bounded, because the undo after it must not wait for a store that
 * never comes back. The heartbeat reveals a worker that died in an undo, which is then tried again
 * within the bound.
 */
export function undoSteps(node: string, heartbeatTimeoutMs = HEARTBEAT_TIMEOUT_MS) {
  return proxyActivities<CleanUpActivities>({
    taskQueue: cleanUpQueue(node),
    cancellationType,
    heartbeatTimeout: heartbeatTimeoutMs,
    // A statement has 25 s, a store 20 s; what takes longer hangs, and another attempt has the rest
    // of the bound.
    startToCloseTimeout: "50s",
    // What is left then has a lease, and the reconciler goes on.
    scheduleToCloseTimeout: "2m",
    retry: { initialInterval: "200ms", backoffCoefficient: 2, maximumInterval: "10s" },
  });
}

/**
 * Clean-up after the point of no return: bounded, because the next import of the image waits for
 * it, and what is left is the sweeper's.
 */
export function cleanUpSteps(node: string, heartbeatTimeoutMs = HEARTBEAT_TIMEOUT_MS) {
  return proxyActivities<CleanUpActivities>({
    taskQueue: cleanUpQueue(node),
    cancellationType,
    heartbeatTimeout: heartbeatTimeoutMs,
    startToCloseTimeout: "30s",
    scheduleToCloseTimeout: "1m",
    retry: { initialInterval: "200ms", backoffCoefficient: 2, maximumInterval: "10s" },
  });
}

/**
 * A look at the stores of a node: short, because it spares the steps that would wait for a store or
 * node that is away.
 */
export function probeSteps(node: string) {
  return proxyActivities<CleanUpActivities>({
    taskQueue: cleanUpQueue(node),
    cancellationType,
    startToCloseTimeout: "10s",
    scheduleToCloseTimeout: "20s",
    retry: { initialInterval: "200ms", maximumInterval: "5s" },
  });
}

/** The sweep of a node. It is over before the next reconciliation, which sweeps again. */
export function sweepSteps(node: string) {
  return proxyActivities<CleanUpActivities>({
    taskQueue: cleanUpQueue(node),
    cancellationType,
    heartbeatTimeout: HEARTBEAT_TIMEOUT_MS,
    startToCloseTimeout: "2m",
    scheduleToCloseTimeout: "4m",
    retry: { initialInterval: "200ms", maximumInterval: "10s", maximumAttempts: 3 },
  });
}

/** Removal of bytes that was promised: retried until the store or its node is back. */
export function removalSteps(node: string) {
  return proxyActivities<CleanUpActivities>({
    taskQueue: cleanUpQueue(node),
    cancellationType,
    heartbeatTimeout: HEARTBEAT_TIMEOUT_MS,
    startToCloseTimeout: "2m",
    retry: { initialInterval: "200ms", backoffCoefficient: 2, maximumInterval: "1m" },
  });
}
