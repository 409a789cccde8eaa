import { STATUS_CODES, type OutgoingHttpHeaders } from "node:http";
import { ImportError, UnlistedFailure } from "../domain/import-failure.ts";
import { isAdmin, type Caller } from "./caller.ts";
import { STATUSES } from "./failure-statuses.ts";
import { HttpFailure } from "./http-failure.ts";
import { plainFailure, plainText, type PlainFailure } from "./tenant-words.ts";

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
  /** The level at which the failure is logged; undefined: it is not, the answer names its cause. */
  readonly level: "error" | "warn" | undefined;
}

/** The request whose failure is answered. */
export interface Refused {
  readonly id: string;
  /** Undefined: the sender was not identified. */
  readonly caller: Caller | undefined;
}

/**
 * Turns the failure of a request into its answer. The answer to a bug has no internals, and only an
 * administrator reads the messages of the servers and disks behind the service.
 */
export function answerTo(error: unknown, request: Refused): FailureAnswer {
  const isPlain = request.caller === undefined || !isAdmin(request.caller);
  if (error instanceof HttpFailure) {
    const { status, message, hint, headers, cause } = error;
    // The message may repeat that of its cause.
    const text = isPlain && cause instanceof ImportError ? plainText(message) : message;
    return answer(status, { message: text, ...(hint === undefined ? {} : { hint }) }, headers);
  }
  if (error instanceof ImportError || error instanceof UnlistedFailure) {
    const status = error instanceof ImportError ? STATUSES[error.code] : 500;
    const headers = status === 503 ? { "retry-after": "5" } : {};
    const words = isPlain ? plainFailure(error, request.id) : error;
    return answer(status, listed(error, words), headers);
  }
  const status = statusOfFramework(error);
  if (status !== undefined) return answer(status, { message: messageOf(error) }, {});
  const message = `The service has a fault; its log has the cause, under ${request.id}.`;
  return answer(500, { message }, {});
}

/** The document of a failure that has only a status and a message. */
export function failureDocument(status: number, message: string): FailureDocument {
  return answer(status, { message }, {}).document;
}

type About = Omit<FailureDocument["error"], "code" | "title">;

function listed(
  { code, step, store }: ImportError | UnlistedFailure,
  { message, hint }: PlainFailure,
): About {
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
    level: status === 500 ? "error" : status > 500 ? "warn" : undefined,
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
