import { readdir, readFile, readlink } from "node:fs/promises";
import { hostname } from "node:os";
import { hasErrorCode } from "./system-error.ts";

/**
 * One process, never to be mistaken for a later one that got the same id. Travels through JSON and
 * Postgres.
 */
export interface ProcessIdentity {
  /** Which machine, or container of one, as far as it tells itself: several may share a volume. */
  readonly machine: string;
  /** The kernel's id of this boot of the machine. */
  readonly bootId: string;
  /** The pid namespace in which `pid` means something, such as `pid:[4026531836]`. */
  readonly pidNamespace: string;
  readonly pid: number;
  /** When the process started, in clock ticks since the boot. */
  readonly startTicks: number;
}

interface ProcessStat {
  /** One letter: R, S, D, T, Z (zombie), X (dead), … */
  readonly state: string;
  readonly startTicks: number;
}

/** The identity of this process. */
export async function thisProcess(): Promise<ProcessIdentity> {
  const stat = await readStat("/proc/self/stat");
  if (stat === undefined) throw new Error("Cannot read /proc/self/stat: is /proc mounted?");
  return { ...(await whereWeRun()), pid: process.pid, startTicks: stat.startTicks };
}

/**
 * Whether a process can still do anything. A zombie is dead: it only waits for its parent to ask
 * for its exit code.
 *
 * @returns "unknown" when it runs on another machine, in another pid namespace, such as another
 *   container, or is hidden from this user
 */
export async function isRunning(
  identity: ProcessIdentity,
): Promise<"running" | "dead" | "unknown"> {
  const { machine, bootId, pidNamespace } = await whereWeRun();
  // Every process of another machine has another boot id, too.
  if (identity.machine !== machine) return "unknown";
  if (identity.bootId !== bootId) return "dead";
  if (identity.pidNamespace !== pidNamespace) return "unknown";

  const stat = await readStat(`/proc/${identity.pid}/stat`);
  if (stat === undefined) return mayBeHidden(identity.pid) ? "unknown" : "dead";
  if (stat.startTicks !== identity.startTicks) return "dead";
  if (!hasEnded(stat)) return "running";
  return (await hasLiveThread(identity.pid)) ? "running" : "dead";
}

async function whereWeRun(): Promise<Pick<ProcessIdentity, "machine" | "bootId" | "pidNamespace">> {
  const [machineId, bootId, pidNamespace] = await Promise.all([
    // Containers often have none, and clones of a virtual machine may share theirs.
    readFile("/etc/machine-id", "utf8").catch(() => ""),
    readFile("/proc/sys/kernel/random/boot_id", "utf8"),
    readlink("/proc/self/ns/pid"),
  ]);
  return { machine: `${machineId.trim()}@${hostname()}`, bootId: bootId.trim(), pidNamespace };
}

/** The state of a process or thread; undefined when it is gone, or hidden. */
async function readStat(path: string): Promise<ProcessStat | undefined> {
  let line: string;
  try {
    line = await readFile(path, "utf8");
  } catch (error) {
    // ESRCH: it ended between the open and the read.
    if (hasErrorCode(error, "ENOENT", "ESRCH")) return undefined;
    throw error;
  }
  // The second field is the program's name in parentheses, and may itself hold spaces and
  // parentheses (proc(5)). After its last one come field 3, the state, and so on; the start time is
  // field 22.
  const fields = line.slice(line.lastIndexOf(")") + 2).split(" ");
  return { state: fields[0] ?? "", startTicks: Number(fields[22 - 3]) };
}

function hasEnded({ state }: ProcessStat): boolean {
  return state === "Z" || state === "X";
}

/**
 * A killed process is a zombie as soon as its first thread has ended, while another may still sit
 * in a write(2) that cannot be interrupted, and finish it.
 */
async function hasLiveThread(pid: number): Promise<boolean> {
  const threads = await readdir(`/proc/${pid}/task`).catch(() => []);
  const stats = await Promise.all(threads.map((id) => readStat(`/proc/${pid}/task/${id}/stat`)));
  return stats.some((stat) => stat !== undefined && !hasEnded(stat));
}

/** /proc mounted with `hidepid` shows no processes of other users, though they run. */
function mayBeHidden(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return !hasErrorCode(error, "ESRCH");
  }
}
