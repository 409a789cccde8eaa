import type { Dispatcher } from "undici";
import { timerMs } from "../domain/timer-ms.ts";
import type { EgressPolicy } from "./egress-policy.ts";
import { originFailure, refused, unavailable } from "./origin-failure.ts";
import { displayedUrl } from "./web-url.ts";

const MAX_REDIRECTS = 10;
const REDIRECTS = [301, 302, 303, 307, 308];

/** A request for a resource. */
export interface WebRequest {
  readonly url: URL;
  /** Sent to every origin on the way, so that they must not contain a secret of one of them. */
  readonly headers: Readonly<Record<string, string>>;
  /** Sent to the origin of `url` alone, and to no other on the way. Default: none. */
  readonly secretHeaders?: Readonly<Record<string, string>>;
  /** Time limit for the headers of each response, connection included, in ms. */
  readonly answerTimeoutMs: number;
  /**
   * Bytes of the body that are received before the caller reads them. Default: undici's, 64 KiB.
   */
  readonly aheadBytes?: number | undefined;
  /** Ends the request, and later the body. */
  readonly signal: AbortSignal;
}

/** A response that is not a redirect, with the URL that returned it. */
export interface WebAnswer {
  readonly response: Dispatcher.ResponseData;
  readonly url: URL;
}

/**
 * Sends a GET, and follows redirects: at most ten, each judged like the first URL, and never from
 * https to http.
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
    // The body of a redirect is not needed, and it may be endless.
    response.body.on("error", () => undefined).destroy();
    if (redirects === MAX_REDIRECTS) {
      throw refused(displayedUrl(request.url), `it redirects more than ${MAX_REDIRECTS} times`, {
        hint: "Check the URL. A server that requires a cookie redirects again and again: the worker keeps no cookies.",
      });
    }
    url = nextUrl(url, response.headers["location"]);
  }
}

async function get(
  dispatcher: Dispatcher,
  url: URL,
  request: WebRequest,
): Promise<Dispatcher.ResponseData> {
  const { answerTimeoutMs, aheadBytes, signal } = request;
  const isFirst = url.origin === request.url.origin;
  const headers = { ...request.headers, ...(isFirst ? request.secretHeaders : {}) };
  // undici's own timeout is not used: an origin can extend it without end by interim responses.
  const patience = new AbortController();
  const timer = setTimeout(() => {
    patience.abort(
      unavailable(displayedUrl(url), `no response came within ${answerTimeoutMs / 1000} s`),
    );
  }, timerMs(answerTimeoutMs));
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
    throw refused(where, "it redirects without naming exactly one URL");
  }
  const to = new URL(target, from);
  to.hash = "";
  if (from.protocol === "https:" && to.protocol === "http:") {
    throw refused(where, `it redirects from https to http, to ${displayedUrl(to)}`, {
      hint: "Use that URL itself if the download may go without TLS.",
    });
  }
  return to;
}
