import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { fileURLToPath } from "node:url";
import { databaseFailure } from "../db/database-failure.ts";
import { ImportError } from "../domain/import-failure.ts";
import { StackBusyError, StackError } from "./stack-error.ts";
import { startStack, type OwnStack, type Stack } from "./stack.ts";

const USAGE = `Usage: npm start [-- --data-dir DIR]

Runs Postgres, Temporal and one worker until Ctrl-C, everything under one data directory:
--data-dir, else IMAGE_IMPORT_DATA_DIR, else .image-import in the package.
`;

const DEFAULT_DATA_DIR = fileURLToPath(new URL("../../.image-import", import.meta.url));

process.exitCode = await runStack();

/**
 * @returns the exit code: 0 stopped by a person, 1 failed, 2 wrong use, 4 a stack runs there
 *   already
 */
async function runStack(): Promise<number> {
  const options = readOptions();
  if (typeof options === "number") return options;

  let running: OwnStack | undefined;
  const interrupted = interruptedBySignal(() => running);
  try {
    const stack = await startStack({ ...options, log: say, signal: interrupted });
    running = stack;
    say(welcome(stack));
    if (!interrupted.aborted) await once(interrupted, "abort");
    say("Stopping the worker, Temporal and Postgres …");
    await stack.stop();
    say("Stopped; imports that were running go on at the next start.");
    return 0;
  } catch (error) {
    if (interrupted.aborted) return 0;
    const failure = databaseFailure(error);
    if (failure instanceof ImportError) {
      process.stderr.write(`${failure.message}\n${failure.hint}\n`);
      return 1;
    }
    if (!(error instanceof StackError)) throw failure;
    process.stderr.write(`${error.message}\n`);
    return error instanceof StackBusyError ? 4 : 1;
  }
}

function readOptions(): { dataDir: string; temporalCli: string } | number {
  try {
    const options = { "data-dir": { type: "string" }, help: { type: "boolean" } } as const;
    const { values } = parseArgs({ options });
    if (values.help === true) {
      say(USAGE);
      return 0;
    }
    const dataDir = values["data-dir"] ?? process.env["IMAGE_IMPORT_DATA_DIR"] ?? DEFAULT_DATA_DIR;
    return {
      dataDir: resolve(dataDir),
      temporalCli: process.env["TEMPORAL_CLI"] ?? "temporal",
    };
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
    return 2;
  }
}

/**
 * Aborts at the first signal that asks us to end; later ones change nothing, each program has its
 * own limit. SIGHUP asks for that when the terminal has gone; else it asks for the configuration to
 * be read again, as of other services.
 */
function interruptedBySignal(running: () => OwnStack | undefined): AbortSignal {
  const interruption = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    process.on(signal, () => {
      interruption.abort();
    });
  }
  const hadTerminal = hasTerminal();
  process.on("SIGHUP", () => {
    const stack = running();
    if (stack === undefined || (hadTerminal && !hasTerminal())) interruption.abort();
    else void stack.reload();
  });
  // The terminal may be gone before us.
  process.stdout.on("error", () => undefined);
  return interruption.signal;
}

function hasTerminal(): boolean {
  try {
    closeSync(openSync("/dev/tty", "r"));
    return true;
  } catch {
    return false;
  }
}

function welcome({ addresses, directory }: Stack): string {
  const database = new URL(addresses.database_url);
  database.password = "";
  const isDefault = directory.path === resolve(DEFAULT_DATA_DIR);
  const environment = isDefault ? "" : `IMAGE_IMPORT_DATA_DIR=${directory.path} `;
  return `
Image Import runs; Ctrl-C stops it.

  Web UI     ${addresses.web_ui}
  Temporal   ${addresses.temporal_address}, namespace ${addresses.temporal_namespace}
  Postgres   ${database.href} (password: ${join(directory.path, "stack.json")})
  Staging    ${directory.staging}
  Store      local: ${directory.localStore}
  Logs       ${directory.logs}

In another terminal:

  ${environment}npx image-import import FILE
`;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
