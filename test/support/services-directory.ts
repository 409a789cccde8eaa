import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { STACK_MARK, stopOrphans } from "../../src/stack/orphans.ts";
import { findProcess, isRunning } from "../../src/processes/process-table.ts";

const NAME = /^image-import-services-(\d+)-(\d+)-/;

/** A directory for the servers of this run; its name says whose it is. */
export function makeServicesDirectory(): string {
  const startTicks = findProcess(process.pid)?.startTicks ?? 0;
  return mkdtempSync(join(tmpdir(), `image-import-services-${process.pid}-${startTicks}-`));
}

/** The mark of a server of the run that has this directory. */
export function markOf(directory: string): NodeJS.ProcessEnv {
  return { [STACK_MARK]: directory };
}

/** Ends the servers of test runs that were killed, and removes what they left. */
export async function endAbandonedServices(): Promise<void> {
  for (const name of readdirSync(tmpdir())) {
    const [, pid, startTicks] = NAME.exec(name) ?? [];
    if (pid === undefined || startTicks === undefined) continue;
    if (isRunning({ pid: Number(pid), startTicks: Number(startTicks) })) continue;
    const path = join(tmpdir(), name);
    await stopOrphans({ path, postgres: join(path, "postgres") });
    rmSync(path, { recursive: true, force: true });
  }
}
