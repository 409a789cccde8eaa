import { activityInfo } from "@temporalio/activity";
import { ApplicationFailure, CancelledFailure } from "@temporalio/common";
import { Runtime, type ActivityInterceptorsFactory } from "@temporalio/worker";
import type { FetchedImage } from "../activities/fetch-image.ts";
import type { StoredCopy } from "../activities/store-image.ts";
import { codeLabel, count, observe } from "../domain/metrics.ts";
import { byteQueue, cleanUpQueue, CONTROL_QUEUE } from "../workflow/contract.ts";

/**
 * Measures each step: its wait for a worker, the bytes that it has moved, and its failures. It must
 * be installed before the interceptor that gives failures their codes, and so wraps it.
 */
export const stepMetrics: ActivityInterceptorsFactory = () => ({
  inbound: {
    async execute(input, next) {
      // Not the meter of the activity: it would add the task queue, and so the node, to all labels.
      const meter = Runtime.instance().metricMeter;
      const { activityType, taskQueue, currentAttemptScheduledTimestampMs } = activityInfo();
      const waitedMs = Date.now() - currentAttemptScheduledTimestampMs;
      const queue = queueLabel(taskQueue);
      observe(meter, "image_import_queue_wait_seconds", { queue }, waitedMs / 1000);
      try {
        const result: unknown = await next(input);
        const moved = movedBytes(activityType, result);
        if (moved !== undefined) {
          count(meter, "image_import_bytes_total", moved.labels, moved.bytes);
        }
        return result;
      } catch (error) {
        const code = codeOfRetried(error);
        if (code !== undefined) {
          count(meter, "image_import_retries_total", { step: activityType, code });
        }
        throw error;
      }
    },
  },
});

function queueLabel(taskQueue: string): string {
  if (taskQueue === CONTROL_QUEUE) return "control";
  const [bytes, cleanUp] = [byteQueue("*"), cleanUpQueue("*")].map((name) => name.split("*"));
  const isOf = ([start = "", end = ""]: readonly string[] = []) =>
    taskQueue.startsWith(start) && taskQueue.endsWith(end);
  // The longer name first: the other one is its beginning.
  if (isOf(cleanUp)) return "clean_up";
  return isOf(bytes) ? "bytes" : "other";
}

interface Moved {
  readonly labels: { readonly path: string; readonly store: string };
  readonly bytes: number;
}

function movedBytes(activityType: string, result: unknown): Moved | undefined {
  if (activityType === "storeImage") {
    const { store, method, size } = result as StoredCopy;
    // An attempt that finds the copy of an earlier one has moved nothing.
    return method === "found" ? undefined : { labels: { path: method, store }, bytes: size };
  }
  if (activityType !== "fetchImage") return undefined;
  return { labels: { path: "download", store: "staging" }, bytes: (result as FetchedImage).size };
}

/** The code of a failure after which the step is tried again; undefined for any other failure. */
function codeOfRetried(error: unknown): string | undefined {
  if (error instanceof CancelledFailure) return undefined;
  if (!(error instanceof ApplicationFailure)) return "other";
  return error.nonRetryable === true ? undefined : codeLabel(error.type ?? "");
}
