import type { Worker } from "@temporalio/worker";

/** The moments of workers that run together. */
export interface RunMoments {
  /** Called once all of them run. */
  readonly onRunning: () => void;
  /** Called when all have ended, or the first has failed. */
  readonly onEnding: () => void;
}

/**
 * Runs workers until all of them have ended. When one fails, the others are shut down, and finish
 * their steps: these need the database and the connection, which the caller closes next.
 *
 * @throws the failure of the worker that failed first
 */
export async function runTogether(
  workers: readonly Pick<Worker, "run" | "shutdown" | "getState">[],
  { onRunning, onEnding }: RunMoments,
): Promise<void> {
  const running = workers.map((worker) => worker.run());
  try {
    onRunning();
    await Promise.all(running);
  } finally {
    onEnding();
    for (const worker of workers) if (worker.getState() === "RUNNING") worker.shutdown();
    await Promise.allSettled(running);
  }
}
