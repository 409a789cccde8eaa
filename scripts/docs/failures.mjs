import { wrapped } from "./regions.mjs";

/** @typedef {{ retryable: boolean, exitCode: number, hint: string }} FailureKind */

/**
 * The failures with an exit code that are or are not retried, as a list.
 *
 * @param {Readonly<Record<string, FailureKind>>} failures
 * @param {(kind: FailureKind) => boolean} belongs
 */
export function failureList(failures, belongs) {
  const entries = Object.entries(failures).filter(([, kind]) => belongs(kind));
  return entries
    .map(([code, { hint }]) => wrapped(`\`${code}\`: ${hint}`, { first: "- ", rest: "  " }))
    .join("\n");
}
