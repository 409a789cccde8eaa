/** A TLS connection that could not be made, in words for people. */
export interface TlsFailure {
  /** A clause such as "its certificate has expired (CERT_HAS_EXPIRED)". */
  readonly reason: string;
  /** The way out. */
  readonly hint: string;
}

interface Kind {
  readonly codes: RegExp;
  readonly reason: string;
  readonly hint: (where: TlsSettings) => string;
}

/** The names under which a person finds what a {@link TlsFailure} is about. */
export interface TlsSettings {
  /** The setting of further authorities: "`sources.web.ca_file`". */
  readonly caFile: string;
  /** What names the server, for hints: "the URL". */
  readonly address: string;
}

// Node's names: those of OpenSSL's verification (`CERT_HAS_EXPIRED`), its own
// (`ERR_TLS_CERT_ALTNAME_INVALID`), and OpenSSL's reasons and alerts behind `ERR_SSL_`.
const KINDS: readonly Kind[] = [
  {
    codes: /^ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST|UNKNOWN_PROTOCOL)$/,
    reason: "the server speaks no TLS at that port",
    hint: ({ address }) =>
      `Let ${address} begin with http:// if the server is to be trusted without TLS, or name the port at which it speaks TLS.`,
  },
  {
    codes: /^(CERT_HAS_EXPIRED|CRL_HAS_EXPIRED|ERR_SSL_(SSLV3|TLSV1)_ALERT_CERTIFICATE_EXPIRED)$/,
    reason: "its certificate has expired",
    hint: () =>
      "Have the certificate of the server renewed, and look at the clock of the worker's machine.",
  },
  {
    codes: /^(CERT|CRL)_NOT_YET_VALID$/,
    reason: "its certificate is not valid yet",
    hint: () => "Look at the clock of the worker's machine.",
  },
  {
    codes: /^(ERR_TLS_CERT_ALTNAME_INVALID|HOSTNAME_MISMATCH)$/,
    reason: "its certificate is one of other hosts",
    hint: ({ address }) => `Let ${address} name a host that the certificate has.`,
  },
  {
    codes: /^(DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_(GET_ISSUER|VERIFY))/,
    reason: "its certificate comes from an authority that the worker does not trust",
    hint: ({ caFile }) =>
      `If you trust that authority, name a PEM file with its certificate in ${caFile} of the configuration, and restart the worker. A server that leaves out the certificates in between looks the same.`,
  },
  {
    codes:
      /_ALERT_(CERTIFICATE_REQUIRED|BAD_CERTIFICATE|CERTIFICATE_UNKNOWN|UNKNOWN_CA|ACCESS_DENIED)$/,
    reason: "the server wants a certificate of its client",
    hint: () => "The worker has no certificate of its own to show: take another way to the data.",
  },
  {
    codes: /UNRECOGNIZED_NAME$/,
    reason: "the server knows no host of that name",
    hint: ({ address }) => `Check the host in ${address}.`,
  },
  {
    codes:
      /^ERR_SSL_.*(PROTOCOL|HANDSHAKE_FAILURE|NO_SHARED|TOO_SMALL|INSUFFICIENT_SECURITY|NO_CIPHERS|LEGACY)/,
    reason: "the server has no version or cipher of TLS that the worker takes",
    hint: () => "The worker takes TLS 1.2 and 1.3: have the server brought up to date.",
  },
  {
    codes:
      /^(CERT_|CA_|EE_|CRL_|ERR_TLS_CERT|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_EXCEEDED|ERR_SSL_.*CERT)/,
    reason: "its certificate is not accepted",
    hint: ({ caFile }) =>
      `Have the certificate of the server corrected; ${caFile} of the configuration names further authorities.`,
  },
  {
    codes: /^ERR_SSL_/,
    reason: "no TLS connection can be made",
    hint: ({ address }) => `Check scheme, host and port of ${address}.`,
  },
];

// A connection that breaks or is disturbed under way, or a server with a trouble of its own, may be
// better the next time.
const PASSING = /BAD_RECORD_MAC|BAD_DECRYPT|DECRYPT|UNEXPECTED_EOF|INTERNAL_ERROR|SHUTDOWN/;

/**
 * Explains an error of a TLS connection that will be the same the next time.
 *
 * @param error - of Node's TLS
 * @returns undefined for any other error
 */
export function tlsFailure(error: Error, settings: TlsSettings): TlsFailure | undefined {
  const code = "code" in error && typeof error.code === "string" ? error.code : "";
  if (code.startsWith("ERR_SSL_") && PASSING.test(code)) return undefined;
  const kind = KINDS.find(({ codes }) => codes.test(code));
  if (kind === undefined) return undefined;
  const names = namesOf(error);
  const said = names === undefined ? code : `${code}: it has ${names}`;
  return { reason: `${kind.reason} (${said})`, hint: kind.hint(settings) };
}

// A certificate may have hundreds.
const MOST_NAMES_LENGTH = 200;

/** The hosts of a certificate that is one of others. */
function namesOf(error: Error): string | undefined {
  const { cert } = error as { readonly cert?: { readonly subjectaltname?: string } };
  const names = cert?.subjectaltname;
  return names === undefined || names === "" ? undefined : names.slice(0, MOST_NAMES_LENGTH);
}
