import { setTimeout as sleep } from "node:timers/promises";
import { readStackFile, type StackFile } from "../config/stack-file.ts";
import { openDataDirectory } from "./data-directory.ts";
import { isRunning, readBootId } from "../processes/process-table.ts";
import { whileSaying } from "./progress.ts";
import { StackBusyError, StackError } from "./stack-error.ts";
import { startStack, type Stack, type StackOptions } from "./stack.ts";

// A first start makes a database cluster and may have to wait for a slow disk.
const START_LIMIT_MS = 120_000;

/** A stack that the caller may use. */
export interface UsableStack extends Stack {
  /** True if it was started for the caller; `stop` does not stop a stack that ran before. */
  readonly isOurs: boolean;
}

/**
 * Uses the stack that runs on the data directory, or starts one.
 *
 * @returns when its worker polls and its API listens
 * @throws StackError when none can be started, or the running one does not become ready within 2
 *   minutes
 */
export async function useOrStartStack(options: StackOptions): Promise<UsableStack> {
  const log = options.log ?? (() => undefined);
  const deadline = performance.now() + START_LIMIT_MS;
  const started = await startIfFree(options);
  if (started !== undefined) return started;
  return whileSaying(log, "waiting for the stack that runs on the data directory", async () => {
    for (;;) {
      // A stack that is ending releases the directory: then the next attempt starts one.
      const stack = useIfReady(options) ?? (await startIfFree(options));
      if (stack !== undefined) return stack;
      if (performance.now() > deadline) throw notReady(options);
      await sleep(200, undefined, { signal: options.signal });
    }
  });
}

/** @returns undefined while another process has the data directory */
async function startIfFree(options: StackOptions): Promise<UsableStack | undefined> {
  try {
    const stack = await startStack(options);
    const { addresses, directory } = stack;
    return { addresses, directory, isOurs: true, stop: async () => stack.stop() };
  } catch (error) {
    if (error instanceof StackBusyError) return undefined;
    throw error;
  }
}

function useIfReady({ dataDir }: StackOptions): UsableStack | undefined {
  const directory = openDataDirectory(dataDir);
  const file = readStackFile(directory.path);
  // A killed stack leaves its file behind, with the state `ready`, until the next one writes its
  // own.
  if (file?.state !== "ready" || !supervises(file)) return undefined;
  return { addresses: file, directory, isOurs: false, stop: async () => undefined };
}

function supervises({ boot_id, supervisor: { pid, start_time } }: StackFile): boolean {
  return boot_id === readBootId() && isRunning({ pid, startTicks: start_time });
}

function notReady({ dataDir }: StackOptions): StackError {
  const { path, logs } = openDataDirectory(dataDir);
  return new StackError(
    `Cannot use the stack on "${path}": it is not ready after ${START_LIMIT_MS / 1000} s. Look into "${logs}"`,
  );
}
