import { randomBytes } from "node:crypto";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Connection } from "@temporalio/client";
import { msToTs } from "@temporalio/common/lib/time.js";
import postgres from "postgres";
import { onTestFinished, vi } from "vitest";
import { CommandLine } from "./command-line.ts";
import type { RunningStack } from "./running-stack.ts";
import { makeTemporaryDirectory } from "./temporary-directory.ts";

/** A service of the running test's own on the servers of a stack, named by variables alone. */
export interface SeparateService {
  readonly commandLine: CommandLine;
  readonly env: Readonly<Record<string, string>>;
  /** Path of its configuration file. */
  readonly config: string;
}

/**
 * Makes an empty database, a new namespace, and a configuration with a staging area and one
 * store: the state before `migrate` runs for the first time.
 */
export async function makeSeparateService({ file }: RunningStack): Promise<SeparateService> {
  const name = `test_${randomBytes(6).toString("hex")}`;
  const directory = makeTemporaryDirectory();
  const config = writeConfig(directory);
  const [databaseUrl] = await Promise.all([
    makeDatabase(file.database_url, name),
    makeNamespace(file.temporal_address, name),
  ]);
  const env = {
    DATABASE_URL: databaseUrl,
    TEMPORAL_ADDRESS: file.temporal_address,
    TEMPORAL_NAMESPACE: name,
    IMAGE_IMPORT_CONFIG: config,
  };
  return {
    commandLine: new CommandLine({ dataDir: join(directory, "no-stack"), env }),
    env,
    config,
  };
}

function writeConfig(directory: string): string {
  const path = join(directory, "image-import.yaml");
  mkdirSync(join(directory, "staging"));
  mkdirSync(join(directory, "store"));
  writeFileSync(path, "stores: { only: { type: file, path: store } }");
  return path;
}

async function makeDatabase(serverUrl: string, name: string): Promise<string> {
  const execute = async (statement: string): Promise<void> => {
    const sql = postgres(serverUrl, { max: 1, onnotice: () => undefined });
    await sql.unsafe(statement);
    await sql.end();
  };
  await execute(`CREATE DATABASE ${name}`);
  onTestFinished(() => execute(`DROP DATABASE IF EXISTS ${name} WITH (FORCE)`));
  const url = new URL(serverUrl);
  url.pathname = name;
  return url.href;
}

/** It stays: a development server can't drop one, and it goes with the stack. */
async function makeNamespace(address: string, namespace: string): Promise<void> {
  const connection = await Connection.connect({ address });
  try {
    await connection.workflowService.registerNamespace({
      namespace,
      workflowExecutionRetentionPeriod: msToTs("1 day"),
    });
    // Its servers learn of a new namespace one after the other.
    await vi.waitFor(() => connection.operatorService.listSearchAttributes({ namespace }), {
      timeout: 30_000,
      interval: 200,
    });
  } finally {
    await connection.close();
  }
}
