import type { Readable } from "node:stream";
import { setTimeout as sleep } from "node:timers/promises";
import { Agent } from "undici";
import { BandwidthLimit } from "../bytes/bandwidth-limit.ts";
import { formatBytes } from "../domain/byte-size.ts";
import { countEnd, isFinalEnd, type EarlyEnd } from "../domain/early-end.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { DownloadSettings } from "../domain/web-settings.ts";
import { checkedConnector, type ConnectionSettings } from "./checked-connector.ts";
import { EgressPolicy } from "./egress-policy.ts";
import { getFollowing } from "./follow-redirects.ts";
import { judgeAnswer, type Continuation, type OriginAnswer } from "./origin-answer.ts";
import { isOriginsEnd, refused, SlowOrigin, unavailable } from "./origin-failure.ts";
import type { OriginState } from "./origin-state.ts";
import { RANGE_BYTES, receiveSideBySide } from "./side-by-side.ts";
import { displayedUrl, parseWebUrl } from "./web-url.ts";

/** Settings of {@link WebSource}. */
export interface WebSourceSettings extends DownloadSettings, ConnectionSettings {}

/** What to download. */
export interface DownloadOrder {
  readonly url: string;
  /** Where an earlier download ended, and what it downloaded. Default: nowhere, all is wanted. */
  readonly continuation?: Continuation | undefined;
  /** How the attempts before ended early. Default: none did. */
  readonly earlyEnd?: EarlyEnd | undefined;
  /** Several connections failed before: take one. Default: false, as many as the settings say. */
  readonly singleConnection?: boolean;
  /** More is never read, whatever the origin says. */
  readonly maxBytes: number;
  readonly signal: AbortSignal;
}

/**
 * Downloads over http and https, under one policy. Proxies of the environment are not used: they
 * would go around it.
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
   * Asks an origin for a resource, or for the rest of it.
   *
   * @throws ImportError `BadRequest`, `SourceForbidden`, `SourceRefused`, `SourceTooLarge`,
   *   `SourceUnavailable`
   */
  async open(order: DownloadOrder): Promise<WebDownload> {
    const { headerTimeoutMs, idleTimeoutMs, connectTimeoutMs } = this.#settings;
    const url = parseWebUrl(order.url);
    const agent = new Agent({
      connect: checkedConnector(this.#policy, this.#settings),
      // The whole answer has a time limit of its own, interim answers included.
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
      const request = { url, headers, answerTimeoutMs, aheadBytes, signal: order.signal };
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

// A body that nobody reads may fail as it likes; one that is read tells its failure to who reads
// it.
function ignore(): void {
  return;
}

function chunksOf(body: Readable | undefined): AsyncIterator<Buffer> | undefined {
  return body?.[Symbol.asyncIterator]() as AsyncIterator<Buffer> | undefined;
}

// Without a validator nobody could tell whether the rest belongs to what is there.
function rangeOf(from: Continuation | undefined): Record<string, string> {
  if (from?.state.validator == null) return {};
  const last = from.endAt === undefined ? "" : from.endAt - 1;
  return { range: `bytes=${from.startAt}-${last}`, "if-range": from.state.validator };
}

// A connection that brought less is fruitless; after so many in a row it is time to wait before the
// next.
const FRUITFUL_BYTES = 1024 * 1024;
const FRUITLESS_CONNECTIONS = 3;
// A server that ends each connection while it restarts has half a minute before that is taken for
// final.
const WAIT_PER_SAME_END_MS = 5_000;
// What an origin sends beyond its own Content-Length comes with the last bytes, or just behind
// them.
const EXCESS_PATIENCE_MS = 50;

/**
 * A resource that is being downloaded: what arrives, in order. Connections that break are replaced.
 */
export class WebDownload implements AsyncDisposable {
  readonly #agent: Agent;
  readonly #ask: (from: Continuation | undefined) => Promise<OriginAnswer>;
  readonly #order: DownloadOrder;
  readonly #settings: WebSourceSettings;
  readonly #limit: BandwidthLimit | undefined;
  readonly #where: string;
  #body: Readable | undefined;
  #chunks: AsyncIterator<Buffer> | undefined;
  #rest: Buffer = Buffer.alloc(0);
  #offset = 0;
  #state: OriginState = { validator: null, sizeBytes: null };
  #connectedAt = 0;
  #connections: number;
  #isSideBySide = false;
  #hasAnsweredRange = false;
  #fallBack: WebDownload["fallBack"] = "none";
  #fruitless = 0;
  #earlyEnd: EarlyEnd | undefined;
  #hasExcess = false;
  #windowMs = 0;
  #windowBytes = 0;

  /** Not for callers: {@link WebSource.open} makes it. */
  constructor(
    agent: Agent,
    ask: (from: Continuation | undefined) => Promise<OriginAnswer>,
    order: DownloadOrder,
    settings: WebSourceSettings,
    limit: BandwidthLimit | undefined,
  ) {
    this.#agent = agent;
    this.#ask = ask;
    this.#order = order;
    this.#settings = settings;
    this.#connections = order.singleConnection === true ? 1 : (settings.connections ?? 1);
    this.#limit = limit;
    this.#earlyEnd = order.earlyEnd;
    this.#where = displayedUrl(parseWebUrl(order.url));
    agent.on("disconnect", (_origin, _targets, error) => {
      if (error.message === "bad response") this.#hasExcess = true;
    });
  }

  /** What is downloaded; its size may be told only at its end. */
  get state(): OriginState {
    return this.#state;
  }

  /** The byte that comes next; at first where the download goes on, or 0 when it begins afresh. */
  get offset(): number {
    return this.#offset;
  }

  /**
   * Whether several connections failed: `single`, the rest comes over one; `afresh`, the origin
   * does not answer several requests alike, and all is to come in one answer.
   */
  get fallBack(): "none" | "single" | "afresh" {
    return this.#fallBack;
  }

  /**
   * How this attempt and those before it ended early, each in the same way; undefined when this one
   * got further.
   */
  get earlyEnd(): EarlyEnd | undefined {
    return this.#offset > (this.#earlyEnd?.atByte ?? 0) ? undefined : this.#earlyEnd;
  }

  /** Makes the first connection, unless no byte is missing. */
  async begin(): Promise<void> {
    const from = this.#order.continuation;
    if (from !== undefined && from.startAt === from.state.sizeBytes) {
      this.#take({ ...from, hasRanges: true, body: undefined });
      return;
    }
    this.#take(await this.#ask(from?.state.validator == null ? undefined : from));
  }

  /**
   * Fills as much of the buffer as has come.
   *
   * @returns how many bytes it put there; 0 at the end of the whole resource
   * @throws ImportError `SourceUnavailable` when the rest does not come now, or the resource has
   *   changed; `SourceRefused`, `SourceTooLarge`
   */
  async read(buffer: Buffer): Promise<number> {
    while (this.#rest.length === 0) {
      const isEnded = this.#chunks === undefined || this.#offset === this.#state.sizeBytes;
      if (isEnded) return this.#end();
      await this.#receive();
    }
    const lengthBytes = this.#rest.copy(buffer);
    this.#rest = this.#rest.subarray(lengthBytes);
    await this.#limit?.take(lengthBytes, this.#order.signal);
    return lengthBytes;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.destroy();
  }

  #take(answer: OriginAnswer): void {
    const { startAt, state, body } = answer;
    const { maxBytes } = this.#order;
    body?.on("error", ignore);
    if ((state.sizeBytes ?? 0) > maxBytes) throw this.#tooLarge(state.sizeBytes);
    this.#state = state;
    this.#offset = startAt;
    this.#connectedAt = startAt;
    this.#windowMs = 0;
    this.#windowBytes = 0;
    const sideBySide = this.#receiveSideBySide(answer);
    this.#isSideBySide = sideBySide !== undefined;
    this.#hasAnsweredRange ||= startAt > 0;
    this.#body = body;
    this.#chunks = sideBySide ?? chunksOf(body);
  }

  /** The bytes of an answer and of several beside it; undefined when it is to come alone. */
  #receiveSideBySide({ startAt, state, hasRanges, body }: OriginAnswer) {
    const { validator, sizeBytes } = state;
    const connections = this.#connections;
    if (connections === 1 || !hasRanges || body === undefined) return undefined;
    if (validator === null || sizeBytes === null) return undefined;
    if (sizeBytes - startAt <= RANGE_BYTES) return undefined;
    const ask = async (from: number, endAt: number): Promise<Readable> => {
      const part = await this.#ask({ startAt: from, endAt, state });
      if (part.startAt === from && part.body !== undefined) {
        this.#hasAnsweredRange = true;
        return part.body;
      }
      part.body?.on("error", ignore).destroy();
      throw new Error("it can't be asked for ranges");
    };
    return receiveSideBySide({ first: body, startAt, sizeBytes, connections, ask });
  }

  /** Takes the next bytes from the connection, or makes another connection. */
  async #receive(): Promise<void> {
    try {
      const chunk = await this.#next();
      if (chunk === undefined) return;
      this.#rest = chunk;
      this.#offset += chunk.length;
    } catch (error) {
      this.#order.signal.throwIfAborted();
      await this.#reconnect(error);
      return;
    }
    const { maxBytes } = this.#order;
    if (this.#offset > maxBytes) throw this.#tooLarge(null);
    if (this.#offset > (this.#state.sizeBytes ?? Infinity)) throw this.#excess();
  }

  async #next(): Promise<Buffer | undefined> {
    const askedAtMs = performance.now();
    const next = await this.#chunks?.next();
    if (next === undefined || next.done === true) {
      // A body without a length ends where its last chunk says so; any other is checked by undici.
      this.#chunks = undefined;
      if (this.#state.sizeBytes === null) this.#state = { ...this.#state, sizeBytes: this.#offset };
      if (this.#offset < (this.#state.sizeBytes ?? 0)) throw new Error("the answer ended early");
      return undefined;
    }
    this.#watchRate(performance.now() - askedAtMs, next.value.length);
    return next.value;
  }

  /** Only the time counts in which we waited for the origin: whoever reads may be slow. */
  #watchRate(waitedMs: number, lengthBytes: number): void {
    const { idleTimeoutMs, minimumRate } = this.#settings;
    this.#windowMs += waitedMs;
    this.#windowBytes += lengthBytes;
    if (this.#windowMs < idleTimeoutMs) return;
    const rate = this.#windowBytes / (this.#windowMs / 1000);
    this.#windowMs = 0;
    this.#windowBytes = 0;
    if (rate < minimumRate) {
      throw new SlowOrigin(`it sends less than ${formatBytes(minimumRate)}/s`);
    }
  }

  async #reconnect(error: unknown): Promise<void> {
    const reason = error instanceof Error ? error.message : String(error);
    // What has come and was not read is lost with the connection, but counts: how far the origin
    // goes does not depend on how fast this process reads.
    const atByte = this.#offset + (this.#isSideBySide ? 0 : (this.#body?.readableLength ?? 0));
    // After several connections comes one, which may get further.
    const isCounted = !this.#isSideBySide && isOriginsEnd(error);
    await this.#chunks?.return?.();
    this.#chunks = undefined;
    // An origin for which several were too many may serve one.
    this.#connections = 1;
    // At most one range has come from an origin that has never answered with one: little is lost
    // with it.
    if (this.#isSideBySide) this.#fallBack = this.#hasAnsweredRange ? "single" : "afresh";
    this.#fruitless = this.#offset - this.#connectedAt < FRUITFUL_BYTES ? this.#fruitless + 1 : 0;
    if (this.#state.validator === null || this.#fruitless >= FRUITLESS_CONNECTIONS) {
      const ofAll = this.#state.sizeBytes === null ? "" : ` of ${this.#state.sizeBytes}`;
      const what = `its connection broke after ${atByte}${ofAll} bytes`;
      throw this.#endsEarly(isCounted ? { how: "broke", atByte } : undefined, what, `: ${reason}`);
    }
    const answer = await this.#askForRest();
    if (answer.startAt !== this.#offset) {
      answer.body?.on("error", ignore).destroy();
      if (this.#isSideBySide) this.#fallBack = "afresh";
      const what = `it changed, or can't be resumed, when its connection had broken after ${atByte} bytes`;
      throw this.#endsEarly(isCounted ? { how: "changed", atByte } : undefined, what, "");
    }
    this.#take(answer);
  }

  /**
   * The failure of an attempt that did not get all bytes: final when the attempts before it ended
   * in the same way.
   *
   * @param end - undefined: it says nothing of how the next attempt will end
   */
  #endsEarly(end: Omit<EarlyEnd, "times"> | undefined, what: string, cause: string): ImportError {
    const counted = end === undefined ? undefined : countEnd(this.#earlyEnd, end);
    if (end === undefined || counted === undefined) {
      return unavailable(this.#where, `${what}${cause}`);
    }
    this.#earlyEnd = counted;
    const { times } = counted;
    if (!isFinalEnd(counted, this.#state.validator)) {
      const retryAfterMs = times > 1 ? times * WAIT_PER_SAME_END_MS : undefined;
      return unavailable(this.#where, `${what}${cause}`, { retryAfterMs });
    }
    const often = times === 2 ? "twice" : `${times} times`;
    const place = end.how === "broke" ? "at the same place" : "and got no further";
    return refused(this.#where, `${what}, ${often} ${place}${cause}`, {
      hint: "Check that the server has the whole file, and that no proxy on the way limits its size; or download the file yourself, and import it as a file.",
    });
  }

  async #askForRest(): Promise<OriginAnswer> {
    try {
      return await this.#ask({ startAt: this.#offset, state: this.#state });
    } catch (error) {
      const isRefused = error instanceof ImportError && error.code === "SourceRefused";
      if (!this.#isSideBySide || !isRefused) throw error;
      // Over one connection nothing would have been asked for a second time.
      this.#fallBack = "afresh";
      throw unavailable(
        this.#where,
        `it answers several connections differently, and begins afresh over one: ${error.message}`,
      );
    }
  }

  /** The end of a resource is its end only when nothing comes behind it. */
  async #end(): Promise<number> {
    if (this.#chunks !== undefined) {
      // Consumes what tells undici that the answer has ended.
      const next = await this.#chunks.next().catch(ignore);
      if (next?.done === false) this.#hasExcess = true;
      this.#chunks = undefined;
      await sleep(EXCESS_PATIENCE_MS);
    }
    if (!this.#hasExcess) return 0;
    throw this.#excess();
  }

  #excess(): ImportError {
    const promisedBytes = this.#state.sizeBytes ?? this.#offset;
    return refused(this.#where, `it sends more than the ${promisedBytes} bytes that it promised`);
  }

  #tooLarge(sizeBytes: number | null): ImportError {
    const has = sizeBytes === null ? "more than" : `${formatBytes(sizeBytes)}, more than the`;
    return new ImportError(
      "SourceTooLarge",
      `Cannot download ${this.#where}: it has ${has} ${formatBytes(this.#order.maxBytes)} that an image may have`,
    );
  }
}
