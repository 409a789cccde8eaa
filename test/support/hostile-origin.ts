import { once } from "node:events";
import { createServer, type AddressInfo, type Server, type Socket } from "node:net";
import { createServer as createTlsServer } from "node:tls";
import { onTestFinished } from "vitest";

/** A request as it came. */
export interface OriginRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
}

/** The behaviour of an origin at each request. */
export type Behaviour = (exchange: Exchange) => Promise<void>;

/**
 * One request and the connection on which it came: all that an origin says is said here, byte for
 * byte.
 */
export class Exchange {
  readonly request: OriginRequest;
  /** The number of requests before this one. */
  readonly earlier: number;
  /** The number of body bytes that the connection has accepted. */
  sentBytes = 0;
  readonly #socket: Socket;
  readonly #gone: Promise<void>;

  constructor(socket: Socket, request: OriginRequest, earlier: number) {
    this.#socket = socket;
    this.#gone = new Promise((resolve) => socket.once("close", resolve));
    this.request = request;
    this.earlier = earlier;
  }

  /** The first byte that the client requests; undefined when it requests all. */
  get from(): number | undefined {
    return this.#range?.from;
  }

  /**
   * The first byte that the client does not want any more; undefined when it wants all to the end.
   */
  get to(): number | undefined {
    return this.#range?.to;
  }

  get #range(): { readonly from: number; readonly to: number | undefined } | undefined {
    const match = /^bytes=(\d+)-(\d*)$/.exec(this.request.headers["range"] ?? "");
    if (match === null) return undefined;
    const [, from, last = ""] = match;
    return { from: Number(from), to: last === "" ? undefined : Number(last) + 1 };
  }

  /** True while the client is connected. */
  get isOpen(): boolean {
    return !this.#socket.destroyed && this.#socket.writable;
  }

  /** Says the head of an answer. */
  head(status: number, headers: Readonly<Record<string, string | number>> = {}): void {
    const lines = Object.entries(headers).map(([name, value]) => `${name}: ${String(value)}\r\n`);
    this.#socket.write(`HTTP/1.1 ${String(status)} Whatever\r\n${lines.join("")}\r\n`);
  }

  /** Says some bytes, and waits until the connection takes more. */
  async send(said: Buffer | string): Promise<void> {
    const bytes = typeof said === "string" ? Buffer.from(said, "latin1") : said;
    for (let at = 0; at < bytes.length && this.isOpen; at += PIECE_BYTES) {
      const piece = bytes.subarray(at, at + PIECE_BYTES);
      this.sentBytes += piece.length;
      if (this.#socket.write(piece)) continue;
      // A broken connection is not a failure of the origin.
      await Promise.race([once(this.#socket, "drain").catch(() => undefined), this.gone()]);
    }
  }

  /** Says some bytes as a chunk. */
  async chunk(bytes: Buffer): Promise<void> {
    await this.send(`${bytes.length.toString(16)}\r\n`);
    await this.send(bytes);
    await this.send("\r\n");
  }

  /** Ends the connection when all is sent. */
  end(): void {
    this.#socket.end();
  }

  /** Breaks the connection: what is on its way may be lost. */
  reset(): void {
    this.#socket.resetAndDestroy();
  }

  /** Waits until the client is gone. */
  async gone(): Promise<void> {
    if (!this.#socket.destroyed) await this.#gone;
  }

  /** Waits a little, or until the client is gone. */
  async pause(durationMs: number): Promise<void> {
    let timer: NodeJS.Timeout | undefined;
    const rest = new Promise<void>((resolve) => (timer = setTimeout(resolve, durationMs)));
    await Promise.race([rest, this.gone()]);
    clearTimeout(timer);
  }
}

const PIECE_BYTES = 64 * 1024;

/** Settings of {@link HostileOrigin}. */
export interface OriginOptions {
  /** Speaks TLS with this certificate. Default: plain HTTP. */
  readonly tls?: { readonly key: string; readonly cert: string };
}

/** A server with a given behaviour, on a port of its own. */
export class HostileOrigin {
  readonly exchanges: Exchange[] = [];
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  readonly #scheme: string;

  private constructor(behaviour: Behaviour, { tls }: OriginOptions) {
    const serve = (socket: Socket): void => {
      this.#serve(socket, behaviour);
    };
    this.#scheme = tls === undefined ? "http" : "https";
    this.#server = tls === undefined ? createServer(serve) : createTlsServer(tls, serve);
  }

  /** Starts one. It is gone when the test has finished. */
  static async start(behaviour: Behaviour, options: OriginOptions = {}): Promise<HostileOrigin> {
    const origin = await HostileOrigin.open(behaviour, options);
    onTestFinished(() => origin.stop());
    return origin;
  }

  /** Starts an origin that the caller stops. */
  static async open(behaviour: Behaviour, options: OriginOptions = {}): Promise<HostileOrigin> {
    const origin = new HostileOrigin(behaviour, options);
    origin.#server.listen(0, "127.0.0.1");
    await once(origin.#server, "listening");
    return origin;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** A URL on it. */
  url(path = "/disk.img", host = "127.0.0.1"): string {
    return `${this.#scheme}://${host}:${String(this.port)}${path}`;
  }

  /** Body bytes that were sent in all. */
  get sentBytes(): number {
    return this.exchanges.reduce((sum, { sentBytes }) => sum + sentBytes, 0);
  }

  /** Every request that came. */
  get requests(): OriginRequest[] {
    return this.exchanges.map(({ request }) => request);
  }

  /** Ends all connections and takes no more. */
  async stop(): Promise<void> {
    if (!this.#server.listening) return;
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #serve(socket: Socket, behaviour: Behaviour): void {
    this.#sockets.add(socket);
    socket.on("close", () => this.#sockets.delete(socket));
    // A client that goes away is what many of these are for.
    socket.on("error", () => undefined);
    let text = "";
    socket.on("data", (data: Buffer) => {
      text += data.toString("latin1");
      const end = text.indexOf("\r\n\r\n");
      if (end < 0) return;
      const request = parseRequest(text.slice(0, end));
      text = text.slice(end + 4);
      const exchange = new Exchange(socket, request, this.exchanges.length);
      this.exchanges.push(exchange);
      void behaviour(exchange);
    });
  }
}

function parseRequest(text: string): OriginRequest {
  const [line = "", ...rest] = text.split("\r\n");
  const [method = "", path = ""] = line.split(" ");
  const headers = rest.map((each) => {
    const at = each.indexOf(":");
    return [each.slice(0, at).toLowerCase(), each.slice(at + 1).trim()];
  });
  return { method, path, headers: Object.fromEntries(headers) as Record<string, string> };
}

const ETAG = '"one"';

/** An origin as it should be: it has ranges and a strong validator, and no HEAD. */
export function honest(bytes: Buffer, etag = ETAG): Behaviour {
  return async (exchange) => {
    await sendUpTo(exchange, bytes, bytes.length, etag);
  };
}

/**
 * The head of an answer with all bytes, or with those from where the client wants to continue.
 * Returns where that is.
 */
export function beginAnswer(
  exchange: Exchange,
  bytes: Buffer,
  etag = ETAG,
  more: Readonly<Record<string, string | number>> = {},
): number {
  const { from, request } = exchange;
  if (request.method !== "GET") {
    exchange.head(405, { "content-length": 0 });
    exchange.end();
    return bytes.length;
  }
  const isResumed = from !== undefined && request.headers["if-range"] === etag;
  if (isResumed && from >= bytes.length) {
    const range = `bytes */${String(bytes.length)}`;
    exchange.head(416, { "content-range": range, "content-length": 0 });
    return bytes.length;
  }
  const start = isResumed ? from : 0;
  const end = isResumed ? Math.min(exchange.to ?? Infinity, bytes.length) : bytes.length;
  const range = `bytes ${String(start)}-${String(end - 1)}/${String(bytes.length)}`;
  exchange.head(isResumed ? 206 : 200, {
    "content-length": end - start,
    etag,
    ...(isResumed ? { "content-range": range } : {}),
    ...more,
  });
  return start;
}

/**
 * Responds correctly, but stops at a byte. The caller then decides about the connection.
 */
export async function sendUpTo(
  exchange: Exchange,
  bytes: Buffer,
  end: number,
  etag = ETAG,
): Promise<void> {
  const start = beginAnswer(exchange, bytes, etag);
  const wanted = Math.min(end, start === exchange.from ? (exchange.to ?? end) : end);
  if (start < wanted) await exchange.send(bytes.subarray(start, wanted));
}
