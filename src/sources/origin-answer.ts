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

/** A part of a resource in one of its states. */
export interface Continuation {
  /** The first byte that is wanted. */
  readonly startAt: number;
  /** The first byte that is not wanted any more. Default: all bytes to the end are wanted. */
  readonly endAt?: number;
  readonly state: OriginState;
}

/** A response with bytes of the resource. */
export interface OriginAnswer {
  /** The position of the body: the first wanted byte, or 0 if it is the resource from its start. */
  readonly startAt: number;
  readonly state: OriginState;
  /** True if the origin states or shows that it supports requests for parts of the resource. */
  readonly hasRanges: boolean;
  /** Undefined when no byte is missing. */
  readonly body: Readable | undefined;
}

/**
 * Judges the headers of a response: its body must be the resource, or the requested part of it.
 *
 * @param asked - undefined when the complete resource was requested
 * @returns undefined when the resource has changed, so that all of it must be requested
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
  // 203 is a 200 from a proxy that may have changed the body.
  if (![200, 203, 206].includes(statusCode)) throw failureOfStatus(statusCode, headers, where);
  requirePlain(headers, where);
  const lengthBytes = lengthOf(headers, where);
  if (statusCode === 206 && (asked !== undefined || !isAll(headers, lengthBytes))) {
    const part = continued(headers, lengthBytes, asked, where);
    return part === undefined ? undefined : { ...part, hasRanges: true, body };
  }
  const state = { validator: strongValidator(headers), sizeBytes: lengthBytes };
  const hasRanges = headers["accept-ranges"]?.toLowerCase() === "bytes";
  return { startAt: 0, state, hasRanges, body };
}

// A download works without these. Two different values count as none.
const HELPFUL_HEADERS = ["accept-ranges", "date", "etag", "last-modified", "retry-after"];
// These state which bytes the body has.
const DECISIVE_HEADERS = ["content-length", "content-range", "transfer-encoding"];

/** The headers of a response with one value each. A value that was sent repeatedly counts once. */
function singleHeaders(
  headers: Readonly<Record<string, string | readonly string[] | undefined>>,
  where: string,
): IncomingHttpHeaders {
  const single: Record<string, string | undefined> = {};
  for (const name of [...HELPFUL_HEADERS, ...DECISIVE_HEADERS]) {
    const values = new Set([headers[name] ?? []].flat());
    if (values.size > 1 && DECISIVE_HEADERS.includes(name)) {
      const both = [...values].map(shown).join(`" and "`);
      throw refused(where, `its response has the header "${name}" twice, with "${both}"`);
    }
    const [value] = values;
    if (values.size === 1) single[name] = value;
  }
  // A list that is sent in several headers is one list (RFC 9110, 5.3).
  const codings = headers["content-encoding"];
  if (codings !== undefined) single["content-encoding"] = [codings].flat().join(", ");
  return single;
}

// Values of `Content-Encoding` that leave the bytes as they are. S3 keeps the "aws-chunked" of an
// upload that it has decoded. Other servers send a transfer encoding of e-mail, the name of a
// character set or an unset variable.
const CODES_NOTHING =
  /^((x-)?identity|aws-chunked|chunked|none|null|undefined|binary|raw|[78]bit|utf-?8|(us-)?ascii|iso-8859-\d+|latin-?1)?$/;

// Bytes that must be decoded would not be the bytes that a range counts, nor the ones whose digest
// the user knows.
function requirePlain(headers: IncomingHttpHeaders, where: string): void {
  const codings = (headers["content-encoding"] ?? "").toLowerCase().split(",");
  // Parameters of a coding (`identity;q=1`) belong in a request, but a few servers send them back.
  const coding = codings
    .map((each) => each.replace(/;.*/, "").trim())
    .find((each) => !CODES_NOTHING.test(each));
  if (coding !== undefined) {
    throw refused(
      where,
      `the server sends it with the Content-Encoding "${shown(coding)}", although "Accept-Encoding: identity" requests the bytes as they are`,
      {
        hint: "Download the file yourself, decode it, and import it as a file; or configure the server to send it without a Content-Encoding.",
      },
    );
  }
  const transfer = headers["transfer-encoding"];
  if (transfer !== undefined && transfer.trim().toLowerCase() !== "chunked") {
    throw refused(
      where,
      `the server sends it with the Transfer-Encoding "${shown(transfer)}"; only "chunked" is supported`,
      { hint: "Download the file yourself, and import it as a file." },
    );
  }
}

/** True if a part that was not requested is the complete resource. */
function isAll(headers: IncomingHttpHeaders, lengthBytes: number | null): boolean {
  const range = parseContentRange(headers["content-range"]);
  const [first, last] = range?.bytes ?? [];
  if (first !== 0 || last === undefined || range?.sizeBytes !== last + 1) return false;
  return lengthBytes === null || lengthBytes === range.sizeBytes;
}

/** The length of a body; null when it comes in chunks, of which the last one marks the end. */
function lengthOf(headers: IncomingHttpHeaders, where: string): number | null {
  if (headers["transfer-encoding"] !== undefined) return null;
  const length = headers["content-length"];
  if (length === undefined) {
    throw refused(
      where,
      "the server sends neither a Content-Length nor chunks, so that a broken connection would look like the end of the image",
      { hint: "Download the file yourself, compare its checksum, and import it as a file." },
    );
  }
  if (/^\d+$/.test(length) && Number.isSafeInteger(Number(length))) return Number(length);
  throw refused(where, `its Content-Length is "${shown(length)}"`);
}

/** A text from an origin, shortened for messages. */
function shown(text: string): string {
  return text.slice(0, 60);
}

function continued(
  headers: IncomingHttpHeaders,
  lengthBytes: number | null,
  asked: Continuation | undefined,
  where: string,
): Continuation | undefined {
  const stated = headers["content-range"];
  const range = parseContentRange(stated);
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
    throw refused(where, `it returned the bytes "${shown(stated ?? "")}" instead of ${wanted}`);
  }
  // An origin that does not know If-Range sends a part of the resource's current state.
  const { etag = asked.state.validator } = headers;
  const isByDate = !asked.state.validator?.startsWith('"');
  const validator = isByDate ? (headers["last-modified"] ?? asked.state.validator) : etag;
  if (validator !== asked.state.validator) return undefined;
  const sizeBytes = range?.sizeBytes ?? asked.state.sizeBytes;
  if (asked.state.sizeBytes !== null && sizeBytes !== asked.state.sizeBytes) {
    throw refused(where, `it promised ${asked.state.sizeBytes} bytes, but has ${sizeBytes ?? 0}`);
  }
  return { startAt: asked.startAt, state: { ...asked.state, sizeBytes } };
}

/**
 * Judges a response that the requested range does not exist: either all bytes have come already, or
 * the resource has changed, or the origin promised more bytes than it has.
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
  const { name, hint } = KNOWN_STATUS[status] ?? {};
  const returned = `the server returned ${status}${name === undefined ? "" : ` (${name})`}`;
  if (status === 408 || status === 429 || status >= 500) {
    return unavailable(where, returned, { retryAfterMs: retryAfterMs(headers["retry-after"]) });
  }
  return refused(where, returned, hint === undefined ? {} : { hint });
}

const NEEDS_ACCESS =
  "The worker sends no cookies, and no credentials except the token of a `glance-download`. Use a URL that needs none, such as a signed one, or download the file yourself.";
const NOT_THERE = "Check the path of the URL.";

const KNOWN_STATUS: Readonly<Record<number, { readonly name: string; readonly hint?: string }>> = {
  202: {
    name: "the file is not ready yet",
    hint: "Import it again when the server has prepared it.",
  },
  204: { name: "no content", hint: NOT_THERE },
  400: {
    name: "bad request",
    hint: "Check the URL. A server that speaks TLS on that port also returns this status to a request with http://.",
  },
  401: { name: "access denied", hint: NEEDS_ACCESS },
  403: {
    name: "access denied",
    hint: `${NEEDS_ACCESS} A signed URL may have expired.`,
  },
  404: { name: "not found", hint: NOT_THERE },
  405: {
    name: "method not allowed",
    hint: "Use the URL of a file: the worker sends GET.",
  },
  406: {
    name: "not acceptable",
    hint: 'Configure the server to send the bytes as they are: the worker sends "Accept-Encoding: identity".',
  },
  410: { name: "gone", hint: NOT_THERE },
  414: { name: "URL too long" },
  421: { name: "misdirected request" },
  451: { name: "unavailable for legal reasons" },
};
