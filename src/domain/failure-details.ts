import {
  ImportError,
  isImportFailureCode,
  UnlistedFailure,
  type ImportFailureCode,
} from "./import-failure.ts";

/**
 * A failure on its way from the step that failed to the caller: in the details of Temporal's
 * failures, in the status of a run, and in the record of a task.
 */
export interface FailureDetails {
  /** A code of `IMPORT_FAILURES`, or the name of an error that the table does not list. */
  readonly code: string;
  /** The way out. Default: that of the table. */
  readonly hint?: string;
  /** The step that failed. */
  readonly step?: string;
  /** The store that the step was about. */
  readonly store?: string;
}

/**
 * Reads failure details that another process sent.
 *
 * @param code - the code if the details have none: those of 0.1.0 have only a hint and a store
 */
export function readFailureDetails(details: unknown, code: string): FailureDetails {
  const given = typeof details === "object" && details !== null ? { ...details } : {};
  const texts = Object.entries(given).filter(
    ([name, value]) => FIELDS.includes(name) && typeof value === "string",
  );
  return { code, ...Object.fromEntries(texts) };
}

const FIELDS: readonly string[] = [
  "code",
  "hint",
  "step",
  "store",
] satisfies readonly (keyof FailureDetails)[];

/** Codes of a claim that the request, the image or the owner's quota does not allow. */
const REFUSALS: readonly string[] = [
  "BadRequest",
  "UnknownStore",
  "ImageNotFound",
  "ImageConflict",
  "ImageBusy",
  "StagingBusy",
  "CopyNotFound",
  "ImageTooLarge",
  "QuotaExceeded",
] satisfies readonly ImportFailureCode[];

/** True if the start of an import was refused, which is not a failure of this service. */
export function isRefusal({
  step,
  code,
}: {
  readonly step?: string | undefined;
  readonly code: string;
}): boolean {
  return step === "claim" && REFUSALS.includes(code);
}

/** The place of a failure: `store "fast"`, or a step alone; empty if the step is unknown. */
export function placeText({ step, store }: Omit<FailureDetails, "code">): string {
  return step === undefined || store === undefined ? (step ?? "") : `${step} "${store}"`;
}

/**
 * The error to throw for a failure.
 *
 * @returns an `ImportError`; an `UnlistedFailure` if the table does not list its code
 */
export function errorOf(
  { code, ...details }: FailureDetails,
  message: string,
  cause?: unknown,
): ImportError | UnlistedFailure {
  const options = { ...details, ...(cause === undefined ? {} : { cause }) };
  return isImportFailureCode(code)
    ? new ImportError(code, message, options)
    : new UnlistedFailure(code, message, options);
}
