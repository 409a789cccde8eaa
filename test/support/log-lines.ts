import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";

/** One line of a worker's log. */
export interface LogLine {
  readonly level: string;
  readonly time: string;
  readonly msg: string;
  readonly [field: string]: unknown;
}

/**
 * The lines of a worker's log; each must be a JSON object with a level, a time and a message, must
 * describe its error, and must not contain a secret.
 *
 * @param secrets - what no line may contain
 */
export function logLines(text: string, secrets: readonly string[] = []): LogLine[] {
  for (const secret of secrets) expect(text).not.toContain(secret);
  // The query of a URL may be a secret; statements and their parameters are.
  expect(text).not.toMatch(/:\/\/[^\s"\\]*\?(?!\[hidden\])[^\s"\\]|Failed query/);
  return text
    .split("\n")
    .filter((line) => line !== "")
    .map((line) => {
      const parsed = JSON.parse(line) as LogLine;
      expect(parsed, line).toMatchObject({
        level: expect.stringMatching(/^(trace|debug|info|warn|error|fatal)$/) as string,
        time: expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string,
        msg: expect.stringMatching(/./) as string,
      });
      if ("error" in parsed) {
        expect(parsed["error"], line).toMatchObject({
          message: expect.stringMatching(/./) as string,
        });
      }
      return parsed;
    });
}

/**
 * Checks the log of the worker of a stack, with what its stack file and key file hold as the
 * secrets.
 */
export function checkWorkerLog(dataDir: string, databaseUrl: string): LogLine[] {
  const log = join(dataDir, "logs", "worker.log");
  if (!existsSync(log)) return [];
  const keyFile = join(dataDir, "secrets.key");
  const key = existsSync(keyFile) ? [readFileSync(keyFile, "utf8").trim()] : [];
  return logLines(readFileSync(log, "utf8"), [new URL(databaseUrl).password, ...key]);
}
