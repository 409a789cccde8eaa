import { ImportError } from "../domain/import-failure.ts";

/**
 * Reads the URL of a download. What it is told in is never the URL itself, which may hold a secret.
 *
 * @throws ImportError `BadRequest` when it is no URL, not one of http or https, or has a user name or password
 */
export function parseWebUrl(text: string): URL {
  // No cause: Node's error has the text in it.
  if (!URL.canParse(text)) throw new ImportError("BadRequest", "The URI to download is no URL");
  const url = new URL(text);
  if (url.protocol !== "http:" && url.protocol !== "https:") {
    throw notFetched(`it begins with "${url.protocol}", and must begin with http: or https:`);
  }
  if (url.username !== "" || url.password !== "") {
    throw notFetched("it must hold no user name or password");
  }
  url.hash = "";
  return url;
}

/** Glance's words. */
function notFetched(reason: string): ImportError {
  return new ImportError("BadRequest", `URI for web-download does not pass filtering: ${reason}`);
}

/** A URL as people, logs, rows and errors may see it: without user info, query and fragment, where secrets are kept. */
export function displayedUrl(url: URL): string {
  return `${url.protocol}//${url.host}${url.pathname}`;
}

/** Whether a URI has a part in which secrets are kept, so that it must be sealed before it goes anywhere. */
export function needsSealing(uri: string): boolean {
  if (!URL.canParse(uri)) return false;
  const url = new URL(uri);
  return displayedUrl(url) !== url.href && url.protocol !== "file:";
}
