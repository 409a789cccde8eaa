import { existsSync, readFileSync, readdirSync, readlinkSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";

/** One process, for good: a process id alone is given to another process some day. */
export interface ProcessIdentity {
  readonly pid: number;
  /** Clock ticks since boot, field 22 of `/proc/<pid>/stat` (proc(5)). */
  readonly startTime: number;
}

interface ProcessStatus extends ProcessIdentity {
  readonly state: string;
  readonly parentPid: number;
}

/** Which boot of the machine this is. */
export function readBootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}

/**
 * The process that has this id now, or undefined when none has. A zombie is none: it does nothing
 * any more.
 */
export function findProcess(pid: number): ProcessIdentity | undefined {
  const status = readStatus(pid);
  return status && { pid, startTime: status.startTime };
}

/** Says whether any process has this id, a zombie too. */
export function isTaken(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}

/** Says whether exactly this process still runs. */
export function isRunning({ pid, startTime }: ProcessIdentity): boolean {
  return findProcess(pid)?.startTime === startTime;
}

/**
 * The processes that were started with `name=value` in their environment, without those that they
 * started themselves.
 */
export function findProcessesWithEnvironment(name: string, value: string): ProcessIdentity[] {
  const entry = `${name}=${value}`;
  const found = listProcessIds()
    .filter((pid) => pid !== process.pid && readEnvironment(pid).includes(entry))
    .flatMap((pid) => readStatus(pid) ?? []);
  const pids = new Set(found.map(({ pid }) => pid));
  return found
    .filter(({ parentPid }) => !pids.has(parentPid))
    .map(({ pid, startTime }) => ({ pid, startTime }));
}

/** The working directory of a process, or undefined when it is gone or not ours to ask. */
export function readWorkingDirectory(pid: number): string | undefined {
  return orUndefined(() => readlinkSync(`/proc/${pid}/cwd`));
}

/** How {@link stopProcess} asks a process to end. */
export interface StopOptions {
  /** Sent first. */
  readonly signal: NodeJS.Signals;
  /** How long the process may take before it is killed, in milliseconds. */
  readonly withinMs: number;
}

/** Ends one process: asks, waits, kills. Returns when it is gone. */
export async function stopProcess(target: ProcessIdentity, options: StopOptions): Promise<void> {
  sendSignal(target, options.signal);
  if (await isGoneWithin(target, options.withinMs)) return;
  sendSignal(target, "SIGKILL");
  await isGoneWithin(target, 10_000);
}

function sendSignal(target: ProcessIdentity, signal: NodeJS.Signals): void {
  if (!isRunning(target)) return;
  try {
    process.kill(target.pid, signal);
  } catch (error) {
    // It ended between the look and the signal.
    if (!(error instanceof Error && "code" in error && error.code === "ESRCH")) throw error;
  }
}

async function isGoneWithin(target: ProcessIdentity, limitMs: number): Promise<boolean> {
  const deadline = Date.now() + limitMs;
  while (isRunning(target)) {
    if (Date.now() > deadline) return false;
    await sleep(50);
  }
  return true;
}

function readStatus(pid: number): ProcessStatus | undefined {
  const text = orUndefined(() => readFileSync(`/proc/${pid}/stat`, "utf8"));
  // The second field is the program's name in brackets and may hold anything, brackets included.
  const fields = text?.slice(text.lastIndexOf(")") + 2).split(" ");
  const [state, parentPid] = fields ?? [];
  const startTime = fields?.[19];
  if (state === undefined || startTime === undefined || hasEnded(pid, state)) return undefined;
  return { pid, state, parentPid: Number(parentPid), startTime: Number(startTime) };
}

/**
 * A killed process is a zombie as soon as its first thread is gone; the others may still be
 * writing.
 */
function hasEnded(pid: number, state: string): boolean {
  if (!"ZXx".includes(state)) return false;
  return (orUndefined(() => readdirSync(`/proc/${pid}/task`))?.length ?? 0) <= 1;
}

function readEnvironment(pid: number): string[] {
  const text = orUndefined(() => readFileSync(`/proc/${pid}/environ`, "utf8"));
  return text?.split("\0") ?? [];
}

function listProcessIds(): number[] {
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => Number.isInteger(pid) && pid > 0);
}

function orUndefined<Value>(read: () => Value): Value | undefined {
  try {
    return read();
  } catch {
    return undefined;
  }
}
