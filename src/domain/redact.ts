// What stands behind the question mark of a URL, or before its @, may be a secret. Text ends at
// what JSON ends it with.
const QUERY = /(\b[a-z][a-z0-9+.-]*:\/\/[^\s"'<>\\?]*)\?[^\s"'<>\\]*/gi;
const CREDENTIALS = /(\b[a-z][a-z0-9+.-]*:\/\/)[^\s"'<>\\/?@]*:[^\s"'<>\\/?]*@/gi;
const TOKEN = /\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}/gi;
/** Shorter ones would be found in ordinary words. */
const SHORTEST_SECRET = 6;

/**
 * A text without secrets: those that are known, queries and credentials of URLs, and tokens become
 * `[hidden]`.
 *
 * @param secrets - passwords and keys as they are written; shorter than 6 characters they are left
 */
export function redact(text: string, secrets: readonly string[]): string {
  let redacted = text;
  for (const secret of secrets) {
    if (secret.length < SHORTEST_SECRET) continue;
    for (const form of new Set([secret, encodeURIComponent(secret), escaped(secret)])) {
      redacted = redacted.replaceAll(form, "[hidden]");
    }
  }
  return redacted
    .replace(QUERY, "$1?[hidden]")
    .replace(CREDENTIALS, "$1[hidden]@")
    .replace(TOKEN, "$1[hidden]");
}

/** As it stands within a JSON document. */
function escaped(secret: string): string {
  return JSON.stringify(secret).slice(1, -1);
}
