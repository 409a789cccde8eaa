import { IMPORT_FAILURES } from "../domain/import-failure.ts";
import type { End } from "./import-event.ts";

/** Exit code of a command whose user left an import before its end. The import continues. */
const LEFT_EXIT_CODE = 6;

/**
 * Sets the exit code of this process for an end other than a failure. If a command has several
 * parts, the worst end decides: `left` is worse than `waiting`. A failure of the command is worse
 * than both, and sets its own code later.
 */
export function exitWith(end: End): void {
  const code = codeOf(end);
  if (code > Number(process.exitCode ?? 0)) process.exitCode = code;
}

function codeOf(end: End): number {
  if (end === "left") return LEFT_EXIT_CODE;
  return end === "waiting" ? IMPORT_FAILURES.NotAcceptedYet.exitCode : 0;
}
