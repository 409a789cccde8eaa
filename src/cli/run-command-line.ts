import { CommanderError } from "commander";
import { IMPORT_FAILURES, ImportError } from "../domain/import-failure.ts";
import { renderFailure, shownFailure, UsageError } from "./failure.ts";
import { buildProgram } from "./program.ts";
import { json } from "./render.ts";

// A full disk, a quota, a limit on the size of files.
const NO_SPACE = ["ENOSPC", "EDQUOT", "EFBIG"];

/**
 * Runs one command, and sets the exit code of the process: 0 done, 1 failed or cancelled, 2 wrong
 * use, 3 not found, 4 conflict, 5 requested, and no worker has answered yet, 6 left before the end.
 *
 * @param args - the arguments after the name of the program
 */
export async function runCommandLine(args: readonly string[]): Promise<void> {
  const isJson = wantsJson(args);
  // Kept apart from what commander itself might write: with `--json` it becomes part of the
  // document.
  let shownText = "";
  const program = buildProgram((text) => {
    shownText += text;
  });
  try {
    await program.parseAsync(args, { from: "user" });
  } catch (error) {
    if (error instanceof CommanderError && error.exitCode === 0) {
      showText(error.code, shownText, isJson);
      return;
    }
    fail(withoutCommand(error), isJson);
  }
}

/**
 * Reports that the output of a command could not be written, unless a program has its failure
 * already.
 *
 * @param cause - the system's error
 */
export function reportLostAnswer(cause: NodeJS.ErrnoException, args: readonly string[]): void {
  const isJson = wantsJson(args);
  const hasFailed = [1, 2, 3, 4].includes(Number(process.exitCode ?? 0));
  const code = NO_SPACE.includes(cause.code ?? "") ? "NoSpace" : "UnusableFile";
  const lost = new ImportError(code, `Cannot write the answer: ${cause.message}`, {
    cause,
    hint: "Write it to another place. The command may have done its work: check that before you run it again.",
  });
  if (!hasFailed) process.exitCode = IMPORT_FAILURES[code].exitCode;
  if (!(hasFailed && isJson)) process.stderr.write(renderFailure(lost, isJson));
}

/** True if the answer is to be JSON. Does not use the parser: a wrong argument may make it fail. */
function wantsJson(args: readonly string[]): boolean {
  const end = args.indexOf("--");
  return (end === -1 ? args : args.slice(0, end)).some(
    (arg) => arg === "--json" || arg === "--json-lines",
  );
}

function showText(code: string, text: string, isJson: boolean): void {
  const name = code === "commander.version" ? "version" : "help";
  process.stdout.write(isJson ? json({ [name]: text.trimEnd() }) : text);
}

/** Commander answers a missing command with its help, and no message. */
function withoutCommand(error: unknown): unknown {
  if (!(error instanceof CommanderError) || error.code !== "commander.help") return error;
  return new UsageError(
    "no command is named",
    "Run `image-import --help`: it lists the commands. `image-import COMMAND --help` explains one.",
  );
}

function fail(error: unknown, isJson: boolean): void {
  const { exitCode, ...failure } = shownFailure(error);
  process.exitCode = exitCode;
  // A supervisor that opened a channel shows the failure once, in these words.
  process.send?.({ failed: failure });
  process.stderr.write(renderFailure(error, isJson));
}
