import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, inject, vi } from "vitest";
import type { ImportReport } from "../../src/client/import-report.ts";
import type { ImageView, TaskView } from "../../src/client/image-view.ts";
import { readStackFile, type StackFile, type StackProgram } from "../../src/config/stack-file.ts";
import { openDataDirectory } from "../../src/stack/data-directory.ts";
import { stopOrphans } from "../../src/stack/orphans.ts";
import { findProcess } from "../../src/processes/process-table.ts";
import { CommandLine } from "./command-line.ts";
import { copyHoldsEnv } from "./copy-holds-env.ts";
import { CopyHolds } from "./copy-holds.ts";
import { checkWorkerLog } from "./log-lines.ts";
import { imageTraces, type ImageTraces } from "./image-traces.ts";
import { PATIENCE } from "./patience.ts";
import { makeServicesDirectory, markOf } from "./services-directory.ts";

const COMMAND_LINE = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

/** Settings of a {@link RunningStack}. */
export interface RunningStackOptions {
  /**
   * The configuration file; a function is asked at the first start, when other servers run.
   * Default: the one that a stack makes for itself.
   */
  readonly config?: StackConfig | (() => Promise<StackConfig>);
  /** The data directory. Default: a new one, which is removed with the stack. */
  readonly dataDir?: string;
  /** Put before every command, such as `setpriv` and its arguments. */
  readonly prefix?: readonly string[];
  /** Variables of every command. */
  readonly env?: NodeJS.ProcessEnv;
  /** Tests may hold copies; see {@link RunningStack.holds}. Default: false */
  readonly mayHold?: boolean;
}

/**
 * The settings of a test in the configuration file. Stores without a type are directories of the
 * stack's own.
 */
export interface StackConfig {
  readonly stores: Readonly<Record<string, Readonly<Record<string, unknown>>>>;
  readonly import?: Readonly<Record<string, unknown>>;
  readonly staging?: Readonly<Record<string, unknown>>;
  readonly sources?: Readonly<Record<string, unknown>>;
  readonly secrets?: Readonly<Record<string, unknown>>;
  readonly reconcile_every?: string;
}

/** A whole stack in processes of its own, as `npm start` runs it. */
export class RunningStack {
  readonly dataDir: string;
  readonly commandLine: CommandLine;
  readonly holds: CopyHolds;
  readonly #options: RunningStackOptions;
  readonly #env: NodeJS.ProcessEnv;
  #supervisor: ChildProcess | undefined;
  #databaseUrl: string | undefined;
  #isConfigured = false;

  constructor(options: RunningStackOptions = {}) {
    this.#options = options;
    this.dataDir = options.dataDir ?? makeServicesDirectory();
    const holdsEnv = options.mayHold === true ? copyHoldsEnv(this.dataDir) : {};
    this.#env = { ...holdsEnv, ...options.env };
    this.commandLine = new CommandLine({ ...options, env: this.#env, dataDir: this.dataDir });
    this.holds = new CopyHolds(this.dataDir);
  }

  /** Starts it, also again; returns once it is ready. */
  async start(): Promise<void> {
    await this.#configure();
    const { prefix = [] } = this.#options;
    const command = [...prefix, process.execPath, COMMAND_LINE, "dev", "--data-dir", this.dataDir];
    const [program = "", ...args] = command;
    const child = spawn(program, args, {
      // Marked, so that the next run finds and ends it, should this one be killed.
      env: {
        ...process.env,
        TEMPORAL_CLI: inject("temporalCli"),
        ...markOf(this.dataDir),
        ...this.#env,
      },
      stdio: ["ignore", "ignore", "pipe"],
    });
    let said = "";
    child.stderr.on("data", (chunk: Buffer) => (said += chunk.toString()));
    this.#supervisor = child;
    // A test run that is broken off does not come to its end.
    process.once("exit", () => child.kill("SIGTERM"));
    await vi.waitUntil(
      () => {
        if (child.exitCode !== null) {
          throw new Error(`npm start ended: ${String(child.exitCode)}\n${said}`);
        }
        const file = readStackFile(this.dataDir);
        return file?.state === "ready" && file.supervisor.pid === child.pid;
      },
      { timeout: 120_000, interval: 100 },
    );
    this.#databaseUrl = this.file.database_url;
  }

  async #configure(): Promise<void> {
    const { config } = this.#options;
    if (config === undefined || this.#isConfigured) return;
    writeConfig(this.dataDir, typeof config === "function" ? await config() : config);
    this.#isConfigured = true;
  }

  /**
   * Ends it, with everything that a test left of it, and removes its data if the directory is its
   * own.
   */
  async stop(): Promise<void> {
    const child = this.#supervisor;
    if (child !== undefined && child.exitCode === null && child.signalCode === null) {
      const ended = once(child, "exit");
      child.kill("SIGTERM");
      await ended;
    }
    await stopOrphans(openDataDirectory(this.dataDir));
    if (this.#databaseUrl !== undefined) checkWorkerLog(this.dataDir, this.#databaseUrl);
    if (this.#options.dataDir === undefined) rmSync(this.dataDir, { recursive: true, force: true });
  }

  /** The current content of stack.json. */
  get file(): StackFile {
    const file = readStackFile(this.dataDir);
    if (file === undefined) throw new Error(`No stack on ${this.dataDir}`);
    return file;
  }

  /** The process that a program has now. @throws Error while it has none */
  pidOf(program: StackProgram): number {
    const pid = this.file.pids[program];
    if (pid === null) throw new Error(`${program} does not run`);
    return pid;
  }

  /**
   * Kills programs at once (SIGKILL), and waits until all are gone; the stack starts them again.
   */
  async kill(...programs: readonly StackProgram[]): Promise<void> {
    await killAll(programs.map((program) => this.pidOf(program)));
  }

  /**
   * Kills `npm start` itself, and at the same moment the programs named; the others are left
   * running.
   */
  async killSupervisor(...programs: readonly StackProgram[]): Promise<void> {
    const child = this.#supervisor;
    if (child?.pid === undefined) throw new Error("The stack was not started");
    const ended = once(child, "exit");
    await killAll([child.pid, ...programs.map((program) => this.pidOf(program))]);
    await ended;
  }

  /** Path of the staging area. */
  get staging(): string {
    return join(this.dataDir, "staging");
  }

  /** Path of a file store. */
  store(name: string): string {
    return join(this.dataDir, "stores", name);
  }

  async showImage(imageId: string): Promise<ImageView> {
    return (await this.commandLine.answer("image", "show", imageId)) as ImageView;
  }

  async newestTask(imageId: string): Promise<TaskView | undefined> {
    return ((await this.commandLine.answer("task", "list", "--image", imageId)) as TaskView[])[0];
  }

  async report(imageId: string): Promise<ImportReport> {
    return (await this.commandLine.answer("status", imageId)) as ImportReport;
  }

  /** The traces of an image. */
  async traces(imageId: string): Promise<ImageTraces> {
    return imageTraces(this.file.database_url, this.dataDir, imageId);
  }
}

/** Starts a stack before the tests of a file and ends it after them. */
export function useRunningStack(options: RunningStackOptions = {}): RunningStack {
  const stack = new RunningStack(options);
  beforeAll(async () => {
    await stack.start();
  });
  afterAll(async () => {
    await stack.stop();
  });
  return stack;
}

function writeConfig(dataDir: string, { stores, ...rest }: StackConfig): void {
  const named = Object.entries(stores).map(([name, settings]) => {
    if (settings["type"] === "s3") return [name, settings];
    mkdirSync(join(dataDir, "stores", name), { recursive: true });
    return [name, { type: "file", path: `stores/${name}`, ...settings }];
  });
  // JSON is YAML too.
  const text = JSON.stringify({ stores: Object.fromEntries(named) as object, ...rest });
  writeFileSync(join(dataDir, "image-import.yaml"), text);
}

async function killAll(pids: readonly number[]): Promise<void> {
  for (const pid of pids) process.kill(pid, "SIGKILL");
  await vi.waitUntil(() => pids.every((pid) => findProcess(pid) === undefined), {
    ...PATIENCE,
    interval: 5,
  });
}
