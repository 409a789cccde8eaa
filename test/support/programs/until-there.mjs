import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/**
 * Waits until the test has made a file. Without a path it waits for nothing.
 *
 * @param {string | undefined} path
 * @param {AbortSignal} [signal]
 */
export async function untilThere(path, signal) {
  while (path !== undefined && !existsSync(path)) {
    signal?.throwIfAborted();
    await sleep(20);
  }
}
