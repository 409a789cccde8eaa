import { describe, expect, it } from "vitest";
import { tlsFailure } from "../../src/domain/tls-failure.ts";

const SETTINGS = { caFile: "`sources.web.ca_file`", address: "the URL" };

function explain(code: string) {
  return tlsFailure(Object.assign(new Error("as OpenSSL says it"), { code }), SETTINGS);
}

describe("tlsFailure()", () => {
  it.each([
    ["ERR_SSL_WRONG_VERSION_NUMBER", "the server does not use TLS at that port", "http://"],
    ["CERT_HAS_EXPIRED", "its certificate has expired", "renewed"],
    ["CERT_NOT_YET_VALID", "its certificate is not valid yet", "clock"],
    ["ERR_TLS_CERT_ALTNAME_INVALID", "its certificate is for other hosts", "the URL"],
    ["DEPTH_ZERO_SELF_SIGNED_CERT", "an authority that the worker does not trust", "ca_file"],
    ["SELF_SIGNED_CERT_IN_CHAIN", "an authority that the worker does not trust", "ca_file"],
    ["UNABLE_TO_GET_ISSUER_CERT_LOCALLY", "an authority that the worker", "ca_file"],
    ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", "an authority that the worker", "intermediate"],
    ["CERT_REVOKED", "its certificate is not accepted", "ca_file"],
    ["ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION", "no TLS version or cipher", "TLS 1.2"],
    ["ERR_SSL_SSLV3_ALERT_HANDSHAKE_FAILURE", "no TLS version or cipher", "TLS 1.2"],
    ["ERR_SSL_DH_KEY_TOO_SMALL", "no TLS version or cipher", "TLS 1.2"],
    ["ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED", "a client certificate", "no client certificate"],
    ["ERR_SSL_TLSV1_UNRECOGNIZED_NAME", "does not know a host of that name", "host"],
    ["ERR_SSL_SOMETHING_NEW", "the TLS connection failed", "scheme"],
  ])("explains %s", (code, reason, hint) => {
    const failure = explain(code);

    expect(failure?.reason).toContain(reason);
    expect(failure?.reason).toContain(code);
    expect(failure?.hint).toContain(hint);
  });

  it.each(["CERT_HAS_EXPIRED", "DEPTH_ZERO_SELF_SIGNED_CERT", "ERR_SSL_DH_KEY_TOO_SMALL"])(
    "names no worker for %s when a command of the user connects",
    (code) => {
      const settings = { ...SETTINGS, program: "command" } as const;
      const failure = tlsFailure(Object.assign(new Error(code), { code }), settings);

      expect(`${failure?.reason ?? ""}: ${failure?.hint ?? ""}`).toMatch(/this (command|machine)/);
      expect(JSON.stringify(failure)).not.toMatch(/worker|configuration/);
    },
  );

  it.each([
    "ECONNRESET",
    "ENOTFOUND",
    "ERR_SSL_SSLV3_ALERT_BAD_RECORD_MAC",
    "ERR_SSL_DECRYPTION_FAILED_OR_BAD_RECORD_MAC",
    "ERR_SSL_UNEXPECTED_EOF_WHILE_READING",
    "ERR_SSL_TLSV1_ALERT_INTERNAL_ERROR",
    "",
  ])("leaves %j to its caller: it may be another the next time", (code) => {
    expect(explain(code)).toBeUndefined();
  });
});
