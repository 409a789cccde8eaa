import { ActivityCancellationType, proxyActivities } from "@temporalio/workflow";
import type { ByteActivities, CleanUpActivities, ControlActivities } from "../activities/index.ts";
import { byteQueue, cleanUpQueue, CONTROL_QUEUE, UNDO_LIMIT_MS } from "./contract.ts";

// An undo may begin only after its step has stopped. By the SDK's default for activities the step
// may still run then.
const cancellationType = ActivityCancellationType.WAIT_CANCELLATION_COMPLETED;

/** A staging volume, and the times of the import that uses it. */
interface Volume {
  readonly node: string;
  /**
   * Default: the defaults of the configuration. The steps of reconciliations use them, because they
   * belong to no running import.
   */
  readonly times?: { readonly heartbeatTimeoutMs: number };
}

const DEFAULT_TIMES = { heartbeatTimeoutMs: 15_000 };

// Steps that usually take less than a second.
const QUICK_RETRIES = {
  initialInterval: "200ms",
  backoffCoefficient: 2,
  maximumInterval: "10s",
} as const;

// Steps of which a retry may read many bytes again.
const BYTE_RETRIES = {
  initialInterval: "500ms",
  backoffCoefficient: 2,
  maximumInterval: "30s",
} as const;

/**
 * Steps that need only the catalogue. They have no bound: Postgres may be unreachable for hours,
 * and an accepted import waits for it.
 */
export const control = proxyActivities<ControlActivities>({
  taskQueue: CONTROL_QUEUE,
  cancellationType,
  // A statement is limited to 20 s by the server and to 25 s by the worker.
  startToCloseTimeout: "30s",
  retry: QUICK_RETRIES,
});

/**
 * Steps of the reconciler that need only the catalogue. They are bounded: the next reconciliation
 * begins only when this one has ended, and a claim that cannot be released must not block the other
 * claims.
 */
export const reconciling = proxyActivities<ControlActivities>({
  taskQueue: CONTROL_QUEUE,
  cancellationType,
  startToCloseTimeout: "30s",
  scheduleToCloseTimeout: "2m",
  retry: QUICK_RETRIES,
});

/**
 * Steps that find the causes for the text of a failure. They are bounded: they must not delay the
 * end of an import.
 */
export const looks = proxyActivities<ControlActivities>({
  taskQueue: CONTROL_QUEUE,
  cancellationType,
  startToCloseTimeout: "5s",
  scheduleToCloseTimeout: "10s",
  retry: { initialInterval: "200ms", backoffCoefficient: 2 },
});

/** Steps that fail until a condition holds: retries add no events to the history. */
export const waiting = proxyActivities<ControlActivities>({
  taskQueue: CONTROL_QUEUE,
  cancellationType,
  startToCloseTimeout: "30s",
  retry: { initialInterval: "100ms", backoffCoefficient: 1.5, maximumInterval: "5s" },
});

/**
 * Steps that move bytes. A missing heartbeat reveals a dead worker, and the server's response to a
 * heartbeat carries the cancel. No `maximumAttempts`: each deployment costs an attempt, and the
 * import's deadline is the bound.
 */
export function byteSteps({ node, times = DEFAULT_TIMES }: Volume) {
  return proxyActivities<ByteActivities>({
    taskQueue: byteQueue(node),
    cancellationType,
    // Above any deadline: a long copy is not a failure. A copy that moves no bytes ends by the idle
    // timeout.
    startToCloseTimeout: "7d",
    heartbeatTimeout: times.heartbeatTimeoutMs,
    retry: BYTE_RETRIES,
  });
}

/**
 * The last check of the copies before they are published. It is short, unless a copy has changed
 * and must be read.
 */
export function confirmSteps({ node, times = DEFAULT_TIMES }: Volume) {
  return proxyActivities<CleanUpActivities>({
    taskQueue: cleanUpQueue(node),
    cancellationType,
    startToCloseTimeout: "7d",
    heartbeatTimeout: times.heartbeatTimeoutMs,
    retry: BYTE_RETRIES,
  });
}

/**
 * The publication in one step. Its calls are bounded: the database's by 25 s for each statement,
 * those of stores and staging by seconds.
 */
export function publishSteps({ node, times = DEFAULT_TIMES }: Volume) {
  return proxyActivities<CleanUpActivities>({
    taskQueue: cleanUpQueue(node),
    cancellationType,
    startToCloseTimeout: "1m",
    heartbeatTimeout: times.heartbeatTimeoutMs,
    retry: QUICK_RETRIES,
  });
}

/**
 * Undos on a staging volume. They are bounded: the next undo must not wait for a store that stays
 * unreachable. A missing heartbeat reveals a dead worker, and the undo is retried within the bound.
 */
export function undoSteps({ node, times = DEFAULT_TIMES }: Volume) {
  return proxyActivities<CleanUpActivities>({
    taskQueue: cleanUpQueue(node),
    cancellationType,
    heartbeatTimeout: times.heartbeatTimeoutMs,
    // A statement is limited to 25 s and a call of a store to 20 s. A longer attempt hangs, and the
    // next one has the rest of the bound.
    startToCloseTimeout: "50s",
    // After the bound the copy still has its lease, and the reconciler removes it.
    scheduleToCloseTimeout: UNDO_LIMIT_MS,
    retry: QUICK_RETRIES,
  });
}

/**
 * Clean-up after the point of no return. It is bounded: the next import of the image waits for it.
 * The sweeper deletes the rest.
 */
export function cleanUpSteps({ node, times = DEFAULT_TIMES }: Volume) {
  return proxyActivities<CleanUpActivities>({
    taskQueue: cleanUpQueue(node),
    cancellationType,
    heartbeatTimeout: times.heartbeatTimeoutMs,
    startToCloseTimeout: "30s",
    scheduleToCloseTimeout: "1m",
    retry: QUICK_RETRIES,
  });
}

/**
 * Checks of the stores of a node. They are short: a failed check avoids steps that would wait for
 * an unreachable store or node.
 */
export function probeSteps(node: string) {
  return proxyActivities<CleanUpActivities>({
    taskQueue: cleanUpQueue(node),
    cancellationType,
    startToCloseTimeout: "10s",
    scheduleToCloseTimeout: "20s",
    retry: { ...QUICK_RETRIES, maximumInterval: "5s" },
  });
}

/** The sweep of a node. It ends before the next reconciliation begins, which sweeps again. */
export function sweepSteps(node: string) {
  return proxyActivities<CleanUpActivities>({
    taskQueue: cleanUpQueue(node),
    cancellationType,
    heartbeatTimeout: DEFAULT_TIMES.heartbeatTimeoutMs,
    startToCloseTimeout: "2m",
    scheduleToCloseTimeout: "4m",
    retry: { ...QUICK_RETRIES, maximumAttempts: 3 },
  });
}

/** Removal of the bytes of deleted images and copies: retried until the store and its node work. */
export function removalSteps(node: string) {
  return proxyActivities<CleanUpActivities>({
    taskQueue: cleanUpQueue(node),
    cancellationType,
    heartbeatTimeout: DEFAULT_TIMES.heartbeatTimeoutMs,
    startToCloseTimeout: "2m",
    retry: { ...QUICK_RETRIES, maximumInterval: "1m" },
  });
}
