import { z } from "zod";
import { ImportError } from "../domain/import-failure.ts";
import { LOG_LEVELS, type LogLevel } from "../domain/log-level.ts";
import { bytes } from "./quantities.ts";

/** The section `logging`. @internal */
export const logging = z
  .strictObject({
    level: z.enum(LOG_LEVELS).default("info").meta({
      description:
        "The least important level that a worker and the API log. `IMAGE_IMPORT_LOG_LEVEL` and `--log-level` take precedence.",
    }),
    // Only a stack rotates logs: the stderr of another worker belongs to the program that started
    // it.
    max_size: bytes.default(16 * 1024 * 1024).meta({
      description: "`npm start` rotates a log that is larger.",
    }),
    keep: z.int().min(1).max(100).default(5).meta({
      description: "The number of rotated logs that `npm start` keeps, of each process.",
    }),
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
  throw new ImportError(
    "BadConfiguration",
    `Cannot log at level "${name}": there is no such level`,
    {
      hint: `Set --log-level or IMAGE_IMPORT_LOG_LEVEL to one of ${LOG_LEVELS.join(", ")}.`,
    },
  );
}
