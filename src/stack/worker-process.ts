import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { workerAddresses, type WorkerAddresses } from "../config/stack-file.ts";
import type { StackAddresses } from "./stack-record.ts";
import { environmentWithout } from "../config/child-environment.ts";
import { Program, readLastLines, reportedError } from "./program.ts";
import { StackError } from "./stack-error.ts";

// Every process runs from the build: Node 20 cannot run the sources.
const COMMAND_LINE = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

/** Settings of the worker, of the API, and of the migration, in a stack. */
export interface WorkerOptions {
  /** The servers and the configuration to use. */
  readonly addresses: StackAddresses;
  /** The file for the output. */
  readonly logFile: string;
  /** Variables added to the environment. */
  readonly env: NodeJS.ProcessEnv;
}

/**
 * Starts a worker. It sends `{ ready: true }` with its addresses through its channel once it polls.
 *
 * @param onReady - takes the addresses
 */
export function startWorker(
  options: WorkerOptions,
  onReady: (addresses: WorkerAddresses) => void,
): Program {
  return new Program({
    name: "worker",
    // Any free port: a new worker starts while the old one still has its ports.
    command: [
      process.execPath,
      COMMAND_LINE,
      "worker",
      "--health-port",
      "0",
      "--metrics-port",
      "0",
    ],
    env: environmentOf(options),
    logFile: options.logFile,
    // Longer than the time that a worker gives its activities to finish.
    stop: { signal: "SIGTERM", withinMs: 40_000 },
    hasChannel: true,
    onReady: (message) => {
      onReady(workerAddresses.parse(message));
    },
  });
}

/**
 * Starts the HTTP API. It sends `{ ready: true }` through its channel once it listens.
 *
 * @param port - on 127.0.0.1
 */
export function startApi(options: WorkerOptions, port: number): Program {
  return new Program({
    name: "api",
    command: [
      process.execPath,
      COMMAND_LINE,
      ...["api", "--host", "127.0.0.1", "--port", String(port)],
    ],
    env: environmentOf(options),
    logFile: options.logFile,
    // Longer than the default of `api.drain`, the time that running uploads are given. The setting
    // says this limit.
    stop: { signal: "SIGTERM", withinMs: 40_000 },
    hasChannel: true,
  });
}

/**
 * Brings database and Temporal namespace up to date.
 *
 * @throws StackError with the output of the command, if it fails
 */
export async function migrateStack(options: WorkerOptions, signal: AbortSignal): Promise<void> {
  signal.throwIfAborted();
  const program = new Program({
    name: "migrate",
    command: [process.execPath, COMMAND_LINE, "migrate"],
    env: environmentOf(options),
    logFile: options.logFile,
    stop: { signal: "SIGTERM", withinMs: 10_000 },
    hasChannel: true,
  });
  const stop = (): void => void program.stop();
  signal.addEventListener("abort", stop, { once: true });
  const end = await program.ended;
  signal.removeEventListener("abort", stop);
  signal.throwIfAborted();
  if (end === "exit code 0") return;
  const { failure } = program;
  if (failure !== undefined) throw reportedError("Cannot bring the database up to date", failure);
  throw new StackError(
    `Cannot bring the database up to date: \`image-import migrate\` ended with ${end}. The end of its log (${options.logFile}):\n${readLastLines(options.logFile)}`,
  );
}

function environmentOf({ addresses, env }: WorkerOptions): NodeJS.ProcessEnv {
  return {
    ...environmentWithout("TEMPORAL_"),
    ...env,
    DATABASE_URL: addresses.database_url,
    TEMPORAL_ADDRESS: addresses.temporal_address,
    TEMPORAL_NAMESPACE: addresses.temporal_namespace,
    // The user's profile for another Temporal must not apply to this one. Names a file that does
    // not exist, because the SDK refuses an empty one.
    TEMPORAL_CONFIG_FILE: join(addresses.data_dir, "temporal", "temporal.toml"),
    IMAGE_IMPORT_CONFIG: addresses.config,
  };
}
