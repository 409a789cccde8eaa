import { ImportError, type ImportFailureCode } from "../domain/import-failure.ts";
import { reportedChecks } from "./check-rules.ts";
import { isWrapped, type DeclaredFormats } from "./declared-format.ts";
import type { Verdict } from "./judge-image.ts";

/**
 * Throws the failure of an import whose image the verdict refuses.
 *
 * @param declared - the declaration that the verdict was given
 * @throws ImportError `FormatMismatch` when the bytes are not of the declared format
 * @throws ImportError `FormatNotAllowed` when the policy does not allow that format
 * @throws ImportError `UnsafeImage` naming all other checks that failed, with their hints
 */
export function assertSafe(verdict: Verdict, declared?: DeclaredFormats): void {
  if (verdict.safe) return;
  const { code, checks } = reportedChecks(Object.keys(verdict.hints));
  const reasons = checks.map((check) => verdict.checks[check]).join("; ");
  const hints = new Set(checks.flatMap((check) => verdict.hints[check] ?? []));
  throw new ImportError(code, `Cannot accept the image${asWhat(code, declared)}: ${reasons}`, {
    hint: [...hints].join(" "),
  });
}

function asWhat(code: ImportFailureCode, declared: DeclaredFormats | undefined): string {
  if (code !== "FormatMismatch" || declared === undefined) return "";
  return ` as "${isWrapped(declared) ? declared.containerFormat : declared.diskFormat}"`;
}
