import { execFile, spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import type { FileHandle } from "node:fs/promises";
import type { Readable, Writable } from "node:stream";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";
import { hasErrorCode, isMachineError } from "../bytes/system-error.ts";
import { ImportError } from "../domain/import-failure.ts";

/** The resources that a program may use. Above them, the kernel refuses a call or kills it. */
export interface ProgramLimits {
  /** Address space, in bytes. */
  readonly memoryBytes: number;
  /** Processor time, in seconds. */
  readonly cpuSeconds: number;
  /** Size of a file that it writes, in bytes; 0: it writes none. Pipes do not count. */
  readonly fileBytes: number;
}

/** A program that reads untrusted bytes. */
export interface LimitedProgram {
  /** Its name on `PATH`, or its path. */
  readonly command: string;
  readonly arguments: readonly string[];
  readonly limits: ProgramLimits;
  /** Kills it and the processes that it started. */
  readonly signal: AbortSignal;
  /**
   * Files that it opens as `/proc/self/fd/3`, `/proc/self/fd/4`, …: exactly these files, even if
   * their names now lead to others.
   */
  readonly files?: readonly FileHandle[];
}

/** The end of a program. */
export interface ProgramEnding {
  readonly exitCode: number | null;
  /** The signal that killed it, such as `SIGXCPU`. */
  readonly killedBy: NodeJS.Signals | null;
  /** Its error output: the first KiB. */
  readonly stderr: string;
}

/** A program that runs between two files. */
export interface RunningFilter {
  /** Resolves when it has ended and its output was read. */
  readonly ended: Promise<ProgramEnding>;
  /** Kills it and the processes that it started, at once. */
  kill(): void;
}

/** A program that runs between two pipes. */
export interface RunningProgram extends RunningFilter {
  readonly stdin: Writable;
  readonly stdout: Readable;
}

const KEPT_STDERR_BYTES = 1024;

/**
 * Runs the program only if its parent still lives. A parent that died between the fork and the
 * request to die with it would leave the program running. `$0` is the parent's id.
 */
const UNLESS_ORPHANED = '[ "$PPID" = "$0" ] && exec "$@"';

/**
 * Starts a program in a process group of its own, with limits, without the worker's environment,
 * and without a network where that is allowed. The kernel kills it when this process dies.
 *
 * Each of the programs that limit it replaces itself by the next one, so that the started process
 * becomes the program itself.
 *
 * @throws the signal's reason when it is aborted already
 * @throws ImportError `BadConfiguration` when the programs that limit it are missing; retried:
 *   `TransformUnavailable` when the machine cannot start another program now
 */
export async function startLimited(program: LimitedProgram): Promise<RunningProgram> {
  const { child, ...running } = await launch(program, "pipe", "pipe");
  const { stdin, stdout } = child as ChildProcess & { stdin: Writable; stdout: Readable };
  // A program that ends early closes its input. Its exit code shows the reason.
  stdin.on("error", () => undefined);
  return { ...running, stdin, stdout };
}

/**
 * Starts a program as {@link startLimited} does, but between two files: no byte passes through this
 * process. The program begins at the positions of these open files, and moves them.
 */
export async function startFilter(
  program: LimitedProgram,
  { input, output }: { readonly input: FileHandle; readonly output: FileHandle },
): Promise<RunningFilter> {
  return launch(program, input.fd, output.fd);
}

async function launch(
  program: LimitedProgram,
  input: "pipe" | number,
  output: "pipe" | number,
): Promise<RunningFilter & { readonly child: ChildProcess }> {
  const isolation = await networkIsolation();
  program.signal.throwIfAborted();
  const [command = "setpriv", ...args] = [...isolation, ...commandLine(program)];
  const files = program.files ?? [];
  const child = await spawned(command, args, [input, output, "pipe", ...files.map(({ fd }) => fd)]);
  const kill = (): void => {
    killGroup(child);
  };
  program.signal.addEventListener("abort", kill, { once: true });
  // A listener is not called for an abort that came while the program was spawned.
  if (program.signal.aborted) kill();
  const ended = endOf(child).finally(() => {
    program.signal.removeEventListener("abort", kill);
  });
  // It may fail before it is awaited, which must not count as an unhandled rejection.
  ended.catch(() => undefined);
  return { child, ended, kill };
}

/**
 * Starts a process.
 *
 * @throws ImportError `BadConfiguration`, `TransformUnavailable`
 */
async function spawned(
  command: string,
  args: readonly string[],
  stdio: ("pipe" | number)[],
): Promise<ChildProcess & { readonly stderr: Readable }> {
  try {
    const child = spawn(command, args, {
      stdio,
      detached: true,
      // The program gets none of the worker's secrets. One arena for malloc: each further one takes
      // 64 MiB of the address space, and uses little of it.
      // eslint-disable-next-line no-restricted-properties -- Finds the program.
      env: { PATH: process.env["PATH"], LC_ALL: "C", MALLOC_ARENA_MAX: "1" },
    });
    // A process without an id did not start, and may have no pipes: its error follows.
    if (child.pid === undefined) throw await new Promise((resolve) => child.once("error", resolve));
    return child as ChildProcess & { stderr: Readable };
  } catch (error) {
    throw startFailure(error);
  }
}

function startFailure(error: unknown): unknown {
  if (hasErrorCode(error, "ENOENT", "EACCES")) return toolMissing(error);
  if (!isMachineError(error)) return error;
  return new ImportError("TransformUnavailable", `Cannot start a program: ${error.message}`, {
    cause: error,
    hint: "Let this machine run more processes, open more files or use more memory; the step is retried automatically.",
  });
}

/**
 * The reason why a program cannot run here; undefined when it can.
 *
 * @param command - its name or path
 * @param packageName - the Debian package that contains it
 */
export async function whyNotRunnable(
  command: string,
  packageName: string,
): Promise<string | undefined> {
  try {
    const { exitCode, stderr } = await askVersion(command);
    if (exitCode === 0) return undefined;
    const reason = stderr.trim().split("\n").at(-1);
    return `"${command}" does not run (${reason ?? ""}); the Debian package ${packageName} contains it`;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    return `programs cannot be limited (${reason}); the Debian package util-linux contains setpriv and prlimit`;
  }
}

const LONGEST_VERSION = 200;

/** The name and version of a program, as it prints them; undefined if it prints none. */
export async function versionOf(command: string): Promise<string | undefined> {
  try {
    const { exitCode, stdout } = await askVersion(command);
    // zstd puts stars around its line.
    const [line = ""] = stdout.replaceAll("*", "").trim().split("\n");
    return exitCode === 0 && line !== "" ? line.slice(0, LONGEST_VERSION) : undefined;
  } catch {
    return undefined;
  }
}

async function askVersion(command: string): Promise<ProgramEnding & { readonly stdout: string }> {
  const running = await startLimited({
    command,
    arguments: ["--version"],
    limits: { memoryBytes: 1024 ** 3, cpuSeconds: 10, fileBytes: 0 },
    signal: AbortSignal.timeout(20_000),
  });
  const [stdout, ending] = await Promise.all([text(running.stdout), running.ended]);
  return { ...ending, stdout };
}

function commandLine({ command, arguments: args, limits }: LimitedProgram): readonly string[] {
  const { memoryBytes, cpuSeconds, fileBytes } = limits;
  return [
    // `setpriv` runs after `unshare`: a change of credentials would make the kernel forget the
    // request to kill the program with its parent.
    ...["setpriv", "--no-new-privs", "--pdeathsig", "KILL", "--"],
    ...["sh", "-c", UNLESS_ORPHANED, String(process.pid)],
    ...["prlimit", `--as=${memoryBytes}`, `--fsize=${fileBytes}`, "--core=0", "--nofile=64"],
    // The lower limit sends SIGXCPU, which shows the reason, and the upper one SIGKILL.
    ...[`--cpu=${cpuSeconds}:${cpuSeconds + 5}`, "--"],
    ...[command, ...args],
  ];
}

async function endOf(child: ChildProcess & { readonly stderr: Readable }): Promise<ProgramEnding> {
  let stderr = Buffer.alloc(0);
  child.stderr.on("data", (chunk: Buffer) => {
    // All of it is read, but only the start is kept: a full pipe would block the program.
    stderr = Buffer.concat([stderr, chunk.subarray(0, KEPT_STDERR_BYTES - stderr.length)]);
  });
  return new Promise((resolve, reject) => {
    child.once("error", reject);
    child.once("close", (exitCode, killedBy) => {
      resolve({ exitCode, killedBy, stderr: stderr.toString() });
    });
  });
}

function toolMissing(error: unknown): ImportError {
  return new ImportError(
    "BadConfiguration",
    `Cannot limit a program: ${error instanceof Error ? error.message : String(error)}`,
    {
      cause: error,
      hint: "Install the Debian package util-linux, which contains setpriv and prlimit.",
    },
  );
}

function killGroup(child: ChildProcess): void {
  // Only a process that Node has not yet waited for still has its id. Later, the id may belong to
  // another process.
  if (child.pid === undefined || child.exitCode !== null || child.signalCode !== null) return;
  try {
    process.kill(-child.pid, "SIGKILL");
  } catch {
    // The group does not exist yet, or no longer.
    child.kill("SIGKILL");
  }
}

let isolation: Promise<readonly string[]> | undefined;

/**
 * The command that starts a program without a network, in a network namespace of its own. A user
 * other than root can create one only inside a user namespace. Empty if the machine allows neither.
 */
async function networkIsolation(): Promise<readonly string[]> {
  isolation ??= firstThatRuns([
    ["unshare", "--net", "--"],
    ["unshare", "--user", "--map-current-user", "--net", "--"],
  ]);
  return isolation;
}

async function firstThatRuns(
  candidates: readonly (readonly [string, ...string[]])[],
): Promise<readonly string[]> {
  for (const [command, ...args] of candidates) {
    const runs = await promisify(execFile)(command, [...args, "true"], { timeout: 10_000 }).then(
      () => true,
      () => false,
    );
    if (runs) return [command, ...args];
  }
  return [];
}
