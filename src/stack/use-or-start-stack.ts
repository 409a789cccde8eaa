import { setTimeout as sleep } from "node:timers/promises";
import { readStackFile } from "../config/stack-file.ts";
import { openDataDirectory } from "./data-directory.ts";
import { StackBusyError, StackError } from "./stack-error.ts";
import { startStack, type Stack, type StackOptions } from "./stack.ts";

// A first start makes a database cluster and may have to wait for a slow disk.
const START_LIMIT_MS = 120_000;

/** A stack that one may use, and whether it is one's own. */
export interface UsableStack extends Stack {
  /** Whether it was started for the caller; `stop` leaves a stack that ran before alone. */
  readonly isOurs: boolean;
}

/**
 * Uses the stack that runs on the data directory, or starts one.
 *
 * @returns when its worker polls
 * @throws StackError when none can be started, or the one that runs does not become ready within 2 minutes
 */
export async function useOrStartStack(options: StackOptions): Promise<UsableStack> {
  try {
    const stack = await startStack(options);
    const { addresses, directory } = stack;
    return { addresses, directory, isOurs: true, stop: async () => stack.stop() };
  } catch (error) {
    if (!(error instanceof StackBusyError)) throw error;
    return useRunningStack(options);
  }
}

async function useRunningStack({ dataDir, signal }: StackOptions): Promise<UsableStack> {
  const directory = openDataDirectory(dataDir);
  const deadline = Date.now() + START_LIMIT_MS;
  for (;;) {
    const file = readStackFile(directory.path);
    if (file?.state === "ready") {
      return { addresses: file, directory, isOurs: false, stop: async () => undefined };
    }
    signal?.throwIfAborted();
    if (Date.now() > deadline) {
      throw new StackError(
        `Cannot use the stack on "${directory.path}": it is not ready after ${START_LIMIT_MS / 1000} s. Look into "${directory.logs}"`,
      );
    }
    await sleep(200, undefined, { signal });
  }
}
