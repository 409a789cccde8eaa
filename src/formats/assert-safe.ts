import { ImportError, type ImportFailureCode } from "../domain/import-failure.ts";
import { isWrapped, type DeclaredFormats } from "./declared-format.ts";
import type { Verdict } from "./judge-image.ts";

// What is told first when several checks failed. A check that is not named here is `UnsafeImage`, and comes last.
const FIRST: readonly (readonly [check: string, code: ImportFailureCode])[] = [
  ["one_format", "UnsafeImage"],
  ["banned", "UnsafeImage"],
  ["declared_format", "FormatMismatch"],
  ["disk_format", "FormatNotAllowed"],
  ["container_format", "FormatNotAllowed"],
];

/**
 * Turns the verdict that an image is not let in into the failure of whoever wanted to import it.
 *
 * @param declared - as it was given to the verdict
 * @throws ImportError `FormatMismatch` when the bytes are not of the declared format
 * @throws ImportError `FormatNotAllowed` when the policy does not allow that format
 * @throws ImportError `UnsafeImage` for every other check, all of them named
 */
export function assertSafe(verdict: Verdict, declared?: DeclaredFormats): void {
  if (verdict.safe) return;
  const failed = Object.entries(verdict.checks).filter(
    ([name, result]) => result !== "pass" && !verdict.tolerated.includes(name),
  );
  const [first, code = "UnsafeImage"] =
    FIRST.find(([check]) => failed.some(([name]) => name === check)) ?? [];
  const told = first === undefined ? failed : failed.filter(([name]) => name === first);
  const reasons = told.map(([, reason]) => reason).join("; ");
  throw new ImportError(code, `Cannot accept the image${asWhat(code, declared)}: ${reasons}`);
}

function asWhat(code: ImportFailureCode, declared: DeclaredFormats | undefined): string {
  if (code !== "FormatMismatch" || declared === undefined) return "";
  return ` as "${isWrapped(declared) ? declared.containerFormat : declared.diskFormat}"`;
}
