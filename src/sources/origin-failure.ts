import { ImportError } from "../domain/import-failure.ts";
import { tlsFailure } from "../domain/tls-failure.ts";
import { ProxyError } from "./proxy-tunnel.ts";

interface Trouble {
  /** The reason for users, before the system's own text. Default: that text alone. */
  readonly reason?: string;
  /** Default: the hint of the failure's code. */
  readonly hint?: string;
}

const CHECK_ADDRESS =
  "Check the host and port of the URL, and that the worker's machine can reach them";
const SERVER_IS_TRIED_AGAIN = "The download is tried again automatically.";

const NO_ROUTE: Trouble = {
  reason: "the worker's machine has no route to it",
  hint: `${CHECK_ADDRESS}: a host that has only IPv6 addresses needs IPv6 on that machine. ${SERVER_IS_TRIED_AGAIN}`,
};
const NO_ANSWER: Trouble = {
  reason: "it does not respond",
  hint: `${CHECK_ADDRESS}. ${SERVER_IS_TRIED_AGAIN}`,
};

// The codes of name services, connections and undici for a failure that may pass.
const PASSING: Readonly<Record<string, Trouble>> = {
  EAI_AGAIN: {
    reason: "the name service of the worker's machine does not respond",
    hint: `Check the name service of the worker's machine. ${SERVER_IS_TRIED_AGAIN}`,
  },
  ECONNREFUSED: {
    reason: "no program listens on that port",
    hint: `${CHECK_ADDRESS}. ${SERVER_IS_TRIED_AGAIN}`,
  },
  EHOSTUNREACH: NO_ROUTE,
  ENETUNREACH: NO_ROUTE,
  ENETDOWN: NO_ROUTE,
  EADDRNOTAVAIL: NO_ROUTE,
  EHOSTDOWN: NO_ANSWER,
  ETIMEDOUT: NO_ANSWER,
  UND_ERR_CONNECT_TIMEOUT: NO_ANSWER,
  ECONNRESET: {},
  EPIPE: {},
  EMFILE: {},
  ENFILE: {},
  EPROTO: {},
  UND_ERR_SOCKET: {},
  UND_ERR_BODY_TIMEOUT: {},
  UND_ERR_DESTROYED: {},
  UND_ERR_CLOSED: {},
};
const NO_SUCH_HOST = ["ENOTFOUND", "EAI_NONAME", "EAI_NODATA", "ENODATA"];
const MALFORMED = ["UND_ERR_HEADERS_OVERFLOW", "UND_ERR_RES_CONTENT_LENGTH_MISMATCH"];

const TRY_TLS =
  "A server that speaks TLS on that port ends plain connections this way: try the URL with https://.";

/**
 * Translates an error of a connection, and returns any other error as it is. The error does not
 * become the cause of the failure: it may contain the origin's bytes, and with them the query of
 * the URL.
 *
 * @param where - the URL without secrets
 */
export function originFailure(error: unknown, where: string): unknown {
  if (!(error instanceof Error) || error instanceof ImportError) return error;
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  if (error instanceof ProxyError) return proxyFailure(error, where);
  const trouble = PASSING[code];
  if (trouble !== undefined)
    return unavailable(where, reasonOf(error, code), passingOptions(code, where));
  if (NO_SUCH_HOST.includes(code)) {
    return refused(where, `no host has that name (${code})`, {
      hint: "Check the host in the URL, and that the name service of the worker's machine knows it.",
    });
  }
  const tls = tlsFailure(error, { caFile: "`sources.web.ca_file`", address: "the URL" });
  if (tls !== undefined) return refused(where, tls.reason, { hint: tls.hint });
  // A disturbed TLS connection: permanent errors were found above.
  if (code.startsWith("ERR_SSL_")) return unavailable(where, code);
  if (MALFORMED.includes(code) || error.name === "HTTPParserError") {
    const options = isPlain(where) ? { hint: `Check the port of the URL. ${TRY_TLS}` } : {};
    return refused(where, `its response is malformed (${error.message})`, options);
  }
  return error;
}

function proxyFailure({ message, isFinal }: ProxyError, where: string): ImportError {
  const reason = `the proxy of \`sources.web.proxy\` cannot be used: ${message}`;
  const hint =
    "Check `sources.web.proxy`, `sources.web.proxy_credentials_file` and `sources.web.no_proxy` of the worker's configuration, and that the proxy allows CONNECT to this server.";
  return isFinal ? refused(where, reason, { hint }) : unavailable(where, reason, { hint });
}

/**
 * The reason for users, followed by the system's own text. If several addresses failed, each has a
 * text of its own.
 */
function reasonOf(error: Error, code: string): string {
  const { reason } = PASSING[code] ?? {};
  const own =
    error instanceof AggregateError
      ? [...new Set(error.errors.map((each: Error) => each.message))].join("; ") || code
      : error.message;
  return reason === undefined ? own : `${reason} (${own})`;
}

function passingOptions(code: string, where: string): { readonly hint?: string } {
  const hint = PASSING[code]?.hint;
  if (hint !== undefined) return { hint };
  // Only if nothing was received: for a broken body the caller creates its own failure.
  const isEnded = code === "UND_ERR_SOCKET" || code === "ECONNRESET";
  return isEnded && isPlain(where) ? { hint: `${TRY_TLS} ${SERVER_IS_TRIED_AGAIN}` } : {};
}

function isPlain(where: string): boolean {
  return where.startsWith("http:");
}

/** The failure of an origin that may work again soon. */
export function unavailable(
  where: string,
  reason: string,
  options: { readonly retryAfterMs?: number | undefined; readonly hint?: string } = {},
): ImportError {
  return new ImportError("SourceUnavailable", `Cannot download ${where}: ${reason}`, options);
}

/** The failure of an origin that will respond the same way the next time. */
export function refused(
  where: string,
  reason: string,
  options: { readonly hint?: string } = {},
): ImportError {
  return new ImportError("SourceRefused", `Cannot download ${where}: ${reason}`, options);
}

// Errors that end a body, but are not caused by the origin, or only mean that it is slow.
const NOT_BY_ORIGIN = [
  "UND_ERR_BODY_TIMEOUT",
  "UND_ERR_DESTROYED",
  "UND_ERR_CLOSED",
  "UND_ERR_ABORTED",
  "ETIMEDOUT",
  "EHOSTUNREACH",
  "EHOSTDOWN",
  "ENETUNREACH",
  "ENETDOWN",
];

/** The failure of an origin that sends too few bytes per second. */
export class SlowOrigin extends Error {
  override readonly name = "SlowOrigin";
}

/**
 * True if the origin itself ended a body with this error. Time-outs, a slow origin and an
 * unreachable network do not count.
 */
export function isOriginsEnd(error: unknown): boolean {
  if (!(error instanceof Error) || error instanceof SlowOrigin) return false;
  return !("code" in error && NOT_BY_ORIGIN.includes(String(error.code)));
}
