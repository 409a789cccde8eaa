import { ImportError, type ImportFailureCode } from "../../src/domain/import-failure.ts";

/**
 * The code that some work fails with, and its message; for
 * `expect(await failureOf(…)).toMatchObject({ code })`.
 */
export async function failureOf(
  work: Promise<unknown>,
): Promise<{ readonly code: ImportFailureCode; readonly message: string; readonly hint: string }> {
  const error: unknown = await work.then(
    () => new Error("It did not fail"),
    (reason: unknown) => reason,
  );
  if (error instanceof ImportError) return error;
  throw error;
}
