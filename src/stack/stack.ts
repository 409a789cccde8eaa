import { join } from "node:path";
import { configDigest } from "../config/config-digest.ts";
import { readConfig } from "../config/config.ts";
import { STACK_PROGRAMS, type StackProgram } from "../config/stack-file.ts";
import type { NameLock } from "../processes/name-lock.ts";
import { lockDataDirectory } from "./data-directory-lock.ts";
import { ChangingFile } from "./changing-file.ts";
import { LogRotation, type RotationLimits } from "./log-rotation.ts";
import { openDataDirectory, type DataDirectory } from "./data-directory.ts";
import { STACK_MARK, stopOrphans } from "./orphans.ts";
import { choosePorts, type StackPorts } from "./ports.ts";
import { PostgresServer } from "./postgres-server.ts";
import type { Program } from "./program.ts";
import { whileSaying } from "./progress.ts";
import { StackRecord, type StackAddresses } from "./stack-record.ts";
import { SupervisedProgram } from "./supervised-program.ts";
import { isTemporalReady, startTemporal, TEMPORAL_NAMESPACE } from "./temporal-server.ts";
import { migrateStack, startApi, startWorker, type WorkerOptions } from "./worker-process.ts";

const DATABASE = "image_import";

// Short enough that a log is not much longer than its limit.
const ROTATE_EVERY_MS = 10_000;
// The stack looks at the file instead of waiting for events: a network file system and a
// container's volume may send none.
const LOOK_AT_CONFIGURATION_EVERY_MS = 1_000;
/** The limits while the configuration cannot be read. */
const DEFAULT_ROTATION: RotationLimits = { maxSizeBytes: 16 * 1024 * 1024, keep: 5 };

/** Settings of a stack. */
export interface StackOptions {
  /** The directory of all data; created if it does not exist. */
  readonly dataDir: string;
  /** Path of the Temporal CLI; its server must be 1.30 or newer. */
  readonly temporalCli: string;
  /** Prints one line for the user. Default: prints nothing. */
  readonly log?: (line: string) => void;
  /** Ends a start that is not complete. */
  readonly signal?: AbortSignal;
}

/** A running stack. */
export interface Stack {
  readonly addresses: StackAddresses;
  /** The paths of its data. */
  readonly directory: DataDirectory;
  /** Ends the API, then the worker, then the servers, and releases the data directory. */
  stop(): Promise<void>;
}

/** A stack that this process supervises. */
export interface OwnStack extends Stack {
  /**
   * Replaces the worker by one with the current configuration, and then restarts the API. If the
   * new worker cannot start, the old worker and the API keep running.
   */
  reload(): Promise<void>;
}

/**
 * Starts Postgres, Temporal, one worker and the HTTP API on a data directory, and keeps them
 * running. Ends the processes of a killed stack first.
 *
 * @returns when the worker polls and the API listens
 * @throws StackBusyError when a stack runs on that directory; StackError when this one cannot
 *   start;
 *   ImportError `BadConfiguration`, before any process is started
 */
export async function startStack(options: StackOptions): Promise<OwnStack> {
  const directory = openDataDirectory(options.dataDir);
  const lock = await lockDataDirectory(directory.path);
  try {
    // Read first: otherwise the worker would report a mistake in it, after the servers have
    // started.
    readConfig(directory.config);
    const log = options.log ?? (() => undefined);
    const orphans = await stopOrphans(directory);
    if (orphans > 0) log(`Ended ${orphans} processes of a stack that was killed`);
    const ports = await choosePorts(directory.ports);
    const stack = new SupervisedStack({ ...options, log }, directory, lock, ports);
    await stack.start(options.signal ?? new AbortController().signal);
    return stack;
  } catch (error) {
    await lock.release();
    throw error;
  }
}

class SupervisedStack implements OwnStack {
  readonly addresses: StackAddresses;
  readonly directory: DataDirectory;
  readonly #temporalCli: string;
  readonly #log: (line: string) => void;
  readonly #lock: NameLock;
  readonly #ports: StackPorts;
  readonly #postgresServer: PostgresServer;
  readonly #record: StackRecord;
  /** In the order in which they were started. */
  readonly #programs: SupervisedProgram[] = [];
  #worker: SupervisedProgram | undefined;
  #api: SupervisedProgram | undefined;
  #digest: string | undefined;
  #reloading: Promise<void> = Promise.resolve();
  #rotation: NodeJS.Timeout | undefined;
  #configurationLooks: NodeJS.Timeout | undefined;
  #limits = DEFAULT_ROTATION;

  constructor(
    { temporalCli, log }: Required<Pick<StackOptions, "temporalCli" | "log">>,
    directory: DataDirectory,
    lock: NameLock,
    ports: StackPorts,
  ) {
    this.directory = directory;
    this.#temporalCli = temporalCli;
    this.#log = log;
    this.#lock = lock;
    this.#ports = ports;
    this.#postgresServer = new PostgresServer({
      directory: directory.postgres,
      port: ports.postgres,
      logFile: this.#logFile("postgres"),
      env: this.#mark,
    });
    this.addresses = {
      database_url: this.#postgresServer.url(DATABASE),
      temporal_address: `127.0.0.1:${ports.temporal}`,
      temporal_namespace: TEMPORAL_NAMESPACE,
      web_ui: `http://127.0.0.1:${ports.web_ui}`,
      api_url: `http://127.0.0.1:${ports.api}`,
      config: directory.config,
      data_dir: directory.path,
    };
    this.#record = new StackRecord(this.addresses, log);
  }

  async start(signal: AbortSignal): Promise<void> {
    try {
      this.#keepLogsShort();
      // Before the worker reads the file: a later change must be noticed.
      this.#digest = configDigest(this.directory.config);
      await this.#startServers(signal);
      await this.#saying("migrating the database", async () =>
        migrateStack(this.#workerOptions("migrate"), signal),
      );
      await this.#startWorker(signal);
      await this.#startApi(signal);
      this.#record.setState("ready");
      this.#watchConfiguration();
    } catch (error) {
      await this.stop();
      throw error;
    }
  }

  async reload(): Promise<void> {
    this.#reloading = this.#reloading.then(() => this.#reload());
    await this.#reloading;
  }

  async #reload(): Promise<void> {
    const { config } = this.directory;
    this.#digest = configDigest(config);
    try {
      this.#limits = readConfig(config).logging;
      this.#log("Restarting the worker with the changed configuration …");
      await this.#worker?.replace();
      await this.#api?.restart();
      this.#log("The worker runs with the changed configuration");
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      this.#log(`The worker keeps its configuration: ${reason}`);
    }
  }

  #watchConfiguration(): void {
    const file = new ChangingFile(this.directory.config);
    this.#configurationLooks = setInterval(() => {
      if (!file.mayHaveChanged()) return;
      // A change of comments only needs no restart.
      if (configDigest(this.directory.config) !== this.#digest) void this.reload();
    }, LOOK_AT_CONFIGURATION_EVERY_MS).unref();
  }

  #keepLogsShort(): void {
    this.#limits = readConfig(this.directory.config).logging;
    const rotation = new LogRotation(this.#log);
    this.#rotation = setInterval(() => {
      for (const name of STACK_PROGRAMS) rotation.rotate(this.#logFile(name), this.#limits);
      this.#record.catchUp();
    }, ROTATE_EVERY_MS).unref();
  }

  async stop(): Promise<void> {
    clearInterval(this.#configurationLooks);
    clearInterval(this.#rotation);
    this.#record.setState("stopping");
    for (const program of this.#programs.toReversed()) await program.stop();
    this.#record.remove();
    await this.#lock.release();
  }

  async #startServers(signal: AbortSignal): Promise<void> {
    const started = await Promise.allSettled([
      this.#startPostgres(signal),
      this.#startTemporal(signal),
    ]);
    for (const result of started) if (result.status === "rejected") throw result.reason;
  }

  async #startPostgres(signal: AbortSignal): Promise<void> {
    const server = this.#postgresServer;
    await this.#saying("creating the database's files", async () => server.prepare());
    signal.throwIfAborted();
    await this.#supervise("postgres", signal, {
      start: () => server.start(),
      isReady: async () => server.isReady(),
    });
    await server.ensureDatabase(DATABASE);
  }

  async #startTemporal(signal: AbortSignal): Promise<void> {
    await this.#supervise("temporal", signal, {
      start: () =>
        startTemporal({
          cli: this.#temporalCli,
          port: this.#ports.temporal,
          webUiPort: this.#ports.web_ui,
          databaseFile: this.directory.temporalDatabase,
          logFile: this.#logFile("temporal"),
          env: this.#mark,
        }),
      isReady: async () => isTemporalReady(this.addresses.temporal_address),
    });
  }

  async #startWorker(signal: AbortSignal): Promise<void> {
    this.#worker = await this.#supervise("worker", signal, {
      start: () =>
        startWorker(this.#workerOptions("worker"), (addresses) => {
          this.#record.setWorkerAddresses(addresses);
        }),
      isReady: (worker) => worker.isReady,
    });
  }

  async #startApi(signal: AbortSignal): Promise<void> {
    this.#api = await this.#supervise("api", signal, {
      start: () => startApi(this.#workerOptions("api"), this.#ports.api),
      isReady: (api) => api.isReady,
    });
  }

  async #supervise(
    name: StackProgram,
    signal: AbortSignal,
    how: {
      readonly start: () => Program;
      readonly isReady: (program: Program) => boolean | Promise<boolean>;
    },
  ): Promise<SupervisedProgram> {
    const program = new SupervisedProgram({
      ...how,
      onProcess: (process) => {
        this.#record.setProcess(name, process);
      },
      log: this.#log,
    });
    this.#programs.push(program);
    await this.#saying(`starting ${name}`, async () => program.start(signal));
    return program;
  }

  async #saying(what: string, work: () => Promise<void>): Promise<void> {
    await whileSaying(this.#log, what, work);
  }

  #workerOptions(name: string): WorkerOptions {
    return { addresses: this.addresses, logFile: this.#logFile(name), env: this.#mark };
  }

  #logFile(name: string): string {
    return join(this.directory.logs, `${name}.log`);
  }

  get #mark(): NodeJS.ProcessEnv {
    return { [STACK_MARK]: this.directory.path };
  }
}
