import { CancellationScope, log, patched, sleep } from "@temporalio/workflow";
import { describeFailure } from "./failure-report.ts";
import type { ImportRun } from "./import-run.ts";
import { looks } from "./steps.ts";

/**
 * Runs work with a deadline. When the time has passed, calls `onPassed` while the steps of the work
 * still run, and then cancels the work.
 *
 * @param timeMs - in milliseconds from the call on
 */
export async function withinDeadline<T>(
  timeMs: number,
  work: () => Promise<T>,
  onPassed: () => Promise<void>,
): Promise<T> {
  const [clock, scope] = [new CancellationScope(), new CancellationScope()];
  const passing = clock.run(async () => {
    await sleep(timeMs, { summary: "deadline of the import" });
    await onPassed();
    scope.cancel();
  });
  // The clock rejects if the work ends in time, or if the run is cancelled.
  passing.catch(() => undefined);
  try {
    return await scope.run(work);
  } finally {
    clock.cancel();
  }
}

/**
 * Finds out why an import did not end before its deadline: the cancel that follows hides the
 * causes.
 */
export async function findCauses({ tracker, pause }: ImportRun): Promise<void> {
  if (!patched("causes-of-the-deadline")) return;
  if (pause.state === "paused") tracker.wasPausedTooLong();
  try {
    const failures = await looks.findLastFailures.executeWithOptions(
      { summary: "deadline: what failed last?" },
      [],
    );
    tracker.failedBeforeDeadline(failures);
  } catch (error) {
    log.warn("Cannot find the causes of a passed deadline", { ...describeFailure(error) });
  }
}
