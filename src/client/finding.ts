import { IMPORT_FAILURES, ImportError, type ImportFailureCode } from "../domain/import-failure.ts";

/** The result of one check of `doctor`. */
export interface Finding {
  readonly check: string;
  readonly ok: boolean;
  readonly detail: string;
  /** Stable code of the failure; null if the check passed. */
  readonly code: ImportFailureCode | null;
  /** The way out; null if the check passed. */
  readonly hint: string | null;
}

/**
 * Runs one check.
 *
 * @param work - returns the detail of a check that passed, and throws an ImportError otherwise
 */
export async function runCheck(check: string, work: () => Promise<string>): Promise<Finding> {
  try {
    return { check, ok: true, detail: await work(), code: null, hint: null };
  } catch (error) {
    if (!(error instanceof ImportError)) throw error;
    const { code, message: detail } = error;
    // A hint of the failing code is more exact than the hint of the table.
    const isOfTable = error.hint === IMPORT_FAILURES[code].hint;
    const hint = isOfTable ? (WAYS_OUT[code] ?? error.hint) : error.hint;
    return { check, ok: false, detail, code, hint };
  }
}

// For these codes, the hints of the table would name `doctor` itself.
const WAYS_OUT: Readonly<Partial<Record<ImportFailureCode, string>>> = {
  DatabaseUnavailable: "Start Postgres, or correct DATABASE_URL.",
  TemporalUnavailable: "Start the Temporal server, or correct TEMPORAL_ADDRESS.",
};
