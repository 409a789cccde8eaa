import { STATUS_CODES, type OutgoingHttpHeaders } from "node:http";
import { ImportError, UnlistedFailure, type ImportFailureCode } from "../domain/import-failure.ts";
import { HttpFailure } from "./http-failure.ts";

/** The HTTP status of each failure of the table. */
const STATUSES: Readonly<Record<ImportFailureCode, number>> = {
  BadRequest: 400,
  AccessDenied: 403,
  BadConfiguration: 500,
  NotConfigured: 503,
  UnknownStore: 400,
  UnusableFile: 400,
  FileNotFound: 404,
  ImageNotFound: 404,
  TaskNotFound: 404,
  CopyNotFound: 404,
  ImportNotFound: 404,
  ImageExists: 409,
  ImageBusy: 409,
  StagingBusy: 409,
  ReconcileIncomplete: 500,
  ImageConflict: 409,
  ImageProtected: 403,
  MemberNotFound: 404,
  NotAcceptedYet: 503,
  ImportEnded: 409,
  IllegalTransition: 409,
  BadTaskConfiguration: 400,
  StagedDataMissing: 409,
  StagedDataRefused: 400,
  StagedDataChanged: 409,
  ChecksumMismatch: 400,
  // Glance's answers to an upload whose content its format check refuses.
  FormatMismatch: 415,
  FormatNotAllowed: 415,
  UnsafeImage: 415,
  TransformFailed: 400,
  DecompressionFailed: 400,
  ConversionFailed: 400,
  ProductTooLarge: 413,
  SourceForbidden: 400,
  SourceRefused: 400,
  SourceTooLarge: 413,
  NoSpace: 413,
  QuotaExceeded: 413,
  ImageTooLarge: 413,
  PermissionDenied: 503,
  // The image was deleted while its bytes came.
  ImportLost: 410,
  ImportCancelled: 409,
  ImportDeadlineExceeded: 504,
  ImportAbandoned: 500,
  CompensationIncomplete: 500,
  DigestMismatch: 500,
  Interrupted: 400,
  SourceUnavailable: 503,
  StoreUnavailable: 503,
  StagingUnavailable: 503,
  TransformUnavailable: 503,
  DatabaseUnavailable: 503,
  TemporalUnavailable: 503,
  ApiUnavailable: 502,
  AttemptOvertaken: 409,
  ImageStillClaimed: 409,
  CopyMismatch: 503,
};

/** The body of every answer that is not a success: the one shape that all known clients read. */
export interface FailureDocument {
  readonly error: {
    /** The HTTP status. */
    readonly code: number;
    /** The status in words. */
    readonly title: string;
    readonly message: string;
    /** The code of the failure table; absent for what only HTTP refuses. */
    readonly failure?: string;
    /** The way out. */
    readonly hint?: string;
    /** The step of the import that failed. */
    readonly step?: string;
    /** The store that the step was about. */
    readonly store?: string;
  };
}

/** The answer to a request that failed. */
export interface FailureAnswer {
  readonly status: number;
  readonly headers: OutgoingHttpHeaders;
  readonly document: FailureDocument;
  /** True if this is a fault of the service: it is logged with its stack. */
  readonly isFault: boolean;
}

/** Turns whatever a request failed with into its answer. A bug shows no internals. */
export function answerTo(error: unknown): FailureAnswer {
  if (error instanceof HttpFailure) {
    const { status, message, hint, headers } = error;
    return answer(status, { message, ...(hint === undefined ? {} : { hint }) }, headers);
  }
  if (error instanceof ImportError) {
    const { code } = error;
    const status = STATUSES[code];
    const headers = status === 503 ? { "retry-after": "5" } : {};
    return answer(status, listed(error), headers);
  }
  if (error instanceof UnlistedFailure) {
    return answer(500, listed(error), {});
  }
  const status = statusOfFramework(error);
  if (status !== undefined) return answer(status, { message: messageOf(error) }, {});
  return answer(
    500,
    { message: "The server has a fault; its log names the request by its id." },
    {},
  );
}

/** The document of a failure that has a status and a message, and no more. */
export function failureDocument(status: number, message: string): FailureDocument {
  return answer(status, { message }, {}).document;
}

type About = Omit<FailureDocument["error"], "code" | "title">;

function listed({ code, message, hint, step, store }: ImportError | UnlistedFailure): About {
  return {
    message,
    failure: code,
    hint,
    ...(step === undefined ? {} : { step }),
    ...(store === undefined ? {} : { store }),
  };
}

function answer(status: number, about: About, headers: OutgoingHttpHeaders): FailureAnswer {
  const title = STATUS_CODES[status] ?? "Error";
  return {
    status,
    headers,
    document: { error: { code: status, title, ...about } },
    isFault: status === 500,
  };
}

/** Fastify's own refusals, such as a body that is too large, carry a status below 500. */
function statusOfFramework(error: unknown): number | undefined {
  if (!(error instanceof Error && "statusCode" in error)) return undefined;
  const { statusCode } = error;
  return typeof statusCode === "number" && statusCode >= 400 && statusCode < 500
    ? statusCode
    : undefined;
}

// Glance's words, by the code of Fastify's error.
const WORDS: Readonly<Record<string, string>> = {
  FST_ERR_CTP_INVALID_JSON_BODY: "Malformed JSON in request body.",
  FST_ERR_CTP_EMPTY_JSON_BODY: "Body expected in request.",
};

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  if (error instanceof SyntaxError) return "Malformed JSON in request body.";
  return WORDS[code] ?? error.message;
}
