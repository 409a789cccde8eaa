import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { ensureTemporalCli } from "../../scripts/temporal-cli.mjs";
import { readStackFile, STACK_PROGRAMS } from "../../src/config/stack-file.ts";
import { isRunning } from "../../src/processes/process-table.ts";
import { startStack, type OwnStack } from "../../src/stack/stack.ts";
import { copyHoldsEnv } from "./copy-holds-env.ts";
import { endAbandonedServices, makeServicesDirectory } from "./services-directory.ts";

declare module "vitest" {
  interface ProvidedContext {
    /** Data directory of the stack that all files of a project share. */
    readonly sharedStack: string;
  }
}

// `slow` is for imports that a test holds while they run, `tiny` for a volume that a test mounts
// there.
const CONFIG = `
default_store: local
stores:
  local: { type: file, path: stores/local }
  slow: { type: file, path: stores/slow, zero_copy: false }
  tiny: { type: file, path: stores/tiny, zero_copy: false }
import: { slots: 8 }
`;

/**
 * One whole stack for all files of a project, in a directory that goes with it. Needs the build.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  await endAbandonedServices();
  const temporalCli = await ensureTemporalCli();
  const dataDir = makeServicesDirectory();
  for (const store of ["slow", "tiny"]) {
    mkdirSync(join(dataDir, "stores", store), { recursive: true });
  }
  writeFileSync(join(dataDir, "image-import.yaml"), CONFIG);
  // A run that is broken off does not come to its end; the programs are asked to end all the same.
  process.once("exit", () => {
    askToEnd(dataDir);
  });
  const stack = await startHoldingStack(dataDir, temporalCli);
  project.provide("sharedStack", stack.directory.path);
  project.provide("temporalCli", temporalCli);
  return async () => {
    await stack.stop();
    rmSync(dataDir, { recursive: true, force: true });
  };
}

/** The worker takes its variables from this process. */
async function startHoldingStack(dataDir: string, temporalCli: string): Promise<OwnStack> {
  const before = process.env["NODE_OPTIONS"];
  Object.assign(process.env, copyHoldsEnv(dataDir));
  try {
    return await startStack({ dataDir, temporalCli });
  } finally {
    delete process.env["COPY_HOLDS"];
    if (before === undefined) delete process.env["NODE_OPTIONS"];
    else process.env["NODE_OPTIONS"] = before;
  }
}

function askToEnd(dataDir: string): void {
  const stack = readStackFile(dataDir);
  if (stack === undefined) return;
  for (const program of STACK_PROGRAMS) {
    const [pid, startTicks] = [stack.pids[program], stack.start_times[program]];
    if (pid === null || startTicks === null || !isRunning({ pid, startTicks })) continue;
    process.kill(pid, "SIGINT");
  }
}
