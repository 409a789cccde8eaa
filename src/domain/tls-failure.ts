/** The reason why a TLS connection failed, in words for users. */
export interface TlsFailure {
  /** A clause such as "its certificate has expired (CERT_HAS_EXPIRED)". */
  readonly reason: string;
  /** The way out. */
  readonly hint: string;
}

interface Kind {
  readonly codes: RegExp;
  readonly reason: string | ((where: TlsSettings) => string);
  readonly hint: (where: TlsSettings) => string;
}

/** The names of the settings that a {@link TlsFailure} is about, for hints. */
export interface TlsSettings {
  /** The setting of further authorities: "`sources.web.ca_file`". */
  readonly caFile: string;
  /** The place of the server's address: "the URL". */
  readonly address: string;
  /** The program that connects: the worker, or the command of the user. Default: `worker` */
  readonly program?: "worker" | "command";
}

function nameOf({ program }: TlsSettings): string {
  return program === "command" ? "this command" : "the worker";
}

function machineOf({ program }: TlsSettings): string {
  return program === "command" ? "this machine" : "the worker's machine";
}

/** The name of the setting of further authorities, with its place. */
function authoritiesIn({ program, caFile }: TlsSettings): string {
  return program === "command" ? caFile : `${caFile} of the configuration`;
}

// Node's names: those of OpenSSL's verification (`CERT_HAS_EXPIRED`), its own
// (`ERR_TLS_CERT_ALTNAME_INVALID`), and OpenSSL's reasons and alerts behind `ERR_SSL_`.
const KINDS: readonly Kind[] = [
  {
    codes: /^ERR_SSL_(WRONG_VERSION_NUMBER|PACKET_LENGTH_TOO_LONG|HTTP_REQUEST|UNKNOWN_PROTOCOL)$/,
    reason: "the server does not use TLS at that port",
    hint: ({ address }) =>
      `Let ${address} begin with http:// if you trust the server without TLS, or name the port at which it uses TLS.`,
  },
  {
    codes: /^(CERT_HAS_EXPIRED|CRL_HAS_EXPIRED|ERR_SSL_(SSLV3|TLSV1)_ALERT_CERTIFICATE_EXPIRED)$/,
    reason: "its certificate has expired",
    hint: (where) =>
      `Have the certificate of the server renewed, and check the clock of ${machineOf(where)}.`,
  },
  {
    codes: /^(CERT|CRL)_NOT_YET_VALID$/,
    reason: "its certificate is not valid yet",
    hint: (where) => `Check the clock of ${machineOf(where)}.`,
  },
  {
    codes: /^(ERR_TLS_CERT_ALTNAME_INVALID|HOSTNAME_MISMATCH)$/,
    reason: "its certificate is for other hosts",
    hint: ({ address }) => `Let ${address} name a host that is in the certificate.`,
  },
  {
    codes: /^(DEPTH_ZERO_SELF_SIGNED_CERT|SELF_SIGNED_CERT_IN_CHAIN|UNABLE_TO_(GET_ISSUER|VERIFY))/,
    reason: (where) =>
      `its certificate comes from an authority that ${nameOf(where)} does not trust`,
    hint: (where) =>
      `If you trust that authority, name a PEM file with its certificate in ${authoritiesIn(where)}${where.program === "command" ? "" : ", and restart the worker"}. A server that does not send the intermediate certificates causes the same failure.`,
  },
  {
    codes:
      /_ALERT_(CERTIFICATE_REQUIRED|BAD_CERTIFICATE|CERTIFICATE_UNKNOWN|UNKNOWN_CA|ACCESS_DENIED)$/,
    reason: "the server requires a client certificate",
    hint: ({ program }) =>
      program === "command"
        ? "This command has no client certificate: name an address that requires none."
        : "The worker has no client certificate: get the data in another way.",
  },
  {
    codes: /UNRECOGNIZED_NAME$/,
    reason: "the server does not know a host of that name",
    hint: ({ address }) => `Check the host in ${address}.`,
  },
  {
    codes:
      /^ERR_SSL_.*(PROTOCOL|HANDSHAKE_FAILURE|NO_SHARED|TOO_SMALL|INSUFFICIENT_SECURITY|NO_CIPHERS|LEGACY)/,
    reason: (where) => `the server has no TLS version or cipher that ${nameOf(where)} accepts`,
    hint: () => "TLS 1.2 and 1.3 are accepted: have the server updated.",
  },
  {
    codes:
      /^(CERT_|CA_|EE_|CRL_|ERR_TLS_CERT|INVALID_CA|INVALID_PURPOSE|PATH_LENGTH_EXCEEDED|ERR_SSL_.*CERT)/,
    reason: "its certificate is not accepted",
    hint: (where) =>
      `Have the certificate of the server corrected, or name further authorities in ${authoritiesIn(where)}.`,
  },
  {
    codes: /^ERR_SSL_/,
    reason: "the TLS connection failed",
    hint: ({ address }) => `Check scheme, host and port of ${address}.`,
  },
];

// A connection that breaks or is disturbed, or an internal error of the server, may pass.
const PASSING = /BAD_RECORD_MAC|BAD_DECRYPT|DECRYPT|UNEXPECTED_EOF|INTERNAL_ERROR|SHUTDOWN/;

/**
 * Explains an error of a TLS connection that a retry does not change.
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
  const reason = typeof kind.reason === "string" ? kind.reason : kind.reason(settings);
  return { reason: `${reason} (${said})`, hint: kind.hint(settings) };
}

// A certificate may have hundreds of names.
const MOST_NAMES_LENGTH = 200;

/** The hosts in the certificate of another host. */
function namesOf(error: Error): string | undefined {
  const { cert } = error as { readonly cert?: { readonly subjectaltname?: string } };
  const names = cert?.subjectaltname;
  return names === undefined || names === "" ? undefined : names.slice(0, MOST_NAMES_LENGTH);
}
