import { describe, expect, it } from "vitest";
import {
  IMPORT_FAILURES,
  ImportError,
  isImportFailureCode,
} from "../../src/domain/import-failure.ts";

function codesWhere(
  holds: (kind: (typeof IMPORT_FAILURES)[keyof typeof IMPORT_FAILURES]) => boolean,
) {
  return Object.entries(IMPORT_FAILURES).flatMap(([code, kind]) => (holds(kind) ? [code] : []));
}

describe("IMPORT_FAILURES", () => {
  it("retries only failures that may pass without a change", () => {
    expect(codesWhere((kind) => kind.retryable)).toEqual([
      "SourceUnavailable",
      "StoreUnavailable",
      "StagingUnavailable",
      "TransformUnavailable",
      "DatabaseUnavailable",
      "TemporalUnavailable",
      "ApiUnavailable",
      "AttemptOvertaken",
      "ImageStillClaimed",
      "CopyMismatch",
    ]);
  });

  it("exits with 2 for wrong use", () => {
    expect(codesWhere((kind) => kind.exitCode === 2)).toEqual([
      "BadRequest",
      "AccessDenied",
      "BadConfiguration",
      "NotConfigured",
      "UnknownStore",
      "UnusableFile",
    ]);
  });

  it("exits with 3 for a missing image, task or file", () => {
    expect(codesWhere((kind) => kind.exitCode === 3)).toEqual([
      "FileNotFound",
      "ImageNotFound",
      "TaskNotFound",
      "CopyNotFound",
      "MemberNotFound",
      "ImportNotFound",
    ]);
  });

  it("exits with 4 for a conflict", () => {
    expect(codesWhere((kind) => kind.exitCode === 4)).toEqual([
      "ImageExists",
      "ImageBusy",
      "StagingBusy",
      "ImageConflict",
      "ImageProtected",
      "ImportEnded",
      "IllegalTransition",
    ]);
  });

  it("exits with 1 for all that failed otherwise", () => {
    expect(codesWhere((kind) => kind.exitCode === 1)).toEqual([
      "BadTaskConfiguration",
      "StagedDataMissing",
      "StagedDataRefused",
      "StagedDataChanged",
      "ChecksumMismatch",
      "FormatMismatch",
      "FormatNotAllowed",
      "UnsafeImage",
      "TransformFailed",
      "DecompressionFailed",
      "ConversionFailed",
      "ProductTooLarge",
      "SourceForbidden",
      "SourceRefused",
      "SourceTooLarge",
      "NoSpace",
      "QuotaExceeded",
      "ImageTooLarge",
      "PermissionDenied",
      "ImportLost",
      "ImportCancelled",
      "ImportDeadlineExceeded",
      "ImportAbandoned",
      "CompensationIncomplete",
      "ReconcileIncomplete",
      "DigestMismatch",
      "Interrupted",
      "SourceUnavailable",
      "StoreUnavailable",
      "StagingUnavailable",
      "TransformUnavailable",
      "DatabaseUnavailable",
      "TemporalUnavailable",
      "ApiUnavailable",
      "AttemptOvertaken",
      "ImageStillClaimed",
      "CopyMismatch",
    ]);
  });

  it.each(Object.entries(IMPORT_FAILURES))(
    "shows a way out of %s, in a sentence",
    (_, { hint }) => {
      expect(hint).toMatch(/^[A-Z`].*\.$/);
    },
  );
});

describe("ImportError", () => {
  it("takes from the table what its code means", () => {
    const { name, code, message, hint, retryable } = new ImportError("NoSpace", "It is full");

    expect({ name, code, message, hint, retryable }).toEqual({
      name: "ImportError",
      code: "NoSpace",
      message: "It is full",
      hint: "Free space, or choose another store.",
      retryable: false,
    });
  });

  it("may be retried where the table says so", () => {
    expect(new ImportError("StoreUnavailable", "It is unreachable").retryable).toBe(true);
  });

  it("prefers the way out that the thrower knows", () => {
    expect(new ImportError("NoSpace", "It is full", { hint: "Delete x." }).hint).toBe("Delete x.");
  });

  it("carries its cause", () => {
    const cause = new Error("ENOSPC");

    expect(new ImportError("NoSpace", "It is full", { cause }).cause).toBe(cause);
  });

  it("has no cause when there is none", () => {
    expect("cause" in new ImportError("NoSpace", "It is full")).toBe(false);
  });
});

describe("isImportFailureCode()", () => {
  it("knows a code of the table", () => {
    expect(isImportFailureCode("NoSpace")).toBe(true);
  });

  it.each(["", "nospace", "toString", "__proto__", 7, undefined, null])("rejects %j", (text) => {
    expect(isImportFailureCode(text)).toBe(false);
  });
});
