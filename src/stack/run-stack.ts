import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { databaseFailure } from "../db/database-failure.ts";
import { startStack, type OwnStack, type Stack } from "./stack.ts";

/** Settings of {@link runStack}. */
export interface RunStackOptions {
  readonly dataDir: string;
  /** Path of the Temporal CLI; its server must be 1.30 or newer. */
  readonly temporalCli: string;
  /** Takes one line at a time for the person at the terminal. */
  readonly log: (line: string) => void;
  /** Called once, when the worker polls and the API listens. */
  readonly onReady: (stack: Stack) => void;
}

/**
 * Runs Postgres, Temporal, one worker and the HTTP API until a signal ends them. A signal during
 * the start ends it, too.
 *
 * @throws StackBusyError, StackError; ImportError if the database refuses the start
 */
export async function runStack({ onReady, ...options }: RunStackOptions): Promise<void> {
  let running: OwnStack | undefined;
  const interrupted = interruptedBySignal(() => running);
  try {
    const stack = await startStack({ ...options, signal: interrupted });
    running = stack;
    onReady(stack);
    if (!interrupted.aborted) await once(interrupted, "abort");
  } catch (error) {
    // The signal ended the start.
    if (interrupted.aborted) return;
    throw databaseFailure(error);
  }
  options.log("Stopping the API, the worker, Temporal and Postgres …");
  await running.stop();
  options.log("Stopped; imports that were running continue at the next start.");
}

/**
 * Aborts at the first signal that asks this process to end. Later ones change nothing: each program
 * is killed at its own limit. SIGHUP asks for the end if the terminal was closed, or if the stack
 * has not started yet. Otherwise the stack reads its configuration again, as other services do.
 */
function interruptedBySignal(running: () => OwnStack | undefined): AbortSignal {
  const interruption = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      interruption.abort();
    });
  }
  const hadTerminal = hasTerminal();
  process.on("SIGHUP", () => {
    const stack = running();
    if (stack === undefined || (hadTerminal && !hasTerminal())) interruption.abort();
    else void stack.reload();
  });
  // The terminal may be closed before the programs have ended. The command line would exit then.
  for (const stream of [process.stdout, process.stderr]) {
    stream.removeAllListeners("error").on("error", () => undefined);
  }
  return interruption.signal;
}

function hasTerminal(): boolean {
  try {
    closeSync(openSync("/dev/tty", "r"));
    return true;
  } catch {
    return false;
  }
}
