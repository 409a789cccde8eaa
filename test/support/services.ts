import { rmSync } from "node:fs";
import { join } from "node:path";
import type { TestProject } from "vitest/node";
import { findFreePort } from "../../src/stack/ports.ts";
import { PostgresServer } from "../../src/stack/postgres-server.ts";
import { isRunning } from "../../src/processes/process-table.ts";
import { waitUntilReady, type Program } from "../../src/stack/program.ts";
import { isTemporalReady, startTemporal } from "../../src/stack/temporal-server.ts";
import { endAbandonedServices, makeServicesDirectory, markOf } from "./services-directory.ts";
import { ensureTemporalCli } from "../../scripts/temporal-cli.mjs";

declare module "vitest" {
  interface ProvidedContext {
    /** Address of the shared Postgres' own database `postgres`, as its superuser. */
    readonly adminDatabaseUrl: string;
    /** Host and port of the shared Temporal server; its namespace is `default`. */
    readonly temporalAddress: string;
    /** Path of the Temporal CLI that the shared server runs from. */
    readonly temporalCli: string;
  }
}

interface Services {
  readonly adminDatabaseUrl: string;
  readonly temporalAddress: string;
  readonly temporalCli: string;
  stop(): Promise<void>;
}

interface SharedServices {
  readonly services: Promise<Services>;
  users: number;
}

// The search attributes that `migrate` registers on a real stack.
const SEARCH_ATTRIBUTES = {
  ImageId: "Keyword",
  ImportPhase: "Keyword",
  ImageName: "Keyword",
  ImportStores: "KeywordList",
  ImportMethod: "Keyword",
  Owner: "Keyword",
};

// Every test project loads this file for itself; all of them share one pair of servers.
const shared: { imageImportTestServices?: SharedServices } = globalThis as object;

/**
 * One real Postgres and one real Temporal server for the whole run, in a directory that goes with
 * them.
 */
export default async function setup(project: TestProject): Promise<() => Promise<void>> {
  const entry = (shared.imageImportTestServices ??= { services: startServices(), users: 0 });
  entry.users += 1;
  const services = await entry.services;
  project.provide("adminDatabaseUrl", services.adminDatabaseUrl);
  project.provide("temporalAddress", services.temporalAddress);
  project.provide("temporalCli", services.temporalCli);
  return async () => {
    entry.users -= 1;
    if (entry.users === 0) await services.stop();
  };
}

async function startServices(): Promise<Services> {
  await endAbandonedServices();
  const directory = makeServicesDirectory();
  const programs: Program[] = [];
  // A run that is broken off does not come to its end; the servers are asked to end all the same.
  process.once("exit", () => {
    for (const program of programs) askToEnd(program);
  });
  const stop = async (): Promise<void> => {
    await Promise.all(programs.map(async (program) => program.stop()));
    rmSync(directory, { recursive: true, force: true });
  };
  try {
    const [adminDatabaseUrl, temporal] = await Promise.all([
      startTestPostgres(directory, programs),
      startTestTemporal(directory, programs),
    ]);
    return { adminDatabaseUrl, ...temporal, stop };
  } catch (error) {
    await stop();
    throw error;
  }
}

async function startTestPostgres(directory: string, programs: Program[]): Promise<string> {
  const server = new PostgresServer({
    directory: join(directory, "postgres"),
    port: await findFreePort(),
    logFile: join(directory, "postgres.log"),
    // The data does not outlive the run, so it need not outlive a crash of the machine.
    env: markOf(directory),
    settings: { fsync: "off", synchronous_commit: "off", full_page_writes: "off" },
  });
  await server.prepare();
  const program = server.start();
  programs.push(program);
  await waitUntilReady(program, async () => server.isReady());
  return server.url("postgres");
}

async function startTestTemporal(
  directory: string,
  programs: Program[],
): Promise<Pick<Services, "temporalAddress" | "temporalCli">> {
  const temporalCli = await ensureTemporalCli();
  const port = await findFreePort();
  const program = startTemporal({
    cli: temporalCli,
    port,
    webUiPort: await findFreePort(),
    logFile: join(directory, "temporal.log"),
    env: markOf(directory),
    searchAttributes: SEARCH_ATTRIBUTES,
  });
  programs.push(program);
  const temporalAddress = `127.0.0.1:${port}`;
  await waitUntilReady(program, async () => isTemporalReady(temporalAddress));
  return { temporalAddress, temporalCli };
}

function askToEnd({ process: identity }: Program): void {
  if (identity && isRunning(identity)) process.kill(identity.pid, "SIGINT");
}
