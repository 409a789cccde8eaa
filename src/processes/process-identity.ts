import { readFile, readlink } from "node:fs/promises";
import { hostname } from "node:os";
import { hasErrorCode } from "../bytes/system-error.ts";
import { hasEnded, readProcessStat } from "./process-stat.ts";
import { readBootId, type LocalProcess } from "./process-table.ts";

/**
 * One process of one machine, never confused with a later process that got the same id. Travels
 * through JSON and Postgres.
 */
export interface ProcessIdentity extends LocalProcess {
  /**
   * The machine, or the container on it, as far as it can be identified: several may share a
   * volume.
   */
  readonly machine: string;
  /** The kernel's id of this boot of the machine. */
  readonly bootId: string;
  /** The pid namespace in which `pid` is valid, such as `pid:[4026531836]`. */
  readonly pidNamespace: string;
}

/** The identity of this process. */
export async function thisProcess(): Promise<ProcessIdentity> {
  const stat = readProcessStat(process.pid);
  if (stat === undefined) throw new Error("Cannot read /proc/self/stat: is /proc mounted?");
  return { ...(await thisMachine()), pid: process.pid, startTicks: stat.startTicks };
}

/**
 * Reports if a process can still do anything.
 *
 * @returns "unknown" if it runs on another machine or in another pid namespace, such as another
 *   container, or is hidden from this user
 */
export async function livenessOf(
  identity: ProcessIdentity,
): Promise<"running" | "dead" | "unknown"> {
  const { machine, bootId, pidNamespace } = await thisMachine();
  // The machine is compared first: a process of another machine has another boot id, and may be
  // alive.
  if (identity.machine !== machine) return "unknown";
  if (identity.bootId !== bootId) return "dead";
  if (identity.pidNamespace !== pidNamespace) return "unknown";

  const stat = readProcessStat(identity.pid);
  if (stat === undefined) return mayBeHidden(identity.pid) ? "unknown" : "dead";
  if (stat.startTicks !== identity.startTicks) return "dead";
  return hasEnded(identity.pid, stat) ? "dead" : "running";
}

async function thisMachine(): Promise<Omit<ProcessIdentity, keyof LocalProcess>> {
  // Containers often have no machine id, and clones of a virtual machine may share one. The host
  // name distinguishes some of them.
  const machineId = await readFile("/etc/machine-id", "utf8").catch(() => "");
  return {
    machine: `${machineId.trim()}@${hostname()}`,
    bootId: readBootId(),
    pidNamespace: await readlink("/proc/self/ns/pid"),
  };
}

/**
 * True if the process runs, though /proc, mounted with `hidepid`, does not show it to this user.
 */
function mayBeHidden(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return !hasErrorCode(error, "ESRCH");
  }
}
