import { ImportError } from "../domain/import-failure.ts";

// What name services, connections and undici say of an origin that does not work just now.
const PASSING = [
  "EAI_AGAIN",
  "ECONNREFUSED",
  "ECONNRESET",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENETDOWN",
  "EHOSTDOWN",
  "EPIPE",
  "ETIMEDOUT",
  "EMFILE",
  "ENFILE",
  "EADDRNOTAVAIL",
  "EPROTO",
  "UND_ERR_SOCKET",
  "UND_ERR_CONNECT_TIMEOUT",
  "UND_ERR_BODY_TIMEOUT",
  "UND_ERR_DESTROYED",
  "UND_ERR_CLOSED",
];
const NO_SUCH_HOST = ["ENOTFOUND", "EAI_NONAME", "EAI_NODATA", "ENODATA"];
const MALFORMED = ["UND_ERR_HEADERS_OVERFLOW", "UND_ERR_RES_CONTENT_LENGTH_MISMATCH"];
// OpenSSL's names of what is wrong with a certificate; some end with words that others begin with.
const CERTIFICATE =
  /^(CERT_|ERR_TLS_CERT|DEPTH_ZERO|SELF_SIGNED|UNABLE_TO_(GET_ISSUER|VERIFY)|HOSTNAME_MISMATCH|ERR_SSL_)/;

/**
 * Says what an error of a connection means for an import. Anything else is returned as it is. The error itself is not
 * passed on as a cause: it may hold what the origin sent, and with it the query that it was asked for.
 *
 * @param where - the URL as people may see it
 */
export function originFailure(error: unknown, where: string): unknown {
  if (!(error instanceof Error) || error instanceof ImportError) return error;
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  // Of several addresses each has failed.
  if (error instanceof AggregateError && code !== "") return unavailable(where, code);
  if (PASSING.includes(code)) return unavailable(where, error.message);
  if (NO_SUCH_HOST.includes(code)) return refused(where, "no host has that name");
  if (CERTIFICATE.test(code)) {
    return refused(where, `its certificate is not trusted (${code})`, {
      hint: "`sources.web.ca_file` of the configuration names further authorities.",
    });
  }
  if (MALFORMED.includes(code) || error.name === "HTTPParserError") {
    return refused(where, `its answer is malformed (${error.message})`);
  }
  return error;
}

/** The failure of an origin that may work again in a moment. */
export function unavailable(where: string, reason: string, retryAfterMs?: number): ImportError {
  return new ImportError("SourceUnavailable", `Cannot download ${where}: ${reason}`, {
    retryAfterMs,
  });
}

/** The failure of an origin that will answer the same the next time. */
export function refused(
  where: string,
  reason: string,
  options: { readonly hint?: string } = {},
): ImportError {
  return new ImportError("SourceRefused", `Cannot download ${where}: ${reason}`, options);
}
