import { spawn, type ChildProcessByStdio } from "node:child_process";
import { once } from "node:events";
import type { Readable } from "node:stream";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import { onTestFinished, vi } from "vitest";
import { eventDocument } from "../../src/cli/documents/event-document.ts";
import { PATIENCE } from "./patience.ts";

/** The program of `image-import`, as built. */
export const BUILT_COMMAND_LINE = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

type Child = ChildProcessByStdio<null, Readable, Readable>;

/** The result of a command. */
export interface CommandResult {
  /** Null when a signal ended it. */
  readonly exitCode: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** The result of a command with `--json`. */
export interface JsonCommandResult {
  /** Null when a signal ended it. */
  readonly exitCode: number | null;
  /** The one document on stdout; undefined when there was none. */
  readonly answer: unknown;
  /** The one document on stderr, `{ code, message, hint }`; undefined when there was none. */
  readonly failure: unknown;
}

/** The result of a command with `--json-lines`. */
export interface JsonLinesResult {
  /** Null when a signal ended it. */
  readonly exitCode: number | null;
  readonly lines: readonly Readonly<Record<string, unknown>>[];
  /** The one document on stderr; undefined when there was none. */
  readonly failure: unknown;
}

/** Settings of a {@link CommandLine}. */
export interface CommandLineOptions {
  /** Given as `--data-dir`. Default: none. */
  readonly dataDir?: string;
  /**
   * Variables of the service that are set. Default: none; those of the test's own environment never
   * are.
   */
  readonly env?: NodeJS.ProcessEnv;
  /** Put before the command, such as `setpriv` and its arguments. */
  readonly prefix?: readonly string[];
}

/** Runs `image-import` as processes of their own. Needs the build. */
export class CommandLine {
  readonly #options: CommandLineOptions;

  constructor(options: CommandLineOptions) {
    this.#options = options;
  }

  /** Runs a command to its end. The result lacks its {@link withoutWordOfWaiting note}. */
  async run(...args: readonly string[]): Promise<CommandResult> {
    const result = await this.runVerbatim(...args);
    return { ...result, stderr: withoutWordOfWaiting(result.stderr) };
  }

  /** Runs a command to its end, and keeps every line that it writes. */
  async runVerbatim(...args: readonly string[]): Promise<CommandResult> {
    return resultOf(this.#spawn(args));
  }

  /** Runs a command with `--json` to its end. */
  async json(...args: readonly string[]): Promise<JsonCommandResult> {
    return jsonResultOf(this.#spawn([...args, "--json"]));
  }

  /** Runs a command with `--json-lines` to its end. */
  async jsonLines(...args: readonly string[]): Promise<JsonLinesResult> {
    return linesOf(await this.runVerbatim(...args, "--json-lines"));
  }

  /**
   * The answer of a command that must end well. @throws Error with what it said, when it does not
   */
  async answer(...args: readonly string[]): Promise<unknown> {
    const { exitCode, answer, failure } = await this.json(...args);
    if (exitCode === 0) return answer;
    throw new Error(
      `image-import ${args.join(" ")} ended with ${String(exitCode)}: ${JSON.stringify(failure)}`,
    );
  }

  /**
   * Starts a command with `--json` that runs beside the test. What still runs at the test's end is
   * killed.
   */
  start(...args: readonly string[]): RunningCommand {
    const command = new RunningCommand(this.#spawn([...args, "--json"]));
    onTestFinished(() => command.kill());
    return command;
  }

  /**
   * Starts a command for people that runs beside the test. What still runs at the test's end is
   * killed.
   */
  open(...args: readonly string[]): ShownCommand {
    const command = new ShownCommand(this.#spawn(args));
    onTestFinished(() => command.kill());
    return command;
  }

  #spawn(args: readonly string[]): Child {
    const { dataDir, env, prefix = [] } = this.#options;
    const own = dataDir === undefined ? args : [...args, "--data-dir", dataDir];
    const [program = "", ...rest] = [...prefix, process.execPath, BUILT_COMMAND_LINE, ...own];
    return spawn(program, rest, {
      env: { ...bareEnvironment(), ...env },
      stdio: ["ignore", "pipe", "pipe"],
    });
  }
}

/** A command that runs beside the test. */
export class RunningCommand {
  readonly #child: Child;
  readonly #result: Promise<JsonCommandResult>;

  constructor(child: Child) {
    this.#child = child;
    this.#result = jsonResultOf(child);
    // The test may not want the result, and a killed command has none.
    this.#result.catch(() => undefined);
  }

  /** Its result, once it has ended. */
  async result(): Promise<JsonCommandResult> {
    return this.#result;
  }

  /** Ctrl-C. */
  interrupt(): void {
    this.#child.kill("SIGINT");
  }

  /** Kills it at once (SIGKILL), and waits until it is gone. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#result.catch(() => undefined);
  }
}

/** A command for people that runs beside the test. */
export class ShownCommand {
  readonly #child: Child;
  readonly #result: Promise<CommandResult>;
  #stdout = "";
  #stderr = "";

  constructor(child: Child) {
    this.#child = child;
    child.stderr.setEncoding("utf8");
    child.stderr.on("data", (chunk: string) => (this.#stderr += chunk));
    child.stdout.setEncoding("utf8");
    child.stdout.on("data", (chunk: string) => (this.#stdout += chunk));
    this.#result = resultOf(child);
    // The test may not want the result.
    this.#result.catch(() => undefined);
  }

  /** Waits until it has written this text to stderr. */
  async shows(words: string): Promise<void> {
    await vi.waitUntil(() => this.#stderr.includes(words), PATIENCE);
  }

  /** Waits until it has written this text to stdout. */
  async writes(words: string): Promise<void> {
    await vi.waitUntil(() => this.#stdout.includes(words), PATIENCE);
  }

  /** Its result, once it has ended, without its {@link withoutWordOfWaiting note}. */
  async result(): Promise<CommandResult> {
    const result = await this.#result;
    return { ...result, stderr: withoutWordOfWaiting(result.stderr) };
  }

  /** Ctrl-C. */
  interrupt(): void {
    this.#child.kill("SIGINT");
  }

  /** Kills it at once (SIGKILL), and waits until it is gone. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#result;
  }
}

/**
 * Without what a person set for another stack: the service is found by what a test says, and by
 * nothing else.
 */
export function bareEnvironment(): NodeJS.ProcessEnv {
  const isOfService = /^(DATABASE_URL|TEMPORAL_.*|IMAGE_IMPORT_.*)$/;
  return Object.fromEntries(
    Object.entries(process.env).filter(([name]) => !isOfService.test(name)),
  );
}

async function resultOf(child: Child): Promise<CommandResult> {
  const [stdout, stderr] = await Promise.all([
    text(child.stdout),
    text(child.stderr),
    once(child, "close"),
  ]);
  return { exitCode: child.exitCode, stdout, stderr };
}

const WORD_OF_WAITING =
  /^([^:\n]+: )?waiting for a worker( to [a-z ]+)?; `image-import doctor` shows whether one runs(\n|$)/gm;

/**
 * An output without the line that a command writes if its answer takes more than 2.5 s: on a busy
 * machine any command may write it.
 */
export function withoutWordOfWaiting(output: string): string {
  return output.replace(WORD_OF_WAITING, "");
}

/**
 * Reads the lines of a command with `--json-lines`, without the note that it writes if its answer
 * takes more than 2.5 s. @throws if one does not keep its schema
 */
export function linesOf({ exitCode, stdout, stderr }: CommandResult): JsonLinesResult {
  const lines = stdout
    .split("\n")
    .slice(0, -1)
    .map((line) => documentOf(line) as Readonly<Record<string, unknown>>);
  for (const line of lines) eventDocument.parse(line);
  return {
    exitCode,
    lines: lines.filter(
      ({ event, message }) => event !== "note" || withoutWordOfWaiting(String(message)) !== "",
    ),
    failure: documentOf(stderr),
  };
}

async function jsonResultOf(child: Child): Promise<JsonCommandResult> {
  const { exitCode, stdout, stderr } = await resultOf(child);
  return { exitCode, answer: documentOf(stdout), failure: documentOf(stderr) };
}

function documentOf(output: string): unknown {
  if (output === "") return undefined;
  try {
    return JSON.parse(output);
  } catch (cause) {
    throw new Error(`Not one JSON document: ${output}`, { cause });
  }
}
