import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { detectFormat } from "../client/detect-format.ts";
import { environmentWithout } from "../config/child-environment.ts";
import { dataDirOf, isDefaultDataDir, temporalCli } from "../config/environment.ts";
import { formatDuration } from "../domain/duration.ts";
import { IMPORT_FAILURES, ImportError } from "../domain/import-failure.ts";
import type { NameLock } from "../processes/name-lock.ts";
import { importWorkflowId } from "../workflow/contract.ts";
import { tryToTakeDemoTurn } from "./data-directory-lock.ts";
import { openDataDirectory } from "./data-directory.ts";
import { writeDemoDisk } from "./demo-disk.ts";
import { whileSaying } from "./progress.ts";
import { StackError } from "./stack-error.ts";
import { useOrStartStack, type UsableStack } from "./use-or-start-stack.ts";

const USAGE = `Usage: npm run demo [-- [--data-dir DIR] [--keep] [FILE]]

Starts everything, imports FILE (default: a disk image of 256 MiB that it makes), compares the
stored bytes with the image's digest, and removes the image. --keep keeps it. The commands are
those of \`image-import\`. A stack that runs on the data directory is used, and left running.
`;

const COMMAND_LINE = fileURLToPath(new URL("../cli/main.js", import.meta.url));

interface DemoOptions {
  /** Undefined: the demo makes a disk image. */
  readonly file: string | undefined;
  readonly dataDir: string;
  readonly keepsImage: boolean;
}

/** The failure of a command of the demo, which has reported why. */
class CommandFailed extends Error {
  readonly exitCode: number;

  constructor(exitCode: number) {
    super(`A command ended with exit code ${exitCode}`);
    this.name = "CommandFailed";
    this.exitCode = exitCode;
  }
}

process.exitCode = await demo();

/** Runs the demo. @returns the exit code: 0 done, 2 wrong use, else that of the failure */
async function demo(): Promise<number> {
  let options: DemoOptions | undefined;
  try {
    options = readOptions();
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n\n${USAGE}`);
    return 2;
  }
  if (options === undefined) {
    say(USAGE);
    return 0;
  }
  const interruption = new AbortController();
  for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) {
    process.on(signal, () => {
      interruption.abort();
    });
  }
  // The reader of a pipe may end before the demo, which still has to stop its servers.
  process.stdout.on("error", () => undefined);
  try {
    // A file that cannot be imported needs no stack.
    if (options.file !== undefined) await detectFormat(options.file);
    const turn = await waitForTurn(options.dataDir, interruption.signal);
    try {
      await runOnStack(options, interruption.signal);
    } finally {
      await turn.release();
    }
    return 0;
  } catch (error) {
    return exitCodeOf(error, interruption.signal.aborted);
  }
}

/** Reports a failure, and returns the exit code for it. */
function exitCodeOf(error: unknown, isInterrupted: boolean): number {
  if (isInterrupted) {
    process.stderr.write("error: The demo was interrupted\n");
    return IMPORT_FAILURES.Interrupted.exitCode;
  }
  if (error instanceof CommandFailed) return error.exitCode;
  if (!(error instanceof ImportError) && !(error instanceof StackError)) throw error;
  process.stderr.write(`error: ${error.message}\n`);
  if (!(error instanceof ImportError)) return 1;
  process.stderr.write(`hint: ${error.hint}\n`);
  return IMPORT_FAILURES[error.code].exitCode;
}

/** @returns undefined if the user asks for the usage */
function readOptions(): DemoOptions | undefined {
  const { values, positionals } = parseArgs({
    options: {
      "data-dir": { type: "string" },
      keep: { type: "boolean", default: false },
      help: { type: "boolean", default: false },
    },
    allowPositionals: true,
  });
  if (values.help) return undefined;
  if (positionals.length > 1) throw new Error("One FILE at most");
  const [file] = positionals;
  return {
    file: file === undefined ? undefined : resolve(file),
    dataDir: dataDirOf(values["data-dir"]),
    keepsImage: values.keep,
  };
}

async function waitForTurn(dataDir: string, signal: AbortSignal): Promise<NameLock> {
  const { path } = openDataDirectory(dataDir);
  return whileSaying(say, `waiting for another demo on ${path}`, async () => {
    for (;;) {
      const turn = await tryToTakeDemoTurn(path);
      if (turn !== undefined) return turn;
      signal.throwIfAborted();
      await sleep(200);
    }
  });
}

async function runOnStack(options: DemoOptions, signal: AbortSignal): Promise<void> {
  const { dataDir } = options;
  const stack = await timed("starting", () =>
    useOrStartStack({ dataDir, temporalCli: temporalCli(), log: say, signal }),
  );
  const scratch = await mkdtemp(join(tmpdir(), "image-import-demo-"));
  try {
    await importAndVerify(stack, scratch, options, signal);
  } finally {
    await rm(scratch, { recursive: true, force: true });
    await whileSaying(say, "stopping", async () => stack.stop());
  }
}

async function importAndVerify(
  { addresses }: UsableStack,
  scratch: string,
  options: DemoOptions,
  signal: AbortSignal,
): Promise<void> {
  const { dataDir } = options;
  const file = options.file ?? join(scratch, "demo-disk.raw");
  if (options.file === undefined) await timed("making a disk image", () => writeDemoDisk(file));
  const id = randomUUID();
  const run = (...args: readonly string[]) => runCommand(args, { dataDir, file, signal });
  // If the import fails, its command removes the image.
  await run("import", file, "--id", id);
  try {
    await run("image", "verify", id);
    await run("image", "show", id);
    const workflow = encodeURIComponent(importWorkflowId(id));
    say(
      `\nIn the Web UI, while \`npm start\` runs: ${addresses.web_ui}/namespaces/${addresses.temporal_namespace}/workflows/${workflow}`,
    );
  } finally {
    await removeImage(id, options);
  }
}

/** Removes the image, unless the user keeps it. A signal does not stop the removal. */
async function removeImage(id: string, { dataDir, keepsImage }: DemoOptions): Promise<void> {
  const isDefault = isDefaultDataDir(dataDir);
  const environment = isDefault ? "" : `IMAGE_IMPORT_DATA_DIR=${dataDir} `;
  const stays = `\nThe image stays. To remove it, while \`npm start\` runs: ${environment}npx image-import image delete ${id}`;
  if (keepsImage) {
    say(stays);
    return;
  }
  try {
    await runCommand(["image", "delete", id], { dataDir });
    say("\nThe image is removed; `npm run demo -- --keep` keeps it.");
  } catch (error) {
    if (!(error instanceof CommandFailed)) throw error;
    say(stays);
  }
}

/**
 * Runs one command of the command line, and shows it as a user would type it, with the name of the
 * file instead of its path. The signal interrupts the command.
 *
 * @throws CommandFailed
 */
async function runCommand(
  args: readonly string[],
  {
    dataDir,
    file,
    signal,
  }: { readonly dataDir: string; readonly file?: string; readonly signal?: AbortSignal },
): Promise<void> {
  signal?.throwIfAborted();
  const shown = args.map((arg) => (arg === file ? arg.slice(dirname(arg).length + 1) : arg));
  say(`\n$ image-import ${shown.join(" ")}`);
  const child = spawn(process.execPath, [COMMAND_LINE, ...args, "--data-dir", dataDir], {
    // The variables of another service win over the data directory.
    env: environmentWithout("TEMPORAL_", "DATABASE_URL", "IMAGE_IMPORT_"),
    stdio: "inherit",
    // Ctrl-C reaches this process alone, which passes it on once.
    detached: true,
  });
  const interrupt = (): void => {
    child.kill("SIGTERM");
  };
  signal?.addEventListener("abort", interrupt, { once: true });
  const [exitCode] = (await once(child, "close")) as [number | null];
  signal?.removeEventListener("abort", interrupt);
  if (exitCode !== 0) throw new CommandFailed(exitCode ?? 1);
}

async function timed<T>(phase: string, work: () => Promise<T>): Promise<T> {
  const startedAtMs = Date.now();
  const result = await whileSaying(say, phase, work);
  say(`  ${phase.padEnd(20)} ${formatDuration(Date.now() - startedAtMs)}`);
  return result;
}

function say(line: string): void {
  process.stdout.write(`${line}\n`);
}
