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
 * Judges the head of an answer: whether its body is the resource, or the part of it that was asked
 * for.
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
  // 203 is a 200 that passed a proxy which may have changed it, as any proxy may.
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

// Without these a download can do; two that differ are as good as none.
const HELPFUL_HEADERS = ["accept-ranges", "date", "etag", "last-modified", "retry-after"];
// These say which bytes come.
const DECISIVE_HEADERS = ["content-length", "content-range", "transfer-encoding"];

/** Headers that an origin sent several times, as one each: a repeated value counts once. */
function singleHeaders(
  headers: Readonly<Record<string, string | readonly string[] | undefined>>,
  where: string,
): IncomingHttpHeaders {
  const single: Record<string, string | undefined> = {};
  for (const name of [...HELPFUL_HEADERS, ...DECISIVE_HEADERS]) {
    const values = new Set([headers[name] ?? []].flat());
    if (values.size > 1 && DECISIVE_HEADERS.includes(name)) {
      const both = [...values].map(shown).join(`" and "`);
      throw refused(where, `its answer has the header "${name}" twice, with "${both}"`);
    }
    const [value] = values;
    if (values.size === 1) single[name] = value;
  }
  // A list that is sent in several headers is one list (RFC 9110, 5.3).
  const codings = headers["content-encoding"];
  if (codings !== undefined) single["content-encoding"] = [codings].flat().join(", ");
  return single;
}

// Names that stand in `Content-Encoding` and leave the bytes as they are. S3 keeps "aws-chunked" of
// an upload that it has decoded; others put a transfer encoding of e-mail, the name of a character
// set or an unset variable there.
const CODES_NOTHING =
  /^((x-)?identity|aws-chunked|chunked|none|null|undefined|binary|raw|[78]bit|utf-?8|(us-)?ascii|iso-8859-\d+|latin-?1)?$/;

// Bytes that would have to be decoded are not those that a range counts, nor those of which others
// know the digest.
function requirePlain(headers: IncomingHttpHeaders, where: string): void {
  const codings = (headers["content-encoding"] ?? "").toLowerCase().split(",");
  // Parameters of a coding (`identity;q=1`) belong into a request; a few servers send them back.
  const coding = codings
    .map((each) => each.replace(/;.*/, "").trim())
    .find((each) => !CODES_NOTHING.test(each));
  if (coding !== undefined) {
    throw refused(
      where,
      `the server sends it with the Content-Encoding "${shown(coding)}", although "Accept-Encoding: identity" asked for the bytes as they are`,
      {
        hint: "Download the file yourself, decode it, and import it as a file; or let the server send it without a Content-Encoding.",
      },
    );
  }
  const transfer = headers["transfer-encoding"];
  if (transfer !== undefined && transfer.trim().toLowerCase() !== "chunked") {
    throw refused(
      where,
      `the server sends it with the Transfer-Encoding "${shown(transfer)}", and only "chunked" can be read`,
      { hint: "Download the file yourself, and import it as a file." },
    );
  }
}

/** Whether a part that was not asked for is the whole resource. */
function isAll(headers: IncomingHttpHeaders, lengthBytes: number | null): boolean {
  const range = parseContentRange(headers["content-range"]);
  const [first, last] = range?.bytes ?? [];
  if (first !== 0 || last === undefined || range?.sizeBytes !== last + 1) return false;
  return lengthBytes === null || lengthBytes === range.sizeBytes;
}

/** The length of a body; null when it comes in chunks, the last of which marks the end. */
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
 * The range that was asked for is not there: all has come already, the resource is another now, or
 * the origin promised more than it has.
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
  const answered = `the server answered ${status}${name === undefined ? "" : ` (${name})`}`;
  if (status === 408 || status === 429 || status >= 500) {
    return unavailable(where, answered, { retryAfterMs: retryAfterMs(headers["retry-after"]) });
  }
  return refused(where, answered, hint === undefined ? {} : { hint });
}

const NEEDS_ACCESS =
  "The worker sends no credentials and no cookies: use a URL that needs none, such as a signed one, or download the file yourself.";
const NOT_THERE = "Check the path of the URL.";

const KNOWN_STATUS: Readonly<Record<number, { readonly name: string; readonly hint?: string }>> = {
  202: {
    name: "the file is not there yet",
    hint: "Import it again when the server has made it ready.",
  },
  204: { name: "no content", hint: NOT_THERE },
  400: {
    name: "bad request",
    hint: "Check the URL; a server that speaks TLS at that port answers so, too, when it is asked with http://.",
  },
  401: { name: "access denied", hint: NEEDS_ACCESS },
  403: {
    name: "access denied",
    hint: `${NEEDS_ACCESS} A signed URL may have expired.`,
  },
  404: { name: "not found", hint: NOT_THERE },
  405: {
    name: "method not allowed",
    hint: "The worker asks with GET: the URL must be one of a file.",
  },
  406: {
    name: "not acceptable",
    hint: 'The worker sends "Accept-Encoding: identity": let the server send the bytes as they are.',
  },
  410: { name: "gone", hint: NOT_THERE },
  414: { name: "URL too long" },
  421: { name: "misdirected request" },
  451: { name: "unavailable for legal reasons" },
};
