import { z } from "zod";
import { ImportError } from "../domain/import-failure.ts";
import { bytes } from "./quantities.ts";

/** How much a worker logs: lines of this level and of those behind it. */
export const LOG_LEVELS = ["trace", "debug", "info", "warn", "error"] as const;

/** A level of {@link LOG_LEVELS}. */
export type LogLevel = (typeof LOG_LEVELS)[number];

/** The section `logging`. */
export const logging = z
  .strictObject({
    level: z.enum(LOG_LEVELS).default("info"),
    // Of the logs of a stack; what a worker writes to stderr elsewhere is kept by whatever started
    // it.
    max_size: bytes.default(16 * 1024 * 1024),
    keep: z.int().min(1).max(100).default(5),
  })
  .prefault({});

/**
 * The level that `--log-level` or `IMAGE_IMPORT_LOG_LEVEL` names.
 *
 * @param option - the value of `--log-level`
 * @returns undefined when neither names one
 * @throws ImportError `BadConfiguration`
 */
export function namedLogLevel(
  option: string | undefined,
  env: NodeJS.ProcessEnv = process.env,
): LogLevel | undefined {
  const name = option ?? env["IMAGE_IMPORT_LOG_LEVEL"] ?? "";
  if (name === "") return undefined;
  const level = LOG_LEVELS.find((each) => each === name.toLowerCase());
  if (level !== undefined) return level;
  throw new ImportError("BadConfiguration", `Cannot log at level "${name}": there is none`, {
    hint: `Set --log-level or IMAGE_IMPORT_LOG_LEVEL to one of ${LOG_LEVELS.join(", ")}.`,
  });
}
