// The query of a URL, and the user before its @, may be secrets: some services take a token as the
// user. A URL ends at a quotation mark or a backslash at the latest: it may be in a JSON string.
const QUERY = /((?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,30}:\/\/[^\s"'<>\\?]*)\?[^\s"'<>\\]*/gi;
const CREDENTIALS = /((?<![a-z0-9+.-])[a-z][a-z0-9+.-]{0,30}:\/\/)[^\s"'<>\\/?]+@/gi;
const TOKEN = /\b((?:bearer|basic)\s+)[A-Za-z0-9._~+/=-]{8,}/gi;
/** Shorter secrets would match ordinary words. */
const SHORTEST_SECRET = 6;

/**
 * Replaces secrets by `[hidden]`: the known ones, queries and credentials of URLs, and tokens.
 *
 * @param secrets - passwords and keys as they are written; those below 6 characters are not
 *   replaced
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

/** The text in the escaped form of a JSON string. */
function escaped(secret: string): string {
  return JSON.stringify(secret).slice(1, -1);
}

// The query and the fragment of a text that is a URL as a whole, and the part before its @.
const URL_END = /^(\s*[a-z][a-z0-9+.-]*:[\\/]*[^?#]*)[?#][^]*/i;
const URL_USER = /^(\s*[a-z][a-z0-9+.-]*:[\\/]+)[^\\/?#]*@/i;

/**
 * Replaces possible secrets by `[hidden]` in all texts of a JSON object, see {@link redact}. A text
 * that is just a URL loses its query, fragment and user.
 */
export function redactValues<Value extends Readonly<Record<string, unknown>>>(value: Value): Value {
  return JSON.parse(JSON.stringify(value), (_name, each: unknown) =>
    typeof each === "string" ? redactText(each) : each,
  ) as Value;
}

function redactText(text: string): string {
  return redact(text.replace(URL_END, "$1?[hidden]").replace(URL_USER, "$1[hidden]@"), []);
}
