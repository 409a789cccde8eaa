import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { hasEnded, readProcessStat, type ProcessStat } from "./process-stat.ts";

/**
 * One process of this machine. The id alone does not identify it: a later process may get the same
 * id.
 */
export interface LocalProcess {
  readonly pid: number;
  /** The time at which the process started, in clock ticks since the boot. */
  readonly startTicks: number;
}

/** The kernel's id of this boot of the machine. */
export function readBootId(): string {
  return readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim();
}

/** The process that has this id now, or undefined if none has, or only one that has ended. */
export function findProcess(pid: number): LocalProcess | undefined {
  const stat = readLiveStat(pid);
  return stat && { pid, startTicks: stat.startTicks };
}

/** True if any process has this id, a zombie too. */
export function isTaken(pid: number): boolean {
  return existsSync(`/proc/${pid}`);
}

/** True if exactly this process still runs. */
export function isRunning({ pid, startTicks }: LocalProcess): boolean {
  return findProcess(pid)?.startTicks === startTicks;
}

/**
 * The processes that were started with `name=value` in their environment, without their own child
 * processes.
 */
export function findProcessesWithEnvironment(name: string, value: string): LocalProcess[] {
  const entry = `${name}=${value}`;
  const found = new Map<number, ProcessStat>();
  for (const pid of listProcessIds()) {
    if (pid === process.pid || !readEnvironment(pid).includes(entry)) continue;
    const stat = readLiveStat(pid);
    if (stat !== undefined) found.set(pid, stat);
  }
  return [...found]
    .filter(([, { parentPid }]) => !found.has(parentPid))
    .map(([pid, { startTicks }]) => ({ pid, startTicks }));
}

/** The working directory of a process, or undefined if it has ended, or belongs to another user. */
export function readWorkingDirectory(pid: number): string | undefined {
  return orUndefined(() => readlinkSync(`/proc/${pid}/cwd`));
}

function readLiveStat(pid: number): ProcessStat | undefined {
  const stat = readProcessStat(pid);
  return stat === undefined || hasEnded(pid, stat) ? undefined : stat;
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
