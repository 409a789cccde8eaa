import { readStackFile, STACK_PROGRAMS, type StackFile } from "../config/stack-file.ts";
import type { DataDirectory } from "./data-directory.ts";
import { findPostgresOn } from "./postgres-server.ts";
import {
  findProcessesWithEnvironment,
  isRunning,
  readBootId,
  type LocalProcess,
} from "../processes/process-table.ts";
import { StackError } from "./stack-error.ts";
import { stopProcess } from "../processes/stop-process.ts";

/** A variable in the environment of every program of a stack. Its value is the data directory. */
export const STACK_MARK = "IMAGE_IMPORT_STACK";

/**
 * Ends the processes of a killed stack on a data directory: two servers on the same files would
 * destroy them. The caller holds the directory's lock. The stack file names the processes. If it is
 * lost or outdated, the mark in their environment and Postgres' own lock file find them.
 *
 * @returns the number of ended processes
 * @throws StackError when the stack file is damaged
 */
export async function stopOrphans(
  directory: Pick<DataDirectory, "path" | "postgres">,
): Promise<number> {
  const marked = findProcessesWithEnvironment(STACK_MARK, directory.path);
  const postgres = findPostgresOn(directory.postgres);
  const named = readNamedProcesses(directory.path);
  const orphans = new Map(
    [...named, ...marked, ...(postgres ? [postgres] : [])].map((orphan) => [orphan.pid, orphan]),
  );
  // Postgres last: the others use it while they end. Its first signal is the fast shutdown.
  const servers = new Set([postgres?.pid]);
  const others = [...orphans.values()].filter(({ pid }) => !servers.has(pid));
  await Promise.all(
    others.map(async (orphan) => stopProcess(orphan, { signal: "SIGTERM", withinMs: 10_000 })),
  );
  if (postgres) await stopProcess(postgres, { signal: "SIGINT", withinMs: 20_000 });
  return orphans.size;
}

function readNamedProcesses(dataDir: string): LocalProcess[] {
  const file = readIntact(dataDir);
  if (file?.boot_id !== readBootId()) return [];
  return STACK_PROGRAMS.flatMap((program) => processOf(file, program) ?? []).filter(isRunning);
}

function readIntact(dataDir: string): StackFile | undefined {
  try {
    return readStackFile(dataDir);
  } catch (cause) {
    throw new StackError(cause instanceof Error ? cause.message : String(cause), { cause });
  }
}

function processOf(
  file: StackFile,
  program: (typeof STACK_PROGRAMS)[number],
): LocalProcess | undefined {
  const pid = file.pids[program];
  const startTicks = file.start_times[program];
  return pid === null || startTicks === null ? undefined : { pid, startTicks };
}
