import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { withoutWordOfWaiting } from "../support/command-line.ts";

/** A command of a page, and the lines that it should print; a line `…` stands for any lines. */
export interface ShownCommand {
  readonly command: string;
  /** Undefined where the page shows no output. */
  readonly expected: readonly string[] | undefined;
  /** The number of its first line in the page. */
  readonly line: number;
}

/** A command that ran, with its end. */
export interface RanCommand extends ShownCommand {
  readonly exitCode: number;
  readonly output: string;
}

/** The commands of a block: each behind a `$`, or the complete block. */
export function commandsIn(block: {
  readonly language: string;
  readonly text: string;
  readonly line: number;
}): ShownCommand[] {
  if (block.language === "sh") {
    return [{ command: block.text.trimEnd(), expected: undefined, line: block.line }];
  }
  const commands: { command: string; expected: string[]; line: number }[] = [];
  block.text
    .trimEnd()
    .split("\n")
    .forEach((text, index) => {
      const last = commands.at(-1);
      if (text.startsWith("$ ")) {
        commands.push({ command: text.slice(2), expected: [], line: block.line + index });
      } else if (last === undefined) {
        throw new Error(`A block of commands begins with "${text}"`);
      } else if (last.command.endsWith("\\")) {
        last.command += `\n${text}`;
      } else {
        last.expected.push(text);
      }
    });
  return commands;
}

/**
 * Runs commands one after the other in one shell, so that later ones have the variables of earlier
 * ones. The output is kept beside the directory in which the shell works.
 */
export async function runInOneShell(
  commands: readonly ShownCommand[],
  { directory, env }: { readonly directory: string; readonly env: NodeJS.ProcessEnv },
): Promise<RanCommand[]> {
  const results = `${directory}.results`;
  mkdirSync(results);
  const script = commands.map(({ command }, index) => {
    const result = join(results, String(index));
    return `{ ${command}\n} > "${result}" 2>&1 < /dev/null; echo $? > "${result}.code"\n`;
  });
  const file = join(results, "script");
  writeFileSync(file, script.join(""));
  const shell = spawn("bash", [file], { cwd: directory, env, stdio: "inherit" });
  await once(shell, "close");
  return commands.map((command, index) => ({
    ...command,
    output: withoutWordOfWaiting(readFileSync(join(results, String(index)), "utf8")),
    exitCode: Number(readFileSync(join(results, `${String(index)}.code`), "utf8")),
  }));
}

/**
 * The first line of a page that a command did not print, or undefined. Ids, digests, times, sizes
 * that differ from run to run, and the width of columns do not count.
 */
export function firstMissing(ran: RanCommand): string | undefined {
  if (ran.expected === undefined) return undefined;
  const printed = ran.output.trimEnd().split("\n").map(comparable);
  let at = 0;
  let maySkip = false;
  for (const shown of ran.expected) {
    if (shown === "…") {
      maySkip = true;
      continue;
    }
    const pattern = patternOf(shown);
    const found = printed.findIndex((line, index) => index >= at && pattern.test(line));
    if (found === -1 || (!maySkip && found !== at)) return shown;
    at = found + 1;
    maySkip = false;
  }
  const isEnd = maySkip || at >= printed.length || printed.every((line) => line === "");
  return isEnd ? undefined : `(nothing after it, but it printed "${printed[at] ?? ""}")`;
}

/**
 * The lines of a page that an output does not have, in whatever order; see {@link firstMissing}.
 */
export function allMissing(shown: readonly string[], output: string): string[] {
  const printed = output.split("\n").map(comparable);
  return shown.filter(
    (line) => line !== "…" && !printed.some((each) => patternOf(line).test(each)),
  );
}

function patternOf(shown: string): RegExp {
  const escaped = comparable(shown)
    .split("…")
    .map((text) => text.replace(/[\\^$.*+?()[\]{}|]/g, "\\$&"));
  return new RegExp(`^${escaped.join(".*")}$`);
}

function comparable(line: string): string {
  return line
    .replace(/[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}/g, "<id>")
    .replace(/\b[0-9a-f]{32,}\b/g, "<digest>")
    .replace(/\b\d+(\.\d+)? (ms|s)\b/g, "<time>")
    .replace(/\s+/g, " ")
    .trim();
}
