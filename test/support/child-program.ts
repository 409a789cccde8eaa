import { spawn, type ChildProcessByStdio } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import type { Readable, Writable } from "node:stream";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { onTestFinished } from "vitest";
import type { ProcessIdentity } from "../../src/processes/process-identity.ts";
import { waitForStandstill } from "./standstill.ts";

const PROGRAMS = fileURLToPath(new URL("programs", import.meta.url));
const ROOT = fileURLToPath(new URL("../..", import.meta.url));

type Child = ChildProcessByStdio<Writable, Readable, Readable>;

/** The result of a program. */
export interface ProgramResult {
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Settings of {@link runProgram}. */
export interface ProgramOptions {
  readonly arguments?: readonly string[];
  /** Variables beside those of this process. */
  readonly env?: NodeJS.ProcessEnv;
}

/** The path of a file of `test/support/programs`. */
export function programPath(name: string): string {
  return join(PROGRAMS, name);
}

/**
 * Runs a program of `test/support/programs` in a process of its own. It may import the build, which
 * the project needs then.
 */
export async function runProgram(
  name: string,
  options: ProgramOptions = {},
): Promise<ProgramResult> {
  return resultOf(start(name, options));
}

function start(name: string, { arguments: given = [], env = {} }: ProgramOptions): Child {
  return spawn(process.execPath, [programPath(name), ...given], {
    env: { ...process.env, ...env },
    cwd: ROOT,
    stdio: ["pipe", "pipe", "pipe"],
  });
}

async function resultOf(child: Child): Promise<ProgramResult> {
  const [stdout, stderr] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "exit"),
  ]);
  return { exitCode: child.exitCode, stdout, stderr };
}

/** A program that runs beside the test, which stops, continues and kills it. */
export class ChildProgram {
  readonly #child: Child;
  readonly #result: Promise<ProgramResult>;

  private constructor(child: Child) {
    this.#child = child;
    this.#result = resultOf(child);
  }

  /** Starts it, as {@link runProgram} does. It is killed when the test ends. */
  static start(name: string, options: ProgramOptions = {}): ChildProgram {
    const program = new ChildProgram(start(name, options));
    onTestFinished(() => program.kill());
    return program;
  }

  /** Lets a program continue that waits for its stdin. */
  release(): void {
    this.#child.stdin.write("\n");
  }

  /** Makes it stand still (SIGSTOP), and waits until all of its threads do. */
  async stop(): Promise<void> {
    this.#child.kill("SIGSTOP");
    await waitForStandstill(this.#child.pid);
  }

  /** Lets it continue (SIGCONT). */
  continue(): void {
    this.#child.kill("SIGCONT");
  }

  /** Kills it at once (SIGKILL), and waits until it is gone. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#result;
  }

  /** Its result, once it has ended. */
  async result(): Promise<ProgramResult> {
    return this.#result;
  }
}

/** A process that runs until it is killed. */
export interface OtherProcess {
  readonly identity: ProcessIdentity;
  /** Kills it at once, and waits until it is gone. */
  kill(): Promise<void>;
}

/** Starts another process that does nothing but live. */
export async function startOtherProcess(): Promise<OtherProcess> {
  const child = start("print-identity.mjs", {});
  const [line] = (await once(child.stdout, "data")) as [Buffer];
  const kill = async (): Promise<void> => {
    if (child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  };
  return { identity: JSON.parse(line.toString()) as ProcessIdentity, kill };
}

/** The identity of a process that has really been killed. */
export async function deadProcess(): Promise<ProcessIdentity> {
  const other = await startOtherProcess();
  await other.kill();
  return other.identity;
}
