import type { Readable } from "node:stream";
import { setImmediate as turn, setTimeout as sleep } from "node:timers/promises";
import type { Agent } from "undici";
import type { BandwidthLimit } from "../bytes/bandwidth-limit.ts";
import { formatBytes } from "../domain/byte-size.ts";
import { countEnd, isFinalEnd, type EarlyEnd } from "../domain/early-end.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { DownloadSettings } from "../domain/web-settings.ts";
import type { Continuation, OriginAnswer } from "./origin-answer.ts";
import { isOriginsEnd, refused, SlowOrigin, unavailable } from "./origin-failure.ts";
import type { OriginState } from "./origin-state.ts";
import { RANGE_BYTES, receiveSideBySide } from "./side-by-side.ts";
import { displayedUrl, parseWebUrl } from "./web-url.ts";

/** A resource to download. */
export interface DownloadOrder {
  readonly url: string;
  /** Sent as `X-Auth-Token` to the origin of `url` alone. Default: none. */
  readonly token?: string | undefined;
  /** The end of an earlier download. Default: the complete resource is downloaded. */
  readonly continuation?: Continuation | undefined;
  /** The early ends of earlier attempts. Default: none. */
  readonly earlyEnd?: EarlyEnd | undefined;
  /**
   * Use one connection, because several failed before. Default: false, use those of the settings.
   */
  readonly singleConnection?: boolean;
  /** The largest size that is accepted. */
  readonly maxBytes: number;
  readonly signal: AbortSignal;
}

// A connection that brought fewer bytes is fruitless. After this many in a row the attempt fails,
// so that the next one waits.
const FRUITFUL_BYTES = 1024 * 1024;
const FRUITLESS_CONNECTIONS = 3;
// A server that ends each connection while it restarts gets half a minute before its early ends
// count as final.
const WAIT_PER_SAME_END_MS = 5_000;
// Bytes beyond the Content-Length come with the last bytes, or shortly after them.
const EXCESS_PATIENCE_MS = 50;

function chunksOf(body: Readable | undefined): AsyncIterator<Buffer> | undefined {
  return body?.[Symbol.asyncIterator]() as AsyncIterator<Buffer> | undefined;
}

/**
 * Handles the error of a body that is not read. A body that is read throws its error to the reader.
 */
export function ignore(): void {
  return;
}

/** The bytes of a resource in order, while they arrive. Broken connections are replaced. */
export class WebDownload implements AsyncDisposable {
  readonly #agent: Agent;
  readonly #ask: (from: Continuation | undefined) => Promise<OriginAnswer>;
  readonly #order: DownloadOrder;
  readonly #settings: DownloadSettings;
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
  /** The range of several connections that ends the resource. It has a body once it arrives. */
  #lastRange: { readonly startAt: number; readonly body: Readable | undefined } | undefined;
  #hasAnsweredRange = false;
  #fallBack: WebDownload["fallBack"] = "none";
  #fruitless = 0;
  #earlyEnd: EarlyEnd | undefined;
  #hasExcess = false;
  #windowMs = 0;
  #windowBytes = 0;

  /** For `WebSource.open()` alone. */
  constructor(
    agent: Agent,
    ask: (from: Continuation | undefined) => Promise<OriginAnswer>,
    order: DownloadOrder,
    settings: DownloadSettings,
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
    // undici reports bytes after the end of a response only by this message. It does so for each
    // connection of the agent. The bytes may thus be a 408 with which a server that redirected
    // closes its idle connection: they count only if the last byte may have arrived.
    agent.on("disconnect", (_origin, _targets, error) => {
      if (error.message !== "bad response") return;
      const look = (): void => {
        this.#hasExcess ||= this.#hasArrived();
      };
      // The head of a range is noticed after the bytes that came in one piece with it.
      if (this.#lastRange !== undefined && this.#lastRange.body === undefined) setImmediate(look);
      else look();
    });
  }

  /** The state of the resource. Its size may be unknown until the end. */
  get state(): OriginState {
    return this.#state;
  }

  /**
   * The position of the next byte: at first that of the continuation, or 0 if all is downloaded.
   */
  get offset(): number {
    return this.#offset;
  }

  /**
   * The way to continue after several connections failed. `single`: the rest comes over one
   * connection. `afresh`: the origin responds differently to several requests, so that one response
   * must bring all bytes.
   */
  get fallBack(): "none" | "single" | "afresh" {
    return this.#fallBack;
  }

  /**
   * The early end that this attempt and earlier ones have in common; undefined when this attempt
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
   * Fills the buffer with the bytes that have arrived.
   *
   * @returns the number of these bytes; 0 at the end of the resource
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
    this.#hasExcess = false;
    this.#lastRange = undefined;
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

  /** The bytes of a response and of ranges beside it; undefined when the response comes alone. */
  #receiveSideBySide({ startAt, state, hasRanges, body }: OriginAnswer) {
    const { validator, sizeBytes } = state;
    const connections = this.#connections;
    if (connections === 1 || !hasRanges || body === undefined) return undefined;
    if (validator === null || sizeBytes === null) return undefined;
    if (sizeBytes - startAt <= RANGE_BYTES) return undefined;
    const ask = async (from: number, endAt: number): Promise<Readable> => {
      const isLast = endAt === sizeBytes;
      if (isLast) this.#lastRange = { startAt: from, body: undefined };
      const part = await this.#ask({ startAt: from, endAt, state });
      if (part.startAt === from && part.body !== undefined) {
        if (isLast) this.#lastRange = { startAt: from, body: part.body };
        this.#hasAnsweredRange = true;
        return part.body;
      }
      part.body?.on("error", ignore).destroy();
      throw new Error("it does not support ranges");
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
      // The last chunk marks the end of a body without a length. undici checks any other body.
      this.#chunks = undefined;
      if (this.#state.sizeBytes === null) this.#state = { ...this.#state, sizeBytes: this.#offset };
      if (this.#offset < (this.#state.sizeBytes ?? 0)) throw new Error("the response ended early");
      return undefined;
    }
    this.#watchRate(performance.now() - askedAtMs, next.value.length);
    return next.value;
  }

  /**
   * Throws if the origin is too slow. Only the time of waiting for the origin counts: the reader
   * may be slow.
   */
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
    // Bytes that have arrived but were not read are lost with the connection. They count, so that
    // the end does not depend on the speed of this process.
    const atByte = this.#offset + (this.#isSideBySide ? 0 : (this.#body?.readableLength ?? 0));
    // An end of several connections does not count: one connection may get further.
    const isCounted = !this.#isSideBySide && isOriginsEnd(error);
    await this.#chunks?.return?.();
    this.#chunks = undefined;
    // An origin that refuses several connections may accept one.
    this.#connections = 1;
    // An origin that has never returned a range has sent at most one: little is lost.
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
      const what = `it changed or cannot be resumed, after its connection broke at byte ${atByte}`;
      throw this.#endsEarly(isCounted ? { how: "changed", atByte } : undefined, what, "");
    }
    this.#take(answer);
  }

  /**
   * The failure of an attempt that did not get all bytes. It is final if earlier attempts ended in
   * the same way.
   *
   * @param end - undefined: the next attempt may end in another way
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
      hint: "Check that the server has the complete file, and that no proxy on the way limits its size. Or download the file yourself, and import it as a file.",
    });
  }

  async #askForRest(): Promise<OriginAnswer> {
    try {
      return await this.#ask({ startAt: this.#offset, state: this.#state });
    } catch (error) {
      const isRefused = error instanceof ImportError && error.code === "SourceRefused";
      if (!this.#isSideBySide || !isRefused) throw error;
      // With one connection from the start this request would not have been sent.
      this.#fallBack = "afresh";
      throw unavailable(
        this.#where,
        `it responds differently to several connections, so that the download restarts from byte 0 over one: ${error.message}`,
      );
    }
  }

  /** True if the last byte of the resource may have arrived, read or not. */
  #hasArrived(): boolean {
    // Each of several connections fills a buffer of its own.
    const end = this.#isSideBySide ? this.#lastRange : { startAt: 0, body: this.#body };
    if (end?.body === undefined) return false;
    const arrivedBytes = Math.max(this.#offset, end.startAt) + end.body.readableLength;
    return arrivedBytes >= (this.#state.sizeBytes ?? 0);
  }

  /** Makes sure that no bytes follow the end of the resource. */
  async #end(): Promise<number> {
    if (this.#chunks !== undefined) {
      // Consumes the end of the response, so that undici notices it.
      const next = await this.#chunks.next().catch(ignore);
      if (next?.done === false) this.#hasExcess = true;
      this.#chunks = undefined;
      await sleep(EXCESS_PATIENCE_MS);
      // After a time in which this process was too busy to read, the timer ends first. One more
      // turn of the event loop reads the bytes that have arrived meanwhile.
      await turn();
    }
    if (!this.#hasExcess) return 0;
    throw this.#excess();
  }

  #excess(): ImportError {
    const promisedBytes = this.#state.sizeBytes ?? this.#offset;
    return refused(this.#where, `it sends more than the ${promisedBytes} bytes that it promised`);
  }

  #tooLarge(sizeBytes: number | null): ImportError {
    const has = sizeBytes === null ? "more than the" : `${formatBytes(sizeBytes)}, more than the`;
    return new ImportError(
      "SourceTooLarge",
      `Cannot download ${this.#where}: it has ${has} ${formatBytes(this.#order.maxBytes)} that an image may have`,
    );
  }
}
