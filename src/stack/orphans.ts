import { readStackFile, STACK_PROGRAMS, type StackFile } from "../config/stack-file.ts";
import type { DataDirectory } from "./data-directory.ts";
import { findPostgresOn } from "./postgres-server.ts";
import {
  findProcessesWithEnvironment,
  isRunning,
  readBootId,
  type LocalProcess,
} from "../processes/process-table.ts";
import { stopProcess } from "../processes/stop-process.ts";

/** Stands in the environment of every program of a stack, with the data directory as its value. */
export const STACK_MARK = "IMAGE_IMPORT_STACK";

/**
 * Ends what a killed stack left running on a data directory: two servers on the same files would
 * destroy them. To be called with the directory's lock held. The stack file names the processes;
 * should it be lost or late, the mark in their environment and Postgres' own lock file find them
 * too.
 *
 * @returns how many processes were ended
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
  // Postgres last: it serves the others while they end. Its first signal is the fast shutdown.
  const servers = new Set([postgres?.pid]);
  const others = [...orphans.values()].filter(({ pid }) => !servers.has(pid));
  await Promise.all(
    others.map(async (orphan) => stopProcess(orphan, { signal: "SIGTERM", withinMs: 10_000 })),
  );
  if (postgres) await stopProcess(postgres, { signal: "SIGINT", withinMs: 20_000 });
  return orphans.size;
}

function readNamedProcesses(dataDir: string): LocalProcess[] {
  const file = readStackFile(dataDir);
  if (file?.boot_id !== readBootId()) return [];
  return STACK_PROGRAMS.flatMap((program) => processOf(file, program) ?? []).filter(isRunning);
}

function processOf(
  file: StackFile,
  program: (typeof STACK_PROGRAMS)[number],
): LocalProcess | undefined {
  const pid = file.pids[program];
  const startTicks = file.start_times[program];
  return pid === null || startTicks === null ? undefined : { pid, startTicks };
}
