import { CancellationScope, sleep } from "@temporalio/workflow";

/**
 * Runs work that must have ended in time. When the time is over, `onPassed` looks around first,
 * while the steps of the work still stand; then the work is cancelled.
 *
 * @param timeMs - from now on
 */
export async function withinDeadline<T>(
  timeMs: number,
  work: () => Promise<T>,
  onPassed: () => Promise<void>,
): Promise<T> {
  const [clock, scope] = [new CancellationScope(), new CancellationScope()];
  const passing = clock.run(async () => {
    await sleep(timeMs);
    await onPassed();
    scope.cancel();
  });
  // The work ended in time, or the whole run is cancelled.
  passing.catch(() => undefined);
  try {
    return await scope.run(work);
  } finally {
    clock.cancel();
  }
}
