import { spawn, type ChildProcess } from "node:child_process";
import { closeSync, openSync, readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { IMPORT_FAILURES, isImportFailureCode } from "../domain/import-failure.ts";
import { rotateIfLong } from "./log-rotation.ts";
import { findProcess, type LocalProcess } from "../processes/process-table.ts";
import { stopProcess, type StopOptions } from "../processes/stop-process.ts";
import { StackError } from "./stack-error.ts";

// Restarts append to one log. A stack looks at its logs while its programs run, by its own limits.
const LOG_LIMITS = { maxSizeBytes: 16 * 1024 * 1024, keep: 5 };

/** The failure that a program of this package reported before it ended. */
export interface ReportedFailure {
  readonly code: string;
  readonly message: string;
  /** The way out. */
  readonly hint: string;
}

/** A program to run, and the way to end it. */
export interface ProgramOptions {
  /** Its name in messages: `postgres`, `worker`. */
  readonly name: string;
  /** The program and its arguments. */
  readonly command: readonly [string, ...string[]];
  /** Its complete environment. */
  readonly env: NodeJS.ProcessEnv;
  /** The file to which its stdout and stderr are appended. */
  readonly logFile: string;
  /** The way to end it. */
  readonly stop: StopOptions;
  /** Opens Node's channel for messages to it. Default: false. */
  readonly hasChannel?: boolean;
  /** Takes the message with which it reports through its channel that it is ready. */
  readonly onReady?: (message: object) => void;
}

/**
 * The end of a program: `exit code 1`, `signal SIGKILL`, or the reason why it could not be started.
 */
export type ProgramEnd = string;

/**
 * A program that was started as a process of its own session: a Ctrl-C in the terminal does not
 * reach it, and it keeps running if this process is killed.
 */
export class Program {
  readonly name: string;
  readonly logFile: string;
  /** Resolves when the program has ended, never rejects. */
  readonly ended: Promise<ProgramEnd>;
  readonly #child: ChildProcess;
  readonly #stop: StopOptions;
  readonly #identity: LocalProcess | undefined;
  #isReady = false;
  #failure: ReportedFailure | undefined;

  /** Starts the program. A failure to start is a result of {@link Program.ended}. */
  constructor(options: ProgramOptions) {
    this.name = options.name;
    this.logFile = options.logFile;
    this.#stop = options.stop;
    this.#child = spawnDetached(options);
    this.#identity = this.#child.pid === undefined ? undefined : findProcess(this.#child.pid);
    this.ended = new Promise((resolve) => {
      this.#child.once("error", (error) => {
        resolve(error.message);
      });
      this.#child.once("exit", (code, signal) => {
        const end = signal === null ? `exit code ${code ?? 0}` : `signal ${signal}`;
        // Its last messages may arrive after its end.
        if (!this.#child.connected) resolve(end);
        else
          this.#child.once("disconnect", () => {
            resolve(end);
          });
      });
    });
    this.#child.on("message", (message) => {
      if (saysReady(message)) {
        this.#isReady = true;
        options.onReady?.(message);
      }
      this.#failure = failureIn(message) ?? this.#failure;
    });
  }

  /** Its process, or undefined if it could not be started. */
  get process(): LocalProcess | undefined {
    return this.#identity;
  }

  /** True once it has sent `{ ready: true }` through its channel. */
  get isReady(): boolean {
    return this.#isReady;
  }

  /** The failure that it sent as `{ failed: … }` through its channel. */
  get failure(): ReportedFailure | undefined {
    return this.#failure;
  }

  /** Ends it: sends the signal, waits, kills. Returns when it has ended. */
  async stop(): Promise<void> {
    if (this.#identity) await stopProcess(this.#identity, this.#stop);
    if (this.#child.pid !== undefined) await this.ended;
  }
}

/**
 * Waits until a program is ready.
 *
 * @param isReady - a rejection means "not yet"
 * @throws StackError with the last lines of its log, if it ends before, or is not ready in time
 */
export async function waitUntilReady(
  program: Program,
  isReady: () => boolean | Promise<boolean>,
  { limitMs = 60_000, signal }: { readonly limitMs?: number; readonly signal?: AbortSignal } = {},
): Promise<void> {
  let end: ProgramEnd | undefined;
  void program.ended.then((how) => (end = how));
  const deadline = performance.now() + limitMs;
  while (!(await isReadyNow(isReady))) {
    signal?.throwIfAborted();
    if (end !== undefined) throw notReady(program, `it ended: ${end}`);
    if (performance.now() > deadline)
      throw notReady(program, `it was not ready within ${limitMs / 1000} s`);
    await sleep(50);
  }
}

async function isReadyNow(isReady: () => boolean | Promise<boolean>): Promise<boolean> {
  try {
    return await isReady();
  } catch {
    return false;
  }
}

function notReady(program: Program, why: string): StackError {
  if (program.failure !== undefined)
    return reportedError(`Cannot start ${program.name}`, program.failure);
  const lastLines = readLastLines(program.logFile);
  return new StackError(
    `Cannot start ${program.name}: ${why}. The end of its log (${program.logFile}):\n${lastLines}`,
  );
}

/** An error with the message and the hint that a program reported. */
export function reportedError(what: string, { code, message, hint }: ReportedFailure): StackError {
  const isPermanent = isImportFailureCode(code) && !IMPORT_FAILURES[code].retryable;
  return new StackError(`${what}: ${message}\n${hint}`, { isPermanent });
}

/** The last 15 lines of a log, for an error message. */
export function readLastLines(logFile: string): string {
  return readFileSync(logFile, "utf8").trimEnd().split("\n").slice(-15).join("\n");
}

function spawnDetached(options: ProgramOptions): ChildProcess {
  try {
    rotateIfLong(options.logFile, LOG_LIMITS);
  } catch {
    // The program runs with a log that is too long. The stack looks at it, too, and reports it.
  }
  const log = openSync(options.logFile, "a", 0o600);
  try {
    const [command, ...args] = options.command;
    return spawn(command, args, {
      env: options.env,
      detached: true,
      stdio: ["ignore", log, log, ...(options.hasChannel === true ? (["ipc"] as const) : [])],
    });
  } finally {
    closeSync(log);
  }
}

function failureIn(message: unknown): ReportedFailure | undefined {
  if (typeof message !== "object" || message === null || !("failed" in message)) return undefined;
  return message.failed as ReportedFailure;
}

function saysReady(message: unknown): message is object {
  return (
    typeof message === "object" && message !== null && "ready" in message && message.ready === true
  );
}
