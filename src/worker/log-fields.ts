import { ApplicationFailure } from "@temporalio/common";
import { readFailureDetails } from "../domain/failure-details.ts";
import { IMPORT_FAILURES, ImportError, isImportFailureCode } from "../domain/import-failure.ts";

// Enough for real chains of causes. A chain may be a circle, and the log line must end.
const DEEPEST_CAUSE = 8;
// Fields of the SDK that repeat another field.
const SUPERFLUOUS = ["namespace", "timestampNanos", "taskToken", "activityId", "isLocal"];
// The SDK has two names for the run.
const RENAMED: Readonly<Record<string, string>> = { workflowRunId: "run_id" };

/**
 * The fields of a log line: names as in our documents (`run_id`), errors as {@link errorFields}.
 */
export function logFields(meta: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const fields: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(meta)) {
    if (SUPERFLUOUS.includes(name) || value === undefined) continue;
    fields[RENAMED[name] ?? snakeCase(name)] = plain(value);
  }
  // The SDK's core describes its errors as texts.
  if (typeof fields["error"] === "string") fields["error"] = { message: fields["error"] };
  if (fields["error"] instanceof Object) fields["error"] = withCode(fields["error"], fields);
  const [, imageId] =
    /^image-(?:import|delete|remove-copy)\/([^/]+)/.exec(String(fields["workflow_id"])) ?? [];
  return imageId === undefined ? fields : { image_id: imageId, ...fields };
}

/**
 * Adds the code and the hint to an error of a workflow. The error arrives as a copy without its
 * type; the workflow logs both beside it.
 */
function withCode(error: object, { code, hint }: Readonly<Record<string, unknown>>): object {
  if ("code" in error || typeof code !== "string") return error;
  const { stack, ...rest } = error as Partial<ErrorFields>;
  const isBug = stack !== undefined && !isImportFailureCode(code);
  const wayOut = hint ?? (isImportFailureCode(code) ? IMPORT_FAILURES[code].hint : undefined);
  return {
    ...rest,
    code,
    ...(wayOut === undefined ? {} : { hint: wayOut }),
    ...(isBug ? { stack } : {}),
  };
}

/**
 * An error as a log line has it. It has no other properties of the error: they may hold statements
 * or requests.
 */
export interface ErrorFields {
  readonly name: string;
  /** The code of the table of failures; else that of Postgres, S3 or the system. */
  readonly code?: string;
  readonly message: string;
  readonly hint?: string;
  /** The store that a step was about. */
  readonly store?: string;
  /** Stack of a bug; failures of the table need none. */
  readonly stack?: string;
  readonly cause?: ErrorFields;
}

/** The fields of an error in a log line, with its causes. */
export function errorFields(error: Error, depth = 0): ErrorFields {
  const code = codeOf(error);
  const { hint, store } = wordsOf(error, code);
  const isKnown = isImportFailureCode(code);
  const { cause } = error;
  return {
    name: error.name,
    ...(code === undefined ? {} : { code }),
    message: error.message,
    ...(hint === undefined ? {} : { hint }),
    ...(store === undefined ? {} : { store }),
    ...(isKnown || depth > 0 || error.stack === undefined ? {} : { stack: error.stack }),
    ...(cause instanceof Error && depth < DEEPEST_CAUSE && !repeats(error, cause)
      ? { cause: errorFields(cause, depth + 1) }
      : {}),
  };
}

function codeOf(error: Error): string | undefined {
  if (error instanceof ApplicationFailure) return error.type ?? undefined;
  return "code" in error && typeof error.code === "string" ? error.code : undefined;
}

function wordsOf(
  error: Error,
  code: string | undefined,
): { readonly hint?: string; readonly store?: string } {
  const table = isImportFailureCode(code) ? { hint: IMPORT_FAILURES[code].hint } : {};
  if (error instanceof ImportError) return { hint: error.hint };
  if (!(error instanceof ApplicationFailure)) return table;
  const { hint, store } = readFailureDetails(error.details?.[0], code ?? "");
  return {
    ...table,
    ...(hint === undefined ? {} : { hint }),
    ...(store === undefined ? {} : { store }),
  };
}

/** True for a failure of Temporal that wraps our error and has the same message. */
function repeats(error: Error, cause: Error): boolean {
  return cause.message === error.message && cause.cause === undefined;
}

function plain(value: unknown): unknown {
  if (value instanceof Error) return errorFields(value);
  if (typeof value === "bigint") return String(value);
  return value;
}

function snakeCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}
