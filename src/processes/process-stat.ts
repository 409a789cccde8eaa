import { readdirSync, readFileSync } from "node:fs";
import { hasErrorCode } from "../bytes/system-error.ts";

/** The fields of `/proc/<pid>/stat` (proc(5)) that this project uses. */
export interface ProcessStat {
  /** Field 3, one letter: R, S, D, T, Z (zombie), X (dead), … */
  readonly state: string;
  /** Field 4. */
  readonly parentPid: number;
  /** Field 22, the time at which the process started, in clock ticks since the boot. */
  readonly startTicks: number;
}

/** Reads the stat of a process. Returns undefined if it has ended, or is hidden from this user. */
export function readProcessStat(pid: number): ProcessStat | undefined {
  return readStat(`/proc/${pid}/stat`);
}

/**
 * True if no thread of the process can do anything any more. A zombie has ended: it only waits for
 * its parent to read its exit code. But a killed process is a zombie as soon as its first thread
 * has ended, and another thread may still be inside a write(2) that cannot be interrupted.
 */
export function hasEnded(pid: number, stat: ProcessStat): boolean {
  return isDead(stat) && !hasLiveThread(pid);
}

function isDead({ state }: ProcessStat): boolean {
  return "ZXx".includes(state);
}

function hasLiveThread(pid: number): boolean {
  const stats = listThreads(pid).map((id) => readStat(`/proc/${pid}/task/${id}/stat`));
  return stats.some((stat) => stat !== undefined && !isDead(stat));
}

function listThreads(pid: number): string[] {
  try {
    return readdirSync(`/proc/${pid}/task`);
  } catch {
    return [];
  }
}

function readStat(path: string): ProcessStat | undefined {
  let line: string;
  try {
    line = readFileSync(path, "utf8");
  } catch (error) {
    // ESRCH: it ended between the open and the read.
    if (hasErrorCode(error, "ENOENT", "ESRCH")) return undefined;
    throw error;
  }
  // Field 2 is the program's name in parentheses, and may itself contain spaces and parentheses.
  // Field 3 follows the last parenthesis.
  const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
  const field = (number: number): string => fields[number - 3] ?? "";
  return { state: field(3), parentPid: Number(field(4)), startTicks: Number(field(22)) };
}
