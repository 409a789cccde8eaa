import pino from "pino";
import type { LogLevel } from "../domain/log-level.ts";
import { redact } from "../domain/redact.ts";

/** Settings of the log of a program. */
export interface LogOptions {
  /** Lines of lower levels are not written. */
  readonly level: LogLevel;
  /** Passwords and keys that no line may contain. */
  readonly secrets: readonly string[];
  /** Takes a line with its newline. Default: stderr, written at once. */
  readonly write?: (line: string) => void;
}

/** Opens a log: one JSON object a line, with `level` as a word, `time` as ISO 8601 and `msg`. */
export function openLog({ level, secrets, write = writeToStderr() }: LogOptions): pino.Logger {
  const destination = {
    write: (line: string) => {
      write(redact(line, secrets));
    },
  };
  return pino(
    {
      level,
      timestamp: pino.stdTimeFunctions.isoTime,
      formatters: { level: (label) => ({ level: label }) },
    },
    destination,
  );
}

/**
 * Written at once: a line that waits in a buffer is lost with the process that it would explain.
 */
function writeToStderr(): (line: string) => void {
  const stderr = pino.destination({ fd: 2, sync: true });
  return (line) => {
    stderr.write(line);
  };
}
