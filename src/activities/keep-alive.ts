import { activityInfo, cancelled, heartbeat } from "@temporalio/activity";

// As often as in steps that move bytes: the SDK sends only some of them to the server.
const HEARTBEAT_EVERY_MS = 500;
// A step that checks for a cancel stops earlier. A step that takes longer hangs in a call.
const STOP_PATIENCE_MS = 5_000;

type Steps = Record<string, (...args: never[]) => Promise<unknown>>;

/**
 * Gives every step heartbeats from a timer, so that the death of its worker is noticed within the
 * heartbeat timeout and Temporal starts the step again. A step that is cancelled, or has timed out,
 * ends here soon even if it hangs in a call. Its call then continues in the background. That is
 * safe: each of these steps may run twice.
 */
export function keepAlive<Kept extends Steps>(steps: Kept): Kept {
  const kept = Object.entries(steps).map(([name, step]) => [
    name,
    async (...args: never[]) => {
      const beats = activityInfo().heartbeatTimeoutMs === undefined ? undefined : startBeating();
      try {
        return await Promise.race([step(...args), cancelledAndHanging()]);
      } finally {
        clearInterval(beats);
      }
    },
  ]);
  return Object.fromEntries(kept) as Kept;
}

function startBeating(): NodeJS.Timeout {
  return setInterval(() => {
    heartbeat();
  }, HEARTBEAT_EVERY_MS);
}

/** Rejects some time after a cancel that the step did not heed because a call hangs. */
async function cancelledAndHanging(): Promise<never> {
  return cancelled().catch(async (cancellation: unknown) => {
    await new Promise((resolve) => setTimeout(resolve, STOP_PATIENCE_MS).unref());
    throw cancellation;
  });
}
