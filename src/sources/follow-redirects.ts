import type { Dispatcher } from "undici";
import type { EgressPolicy } from "./egress-policy.ts";
import { originFailure, refused, unavailable } from "./origin-failure.ts";
import { displayedUrl } from "./web-url.ts";

const MAX_REDIRECTS = 10;
const REDIRECTS = [301, 302, 303, 307, 308];

/** What to ask for, and how. */
export interface WebRequest {
  readonly url: URL;
  /** Sent to every origin on the way: nothing that only one of them should know. */
  readonly headers: Readonly<Record<string, string>>;
  /** How long to wait for the head of each answer, connection included, in ms. */
  readonly answerTimeoutMs: number;
  /**
   * How much of the body is received before anybody reads it, in bytes. Default: undici's, 64 KiB.
   */
  readonly aheadBytes?: number | undefined;
  /** Ends the request, and later the body. */
  readonly signal: AbortSignal;
}

/** An answer that is no redirect, and who gave it. */
export interface WebAnswer {
  readonly response: Dispatcher.ResponseData;
  readonly url: URL;
}

/**
 * Sends a GET, and goes where redirects lead: ten at most, each judged like the first URL, and
 * never from https to http.
 *
 * @throws ImportError `SourceForbidden`, `SourceRefused`, `SourceUnavailable`
 */
export async function getFollowing(
  dispatcher: Dispatcher,
  policy: EgressPolicy,
  request: WebRequest,
): Promise<WebAnswer> {
  let { url } = request;
  for (let redirects = 0; ; redirects += 1) {
    policy.requireUrl(url);
    const response = await get(dispatcher, url, request);
    if (!REDIRECTS.includes(response.statusCode)) return { response, url };
    // Nobody reads it, and it may be endless.
    response.body.on("error", () => undefined).destroy();
    if (redirects === MAX_REDIRECTS) {
      throw refused(displayedUrl(request.url), `it redirects more than ${MAX_REDIRECTS} times`, {
        hint: "Check the URL; a server that waits for a cookie does so, and the worker keeps none.",
      });
    }
    url = nextUrl(url, response.headers["location"]);
  }
}

async function get(
  dispatcher: Dispatcher,
  url: URL,
  { headers, answerTimeoutMs, aheadBytes, signal }: WebRequest,
): Promise<Dispatcher.ResponseData> {
  // Not the timeout of undici: an origin keeps that one waiting with interim answers for as long as
  // it likes.
  const patience = new AbortController();
  const timer = setTimeout(() => {
    patience.abort(unavailable(displayedUrl(url), `no answer came in ${answerTimeoutMs / 1000} s`));
  }, answerTimeoutMs);
  try {
    return await dispatcher.request({
      origin: url.origin,
      path: url.pathname + url.search,
      method: "GET",
      headers,
      ...(aheadBytes === undefined ? {} : { highWaterMark: aheadBytes }),
      signal: AbortSignal.any([signal, patience.signal]),
    });
  } catch (error) {
    signal.throwIfAborted();
    throw originFailure(error, displayedUrl(url));
  } finally {
    clearTimeout(timer);
  }
}

function nextUrl(from: URL, location: string | string[] | undefined): URL {
  const where = displayedUrl(from);
  const [target = "", ...others] = new Set([location ?? []].flat());
  if (target === "" || others.length > 0 || !URL.canParse(target, from.href)) {
    throw refused(where, "it redirects, and does not name one URL to go to");
  }
  const to = new URL(target, from);
  to.hash = "";
  if (from.protocol === "https:" && to.protocol === "http:") {
    throw refused(where, `it redirects from https to http, to ${displayedUrl(to)}`, {
      hint: "Name that URL itself if the bytes may come without TLS.",
    });
  }
  return to;
}
