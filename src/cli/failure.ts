import { CommanderError } from "commander";
import { showsStackTraces } from "../config/environment.ts";
import { IMPORT_FAILURES, ImportError, UnlistedFailure } from "../domain/import-failure.ts";
import { printableJson, printableLines } from "./printable.ts";
import { subjectOf, type Subject } from "./subject.ts";

/** Wrong use of a command. */
export class UsageError extends Error {
  /** The way out. */
  readonly hint: string;

  constructor(message: string, hint: string) {
    super(message);
    this.name = "UsageError";
    this.hint = hint;
  }
}

/**
 * The failure of an import by the command `import`, which made the image or continued the upload of
 * an earlier command. It reports whether the image was kept.
 */
export class FailedImport extends ImportError {
  readonly image_id: string;
  readonly image: "kept" | "removed";

  constructor(failure: ImportError, image_id: string, image: "kept" | "removed", hint: string) {
    super(failure.code, `Image "${image_id}" was not imported: ${failure.message}`, {
      cause: failure,
      hint,
      ...placeOf(failure),
    });
    this.image_id = image_id;
    this.image = image;
  }
}

/** One of several images or sources, whose part of a command failed. */
export interface FailedItem extends Subject {
  /** The file or URL, without secrets, for an import. */
  readonly source?: string;
  readonly failure: ShownFailure;
}

/** The failure of a command that was about several images, and failed for some of them. */
export class SeveralFailed extends Error {
  readonly failures: readonly FailedItem[];

  /** @param count - the number of all images of the command */
  constructor(failures: readonly FailedItem[], count: number) {
    const reasons = failures.map(
      ({ source, image_id: id, failure }) => `"${source ?? id ?? ""}": ${failure.message}`,
    );
    super(`${failures.length} of ${count} images failed: ${reasons.join("; ")}`);
    this.name = "SeveralFailed";
    this.failures = failures;
  }
}

/** A failure as the command line shows it. */
export interface ShownFailure {
  /**
   * Stable code word: one of `IMPORT_FAILURES`, `BadUsage`, the name of a failure of a worker that
   * is not in this table, `SeveralFailed` if several images failed for different reasons, or
   * `InternalError` for a bug of the command or of the API.
   */
  readonly code: string;
  readonly message: string;
  /** The way out. */
  readonly hint: string;
  /** 1 failed or cancelled, 2 wrong use, 3 not found, 4 conflict, 5 not answered yet. */
  readonly exitCode: 1 | 2 | 3 | 4 | 5;
  /** The step of the import that failed. */
  readonly step?: string;
  /** The store that the step was about. */
  readonly store?: string;
}

/** Describes an error for the user. */
export function shownFailure(error: unknown): ShownFailure {
  if (error instanceof ImportError) {
    const { code, message, hint } = error;
    const { exitCode } = IMPORT_FAILURES[code];
    return { code, message, hint, exitCode, ...placeOf(error) };
  }
  if (error instanceof UnlistedFailure) {
    const { code, message, hint } = error;
    return { code, message, hint, exitCode: 1, ...placeOf(error) };
  }
  if (error instanceof SeveralFailed) return severalFailed(error);
  if (error instanceof UsageError) return badUsage(error.message, error.hint);
  if (error instanceof CommanderError) {
    const message = error.message.replace(/^error: /, "");
    return badUsage(message, "Run `image-import --help`: it lists the commands.");
  }
  return {
    code: "InternalError",
    message: error instanceof Error ? error.message : String(error),
    hint: "This is a bug or an unforeseen fault. Set IMAGE_IMPORT_DEBUG=1 to see where.",
    exitCode: 1,
  };
}

export function placeOf({ step, store }: Pick<ImportError | UnlistedFailure, "step" | "store">) {
  return { ...(step === undefined ? {} : { step }), ...(store === undefined ? {} : { store }) };
}

/**
 * The failure of several images. Code and exit code are those of the images if all have the same;
 * otherwise they are `SeveralFailed` and 1.
 */
function severalFailed({ message, failures }: SeveralFailed): ShownFailure {
  const codes = new Set(failures.map(({ failure }) => failure.code));
  const exitCodes = new Set(failures.map(({ failure }) => failure.exitCode));
  const [exitCode = 1] = exitCodes;
  return {
    code: codes.size === 1 ? ([...codes][0] ?? "") : "SeveralFailed",
    message,
    hint: [...new Set(failures.map(({ failure }) => failure.hint))].join(" "),
    exitCode: exitCodes.size === 1 ? exitCode : 1,
  };
}

function badUsage(message: string, hint: string): ShownFailure {
  return { code: "BadUsage", message, hint, exitCode: 2 };
}

/** A failure for programs. */
export interface FailureDocument extends Omit<ShownFailure, "exitCode">, Subject {
  /** The fate of the image that the same command had made. */
  readonly image?: FailedImport["image"];
}

/** Describes an error for a program. */
export function failureDocument(error: unknown): FailureDocument {
  const { code, message, hint, step, store } = shownFailure(error);
  const document = { code, message, hint, ...placeOf({ step, store }), ...subjectOf(error) };
  if (!(error instanceof FailedImport)) return document;
  return { ...document, image_id: error.image_id, image: error.image };
}

/**
 * The text of a failure on stderr: `error: …` and a hint for people, one JSON document for
 * programs.
 *
 * @param isJson - true for the JSON document
 */
export function renderFailure(error: unknown, isJson: boolean): string {
  if (isJson) return `${printableJson(failureDocument(error))}\n`;
  const { message, hint } = shownFailure(error);
  const trace = showsStackTraces() && error instanceof Error ? `${traceOf(error)}\n` : "";
  return printableLines(`error: ${message}\nhint: ${hint}\n${trace}`);
}

function traceOf(error: Error): string {
  const own = error.stack ?? error.message;
  return error.cause instanceof Error ? `${own}\ncaused by ${traceOf(error.cause)}` : own;
}
