import { ImportError } from "../domain/import-failure.ts";

const IMPORT_AS_FILE = "download the file yourself and import it as a file";

/**
 * Reads the URL of a download. Error messages never contain the URL, which may contain a secret.
 *
 * @throws ImportError `BadRequest` when it is not an http or https URL, or has a user name or
 *   password
 */
export function parseWebUrl(text: string): URL {
  // Without a cause: Node's error contains the text.
  if (!URL.canParse(text)) throw notAUrl(mistakeIn(text));
  const url = new URL(text);
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw notFetched(
      `it begins with "${url.protocol}", not with http: or https:`,
      hintForScheme(url.protocol.slice(0, -1)),
    );
  }
  // A URL parser takes the first name after any number of slashes as the host.
  if (/^\s*https?:[\\/]{3,}/i.test(text)) throw notAUrl("it has no host");
  if (url.username !== "" || url.password !== "") {
    throw notFetched(
      "it must not contain a user name or password",
      `Use a URL that needs none, such as a signed one, or ${IMPORT_AS_FILE}.`,
    );
  }
  url.hash = "";
  return url;
}

function notAUrl(mistake: string): ImportError {
  return new ImportError("BadRequest", `Cannot download from the given URI: ${mistake}`, {
    hint: "Use a URL such as https://example.org/disk.qcow2.",
  });
}

/** The failure in Glance's words. */
function notFetched(reason: string, hint: string): ImportError {
  return new ImportError("BadRequest", `URI for web-download does not pass filtering: ${reason}`, {
    hint,
  });
}

/** The reason why a text is not a URL. It does not repeat the text. */
function mistakeIn(text: string): string {
  const [, authority] = /^\s*[a-z][a-z0-9+.-]*:[\\/]*([^\\/?#]*)/i.exec(text) ?? [];
  if (authority === undefined) return "it has no scheme, such as https://";
  const host = authority.replace(/^.*@/, "");
  if (host === "") return "it has no host";
  const [, port] = /^(?:\[[^\]]*\]|[^:[]*):(.*)$/.exec(host) ?? [];
  if (port !== undefined && !(/^\d*$/.test(port) && Number(port) <= 65_535)) {
    return "its port must be a number, 65535 at most";
  }
  return "its host is neither a name nor an address";
}

function hintForScheme(scheme: string): string {
  if (scheme === "file") {
    return "Import a file of this machine by its path: `image-import import PATH`.";
  }
  if (/^(s3a?|gs|gcs|az|abfss?|swift|cinder|rbd|oss|obs)$/.test(scheme)) {
    return "Use an https URL of the object, such as a signed one.";
  }
  // A typing error: a letter too few, too many or misplaced.
  if (/^h?t{0,3}h?p{0,3}x?s{0,2}$/.test(scheme)) return "Did you mean https:// or http://?";
  return `Use a URL that begins with https:// or http://, or ${IMPORT_AS_FILE}.`;
}

// The path of a real image is shorter. A longer one would hide the rest of a message.
const SHOWN_PATH_LENGTH = 500;

/**
 * A URL for users, logs, rows and errors: without user info, query and fragment, which may contain
 * secrets.
 */
export function displayedUrl(url: URL): string {
  const { protocol, host, pathname } = url;
  const isLong = pathname.length > SHOWN_PATH_LENGTH;
  return `${protocol}//${host}${isLong ? `${pathname.slice(0, SHOWN_PATH_LENGTH)}…` : pathname}`;
}

/** A URL, and the token that its origin wants. */
export interface TokenedUrl {
  readonly url: string;
  /** Sent as `X-Auth-Token` to the origin of the URL alone. Default: none. */
  readonly token?: string | undefined;
}

const TOKENED = /^x-auth-token ([\x21-\x7e]+) /;

/**
 * Joins a URL and its token to one text, to be sealed. The text is not a URL, so that a user cannot
 * give it as the URL of a download.
 *
 * @throws ImportError `BadRequest` for a token that cannot stand in a header
 */
export function joinToken(url: string, token: string): string {
  const joined = `x-auth-token ${token} ${url}`;
  if (TOKENED.exec(joined)?.[1] === token) return joined;
  throw new ImportError(
    "BadRequest",
    "Cannot send the token: it has characters that a header cannot contain",
  );
}

/** Splits a text of {@link joinToken}. Any other text is a URL without a token. */
export function splitToken(text: string): TokenedUrl {
  const [head = "", token] = TOKENED.exec(text) ?? [];
  return token === undefined ? { url: text } : { url: text.slice(head.length), token };
}

/**
 * True if a URI has a part that may contain a secret, so that it must be sealed before it leaves
 * the process.
 */
export function needsSealing(uri: string): boolean {
  if (!URL.canParse(uri)) return false;
  const { protocol, username, password, search, hash } = new URL(uri);
  return protocol !== "file:" && [username, password, search, hash].some((part) => part !== "");
}
