import { ImportError, type ImportFailureCode } from "../domain/import-failure.ts";
import { tlsFailure, type TlsSettings } from "../domain/tls-failure.ts";

const NOT_PERMITTED = [
  "AccessDenied",
  "AccountProblem",
  "AllAccessDisabled",
  "Forbidden",
  "InvalidAccessKeyId",
  "InvalidSecurity",
  "NotSignedUp",
  "SignatureDoesNotMatch",
  // versitygw with a single user, for any other access key.
  "XAdminUserNotFound",
  // The SDK's own: it found no credentials, or cannot use them.
  "CredentialsProviderError",
];
const NO_SPACE = [
  "EntityTooLarge",
  "InsufficientStorage",
  "QuotaExceeded",
  "XMinioAdminBucketQuotaExceeded",
  "XMinioStorageFull",
];
// Responses to HEAD have no body that could name a code.
const CODE_OF_STATUS: Readonly<Record<number, string>> = {
  403: "Forbidden",
  404: "NotFound",
  412: "PreconditionFailed",
};
// The same request may succeed in a moment, although the status of the response does not say so.
const PASSING = ["ConditionalRequestConflict", "OperationAborted", "RequestTimeout", "SlowDown"];
const PASSING_STATUS = [408, 429, 500, 502, 503, 504];

/**
 * The longest wait that a server can ask for: it must not be able to delay an import without end.
 */
export const LONGEST_WAIT_MS = 30_000;

/** The failure of a request that an S3 server refused, or never answered. */
export class S3Failure extends ImportError {
  /** Code of the response, such as `NoSuchUpload`; or of a connection, such as `ECONNRESET`. */
  readonly s3Code: string;
  /**
   * True if the same request may succeed in a moment. A request without a response may have
   * succeeded already.
   */
  readonly isPassing: boolean;

  /**
   * @param request - the request and its store, for the message
   * @param error - the error that the SDK threw
   * @param settings - the settings that name the server and its authorities, for failures of TLS.
   *   Default: such a failure keeps its own message
   */
  constructor(request: string, error: unknown, settings?: TlsSettings) {
    const answer = answerOf(error);
    const s3Code = codeOf(error, answer.status);
    const message = error instanceof Error && error.message !== s3Code ? `: ${error.message}` : "";
    const mayBeTls = error instanceof Error && settings !== undefined;
    const tls = mayBeTls ? tlsFailure(error, settings) : undefined;
    const reason = tls?.reason ?? `${s3Code}${message}`;
    super(importCodeOf(s3Code, answer.status), `Cannot ${request}: ${reason}`, {
      cause: error,
      ...(tls === undefined ? {} : { hint: tls.hint }),
      retryAfterMs: answer.retryAfterMs,
    });
    this.s3Code = s3Code;
    this.isPassing =
      answer.status === undefined
        ? this.code === "StoreUnavailable"
        : PASSING.includes(s3Code) || PASSING_STATUS.includes(answer.status);
  }
}

/** True if a request was refused with one of these codes. */
export function hasS3Code(error: unknown, ...codes: readonly string[]): boolean {
  return error instanceof S3Failure && codes.includes(error.s3Code);
}

interface Answer {
  readonly status: number | undefined;
  readonly retryAfterMs: number | undefined;
}

/** The facts of a response that the SDK leaves on the errors it throws. */
function answerOf(error: unknown): Answer {
  const { $metadata, $response } = (error ?? {}) as {
    readonly $metadata?: { readonly httpStatusCode?: number };
    readonly $response?: { readonly headers?: Readonly<Record<string, string>> };
  };
  const seconds = Number($response?.headers?.["retry-after"] ?? Number.NaN);
  // `$response` holds the connection and the signed headers, which must not be logged with the
  // causes of a failure.
  if (error instanceof Error) Reflect.deleteProperty(error, "$response");
  return {
    status: $metadata?.httpStatusCode,
    retryAfterMs: Number.isFinite(seconds)
      ? Math.min(Math.max(seconds * 1000, 0), LONGEST_WAIT_MS)
      : undefined,
  };
}

function codeOf(error: unknown, status: number | undefined): string {
  const byStatus = status === undefined ? undefined : CODE_OF_STATUS[status];
  if (!(error instanceof Error)) return byStatus ?? "Unknown";
  const isNamed = !["Error", "Unknown", "UnknownError", String(status)].includes(error.name);
  if ("code" in error && typeof error.code === "string" && status === undefined) return error.code;
  return isNamed ? error.name : (byStatus ?? error.name);
}

function importCodeOf(s3Code: string, status: number | undefined): ImportFailureCode {
  if (NOT_PERMITTED.includes(s3Code)) return "PermissionDenied";
  if (NO_SPACE.includes(s3Code) || status === 507) return "NoSpace";
  // Any other failure, such as an expired token or a missing bucket: an operator may mend it while
  // the step is retried.
  return "StoreUnavailable";
}
