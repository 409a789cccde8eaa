import type { IncomingHttpHeaders } from "node:http";
import type { Readable } from "node:stream";
import type { ImportError } from "../domain/import-failure.ts";
import type { WebAnswer } from "./follow-redirects.ts";
import { refused, unavailable } from "./origin-failure.ts";
import {
  parseContentRange,
  retryAfterMs,
  strongValidator,
  type OriginState,
} from "./origin-state.ts";
import { displayedUrl } from "./web-url.ts";

/** Where to go on, and in which state of the resource. */
export interface Continuation {
  /** The first byte that is wanted. */
  readonly startAt: number;
  /** The first byte that is not wanted any more. Default: none, all up to the end is. */
  readonly endAt?: number;
  readonly state: OriginState;
}

/** An answer with bytes of the resource. */
export interface OriginAnswer {
  /** The first byte of the body: where it was to go on, or 0 when the resource begins afresh. */
  readonly startAt: number;
  readonly state: OriginState;
  /** Whether the origin says, or shows, that it can be asked for parts of the resource. */
  readonly hasRanges: boolean;
  /** Undefined when no byte is missing. */
  readonly body: Readable | undefined;
}

/**
 * Judges the head of an answer: whether its body is the resource, or the part of it that was asked for.
 *
 * @param asked - undefined when the whole was asked for
 * @returns undefined when it is a part of something else than what was begun: all must be asked for
 * @throws ImportError `SourceRefused`, `SourceUnavailable`
 */
export function judgeAnswer(
  answer: WebAnswer,
  asked: Continuation | undefined,
): OriginAnswer | undefined {
  const { statusCode, body } = answer.response;
  const where = displayedUrl(answer.url);
  const headers = singleHeaders(answer.response.headers, where);
  if (statusCode === 416 && asked !== undefined) return nothingMore(headers, asked, where);
  if (statusCode !== 200 && statusCode !== 206) throw failureOfStatus(statusCode, headers, where);
  requirePlain(headers, where);
  const lengthBytes = lengthOf(headers, where);
  if (statusCode === 206) {
    const part = continued(headers, lengthBytes, asked, where);
    return part === undefined ? undefined : { ...part, hasRanges: true, body };
  }
  const state = { validator: strongValidator(headers), sizeBytes: lengthBytes };
  const hasRanges = headers["accept-ranges"]?.toLowerCase() === "bytes";
  return { startAt: 0, state, hasRanges, body };
}

const READ_HEADERS = [
  ...["accept-ranges", "content-encoding", "content-length", "content-range", "date", "etag"],
  ...["last-modified", "retry-after", "transfer-encoding"],
];

/** What is said twice says nothing. */
function singleHeaders(
  headers: Readonly<Record<string, string | readonly string[] | undefined>>,
  where: string,
): IncomingHttpHeaders {
  const twice = READ_HEADERS.find((name) => Array.isArray(headers[name]));
  if (twice !== undefined) throw refused(where, `its answer has the header "${twice}" twice`);
  return headers as IncomingHttpHeaders;
}

// Bytes that would have to be decoded are not those that a range counts, nor those of which others know the digest.
function requirePlain(headers: IncomingHttpHeaders, where: string): void {
  const encoding = headers["content-encoding"];
  if (encoding !== undefined && encoding.toLowerCase() !== "identity") {
    throw refused(where, `its answer is encoded as "${shown(encoding)}", which was not asked for`);
  }
  const transfer = headers["transfer-encoding"];
  if (transfer !== undefined && transfer.toLowerCase() !== "chunked") {
    throw refused(where, `its answer is transferred as "${shown(transfer)}"`);
  }
}

/** The length of a body; null when it comes in chunks, whose end is told by itself. */
function lengthOf(headers: IncomingHttpHeaders, where: string): number | null {
  if (headers["transfer-encoding"] !== undefined) return null;
  const length = headers["content-length"];
  if (length === undefined) {
    throw refused(where, "its answer has no Content-Length, so that nobody can tell its end");
  }
  if (/^\d+$/.test(length) && Number.isSafeInteger(Number(length))) return Number(length);
  throw refused(where, `its Content-Length is "${shown(length)}"`);
}

/** What an origin says may be long. */
function shown(text: string): string {
  return text.slice(0, 60);
}

function continued(
  headers: IncomingHttpHeaders,
  lengthBytes: number | null,
  asked: Continuation | undefined,
  where: string,
): Continuation | undefined {
  const told = headers["content-range"];
  const range = parseContentRange(told);
  const [first, last] = range?.bytes ?? [];
  const fits =
    asked !== undefined &&
    first === asked.startAt &&
    last !== undefined &&
    last >= first &&
    last < (asked.endAt ?? Infinity) &&
    (lengthBytes === null || lengthBytes === last - first + 1) &&
    (range?.sizeBytes == null || last < range.sizeBytes);
  if (!fits) {
    const to = asked?.endAt === undefined ? "on" : `to before byte ${asked.endAt}`;
    const wanted = asked === undefined ? "all" : `those from byte ${asked.startAt} ${to}`;
    throw refused(where, `it answered with the bytes "${shown(told ?? "")}" instead of ${wanted}`);
  }
  // An origin that does not know If-Range sends a part of whatever it has now.
  const { etag = asked.state.validator } = headers;
  const isByDate = !asked.state.validator?.startsWith('"');
  const validator = isByDate ? (headers["last-modified"] ?? asked.state.validator) : etag;
  if (validator !== asked.state.validator) return undefined;
  const sizeBytes = range?.sizeBytes ?? asked.state.sizeBytes;
  if (asked.state.sizeBytes !== null && sizeBytes !== asked.state.sizeBytes) {
    throw refused(where, `it promised ${asked.state.sizeBytes} bytes, and has ${sizeBytes ?? 0}`);
  }
  return { startAt: asked.startAt, state: { ...asked.state, sizeBytes } };
}

/**
 * The range that was asked for is not there: all has come already, the resource is another now, or the origin promised more
 * than it has.
 */
function nothingMore(
  headers: IncomingHttpHeaders,
  asked: Continuation,
  where: string,
): OriginAnswer | undefined {
  const { sizeBytes } = parseContentRange(headers["content-range"]) ?? {};
  const { startAt, state } = asked;
  if (sizeBytes === startAt && state.sizeBytes === null) {
    return { startAt, state: { ...state, sizeBytes }, hasRanges: true, body: undefined };
  }
  const { etag = state.validator } = headers;
  if (state.validator?.startsWith('"') === true && etag !== state.validator) return undefined;
  const promised = state.sizeBytes === null ? "" : ` of ${state.sizeBytes}`;
  throw refused(where, `it ends before byte ${startAt}${promised} that it promised`);
}

function failureOfStatus(status: number, headers: IncomingHttpHeaders, where: string): ImportError {
  const told = `it answered ${status}${nameOf(status)}`;
  if (status === 408 || status === 429 || status >= 500) {
    return unavailable(where, told, retryAfterMs(headers["retry-after"]));
  }
  return refused(where, told);
}

function nameOf(status: number): string {
  if (status === 401 || status === 403) return " (access denied)";
  if (status === 404 || status === 410) return " (not found)";
  return "";
}
