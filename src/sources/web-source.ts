import { Agent } from "undici";
import { BandwidthLimit } from "../bytes/bandwidth-limit.ts";
import type { DownloadSettings } from "../domain/web-settings.ts";
import { checkedConnector, type ConnectionSettings } from "./checked-connector.ts";
import { EgressPolicy } from "./egress-policy.ts";
import { getFollowing } from "./follow-redirects.ts";
import { judgeAnswer, type Continuation, type OriginAnswer } from "./origin-answer.ts";
import { RANGE_BYTES } from "./side-by-side.ts";
import { ignore, WebDownload, type DownloadOrder } from "./web-download.ts";
import { parseWebUrl } from "./web-url.ts";

/** Settings of {@link WebSource}. */
export interface WebSourceSettings extends DownloadSettings, ConnectionSettings {}

/**
 * Downloads over http and https, under one policy. Proxies of the environment are not used: they
 * would bypass it.
 */
export class WebSource {
  readonly #policy: EgressPolicy;
  readonly #settings: WebSourceSettings;
  readonly #limit: BandwidthLimit | undefined;

  constructor(settings: WebSourceSettings) {
    this.#settings = settings;
    this.#policy = new EgressPolicy(settings);
    const { bandwidthLimit } = settings;
    this.#limit = bandwidthLimit === undefined ? undefined : new BandwidthLimit(bandwidthLimit);
  }

  /**
   * Requests a resource, or the rest of it.
   *
   * @throws ImportError `BadRequest`, `SourceForbidden`, `SourceRefused`, `SourceTooLarge`,
   *   `SourceUnavailable`
   */
  async open(order: DownloadOrder): Promise<WebDownload> {
    const { headerTimeoutMs, idleTimeoutMs, connectTimeoutMs } = this.#settings;
    const url = parseWebUrl(order.url);
    const agent = new Agent({
      connect: checkedConnector(this.#policy, this.#settings),
      // The headers have another time limit, which includes interim responses.
      headersTimeout: 0,
      bodyTimeout: idleTimeoutMs,
    });
    const ask = async (from: Continuation | undefined): Promise<OriginAnswer> => {
      const headers = {
        "accept-encoding": "identity",
        "user-agent": "image-import",
        ...rangeOf(from),
      };
      const answerTimeoutMs = connectTimeoutMs + headerTimeoutMs;
      const aheadBytes = from?.endAt === undefined ? undefined : RANGE_BYTES;
      const { token, signal } = order;
      const secretHeaders = token === undefined ? {} : { "x-auth-token": token };
      const request = { url, headers, secretHeaders, answerTimeoutMs, aheadBytes, signal };
      const answer = await getFollowing(agent, this.#policy, request);
      let judged: OriginAnswer | undefined;
      try {
        judged = judgeAnswer(answer, from);
        if (judged !== undefined) return judged;
      } finally {
        if (judged?.body === undefined) answer.response.body.on("error", ignore).destroy();
      }
      return ask(undefined);
    };
    const download = new WebDownload(agent, ask, order, this.#settings, this.#limit);
    try {
      await download.begin();
      return download;
    } catch (error) {
      await download[Symbol.asyncDispose]();
      throw error;
    }
  }
}

// Without a validator the rest could belong to another state of the resource.
function rangeOf(from: Continuation | undefined): Record<string, string> {
  if (from?.state.validator == null) return {};
  const last = from.endAt === undefined ? "" : from.endAt - 1;
  return { range: `bytes=${from.startAt}-${last}`, "if-range": from.state.validator };
}
