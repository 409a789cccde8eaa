import { setTimeout as sleep } from "node:timers/promises";
import { log } from "@temporalio/activity";
import { ImportError } from "../domain/import-failure.ts";
import type { Progress } from "./progress.ts";

// A restarted server answers within seconds.
const RETRY_EVERY_MS = 1_000;

/**
 * Repeats a call of the catalogue while the catalogue is unreachable, for a step that would
 * otherwise repeat hours of work. Meanwhile the step sends heartbeats that name the reason for the
 * wait. Its cancel, its pause and the deadline of the import end the wait.
 *
 * @param progress - the progress of the step
 * @param call - only statements, which have time limits, and are safe to run again
 * @throws the reason of the signal once it is aborted; other failures of the call
 */
export async function patiently<T>(progress: Progress, call: () => Promise<T>): Promise<T> {
  const { signal, showLife } = progress;
  // One call to a silent server may take longer than the idle timeout.
  let waitsFor: string | undefined;
  const life = setInterval(() => {
    showLife(waitsFor);
  }, RETRY_EVERY_MS);
  try {
    for (let isFirst = true; ; isFirst = false) {
      try {
        return await call();
      } catch (error) {
        if (!isUnreachable(error)) throw error;
        const { message: reason } = error;
        waitsFor = reason;
        showLife(waitsFor);
        if (isFirst) log.warn("The catalogue is unreachable: this step waits for it", { reason });
        await sleep(RETRY_EVERY_MS, undefined, { signal }).catch(() => undefined);
        signal.throwIfAborted();
      }
    }
  } finally {
    clearInterval(life);
    showLife();
  }
}

/** True for the failure of a call of the catalogue that may succeed later. */
export function isUnreachable(error: unknown): error is ImportError {
  return error instanceof ImportError && error.code === "DatabaseUnavailable";
}
