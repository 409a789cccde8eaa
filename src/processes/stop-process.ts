import { setTimeout as sleep } from "node:timers/promises";
import { hasErrorCode } from "../bytes/system-error.ts";
import { isRunning, type LocalProcess } from "./process-table.ts";

/** Settings of {@link stopProcess}. */
export interface StopOptions {
  /** Sent first. */
  readonly signal: NodeJS.Signals;
  /** The time that the process may take before it is killed, in milliseconds. */
  readonly withinMs: number;
}

/**
 * Ends one process: sends the signal, waits, kills. Returns when the process has ended, or 10 s
 * after the kill.
 */
export async function stopProcess(target: LocalProcess, options: StopOptions): Promise<void> {
  sendSignal(target, options.signal);
  if (await isGoneWithin(target, options.withinMs)) return;
  sendSignal(target, "SIGKILL");
  await isGoneWithin(target, 10_000);
}

function sendSignal(target: LocalProcess, signal: NodeJS.Signals): void {
  if (!isRunning(target)) return;
  try {
    process.kill(target.pid, signal);
  } catch (error) {
    // It ended between the check and the signal.
    if (!hasErrorCode(error, "ESRCH")) throw error;
  }
}

async function isGoneWithin(target: LocalProcess, limitMs: number): Promise<boolean> {
  const deadline = performance.now() + limitMs;
  while (isRunning(target)) {
    if (performance.now() > deadline) return false;
    await sleep(50);
  }
  return true;
}
