import { once } from "node:events";
import {
  Agent,
  createServer,
  request as sendRequest,
  type ClientRequest,
  type IncomingMessage,
  type ServerResponse,
} from "node:http";
import type { AddressInfo } from "node:net";
import { Transform, type TransformCallback } from "node:stream";
import { text } from "node:stream/consumers";
import { pipeline } from "node:stream/promises";
import { afterAll, beforeAll, onTestFinished } from "vitest";

/** The requests of S3 that tests tell apart; the rest is `Other`. */
export type S3Operation =
  | "AbortMultipartUpload"
  | "CompleteMultipartUpload"
  | "CopyObject"
  | "CreateBucket"
  | "CreateMultipartUpload"
  | "DeleteObject"
  | "DeleteObjects"
  | "GetObject"
  | "HeadBucket"
  | "HeadObject"
  | "ListMultipartUploads"
  | "ListObjects"
  | "ListParts"
  | "PutObject"
  | "UploadPart"
  | "UploadPartCopy"
  | "Other";

/** One request that a client sent, also while it still does. */
export interface S3Request {
  readonly method: string;
  /** As it was sent: `/bucket/key`, encoded. */
  readonly path: string;
  readonly query: URLSearchParams;
  readonly operation: S3Operation;
  /** The part of an UploadPart or UploadPartCopy. */
  readonly partNumber: number | undefined;
  /** The number of body bytes that the client has sent so far. */
  readonly bodyBytes: number;
  /**
   * The status that the client received; undefined before, or if it never received one.
   */
  readonly status: number | undefined;
}

/** The requests that fail, and their fault. */
export interface S3FaultRule {
  readonly when: (request: S3Request) => boolean;
  /** The number of these requests. Default: 1. */
  readonly times?: number;
  readonly fault: S3Fault;
}

/** The treatment of a request instead of passing it on: see the functions that make one. */
export type S3Fault = (exchange: Exchange) => Promise<void>;

/**
 * Stands between a client and a real S3 server: passes requests and answers on as they are, keeps
 * account of them, and fails where a test wants it. What a client signs for this endpoint is valid
 * at the server, which sees the same Host.
 */
export class S3Proxy {
  readonly #target: { readonly endpoint: string };
  readonly #agent = new Agent({ keepAlive: true });
  readonly #server = createServer({ keepAliveTimeout: 0, requestTimeout: 0 });
  readonly #requests: S3Request[] = [];
  readonly #rules: { readonly rule: S3FaultRule; timesLeft: number }[] = [];

  /** Its target may start later, and be asked for its address then. */
  constructor(target: { readonly endpoint: string }) {
    this.#target = target;
    const handle = (request: IncomingMessage, response: ServerResponse): void => {
      void this.#handle(request, response);
    };
    this.#server.on("request", handle);
    // Else it would tell a client to continue before the server has.
    this.#server.on("checkContinue", handle);
  }

  /** Opens a way to this server that ends with the running test. */
  static async open(target: { readonly endpoint: string }): Promise<S3Proxy> {
    const proxy = new S3Proxy(target);
    await proxy.start();
    onTestFinished(() => {
      proxy.close();
    });
    return proxy;
  }

  /** Address without a path, `http://127.0.0.1:PORT`, once it was started. */
  get endpoint(): string {
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** All requests so far, in the order in which they came. */
  get requests(): readonly S3Request[] {
    return this.#requests;
  }

  /**
   * Makes the next requests that match go wrong. Of several rules for one request the oldest that
   * is left applies.
   */
  inject(rule: S3FaultRule): void {
    this.#rules.push({ rule, timesLeft: rule.times ?? 1 });
  }

  async start(): Promise<void> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
  }

  /** Ends all connections. */
  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
    this.#agent.destroy();
  }

  async #handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const exchange = new Exchange(request, response, {
      endpoint: this.#target.endpoint,
      agent: this.#agent,
    });
    this.#requests.push(exchange.record);
    const fault = this.#takeFault(exchange.record) ?? passesOn;
    try {
      await fault(exchange);
    } catch {
      // The server or the client is gone: the other one sees its connection break.
      exchange.reset();
    }
  }

  #takeFault(request: S3Request): S3Fault | undefined {
    const entry = this.#rules.find(({ rule, timesLeft }) => timesLeft > 0 && rule.when(request));
    if (entry === undefined) return undefined;
    entry.timesLeft -= 1;
    return entry.rule.fault;
  }
}

/**
 * Opens a way to an S3 server before the tests of a file, after the server has started, and closes
 * it after them.
 */
export function useS3Proxy(target: { readonly endpoint: string }): S3Proxy {
  const proxy = new S3Proxy(target);
  beforeAll(() => proxy.start());
  afterAll(() => {
    proxy.close();
  });
  return proxy;
}

/** The server is said to be busy, `503 SlowDown`, and never hears of the request. */
export function slowDown({ retryAfterSeconds = 1 } = {}): S3Fault {
  return async (exchange) => {
    await exchange.takeBody();
    exchange.answer(503, errorXml("SlowDown", "Please reduce your request rate."), {
      "Retry-After": String(retryAfterSeconds),
    });
  };
}

/**
 * A CompleteMultipartUpload fails after its status was sent: `InternalError` inside of an answer
 * with status 200. `completes` says whether the server has done it all the same.
 */
export function internalErrorInside200({ completes }: { readonly completes: boolean }): S3Fault {
  return async (exchange) => {
    if (completes) await text(await exchange.forward());
    else await exchange.takeBody();
    const message = "We encountered an internal error. Please try again.";
    exchange.answer(200, errorXml("InternalError", message));
  };
}

/**
 * The connection is reset at this byte of the request's body; one with a shorter body passes. With
 * 0, at once.
 */
export function resetAfter(bodyBytes: number): S3Fault {
  return async (exchange) => {
    if (bodyBytes === 0) exchange.reset();
    else await exchange.relay(await exchange.forward({ resetAfterBytes: bodyBytes }));
  };
}

/** The server does what it is asked, and the connection is reset instead of its answer. */
export function loseAnswer(): S3Fault {
  return async (exchange) => {
    await text(await exchange.forward());
    exchange.reset();
  };
}

/** Takes the request, which the server never hears of, and never answers. */
export function stall(): S3Fault {
  return async (exchange) => {
    exchange.sendContinue();
    await exchange.takeBody();
  };
}

/**
 * The server does what it is asked; each ETag in its answer, in a header or in XML, is another one.
 */
export function wrongETag(): S3Fault {
  return async (exchange) => {
    const answer = await exchange.forward();
    const headers = answer.rawHeaders.map((value, index, all) =>
      all[index - 1]?.toLowerCase() === "etag" && index % 2 === 1 ? changeETag(value) : value,
    );
    const isXml = answer.headers["content-type"]?.includes("xml") === true;
    await exchange.relay(answer, { headers, ...(isXml ? { change: changeETags } : {}) });
  };
}

/** A request and its answer on their way. */
class Exchange {
  readonly record: Writable<S3Request>;
  readonly #request: IncomingMessage;
  readonly #response: ServerResponse;
  readonly #server: Server;

  constructor(request: IncomingMessage, response: ServerResponse, server: Server) {
    this.#request = request;
    this.#response = response;
    this.#server = server;
    this.record = describeRequest(request);
    // The server's own answer has one.
    response.sendDate = false;
    // Clients break connections as they like.
    request.on("error", () => undefined);
    response.on("error", () => undefined);
  }

  /** Lets a client that asks first send its body. */
  sendContinue(): void {
    if (this.#asksFirst) this.#response.writeContinue();
  }

  /** Reads the body to its end, except of a client that waits for a 100 and has not received it. */
  async takeBody(): Promise<void> {
    const meter = this.#request.pipe(new Meter(this.record));
    meter.resume();
    if (!this.#asksFirst) await once(meter, "end");
  }

  /** Passes the request on. @returns the head of the server's answer */
  async forward({ resetAfterBytes = Infinity } = {}): Promise<IncomingMessage> {
    const request = this.#startRequest();
    const meter = new Meter(this.record, resetAfterBytes, () => {
      request.destroy();
      this.reset();
    });
    this.#request.pipe(meter).pipe(request);
    const [answer] = (await once(request, "response")) as [IncomingMessage];
    return answer;
  }

  /**
   * Passes an answer on. @param options - `headers`: others, `change`: of the body, which is read
   * whole then
   */
  async relay(
    answer: IncomingMessage,
    {
      headers = answer.rawHeaders,
      change,
    }: { readonly headers?: string[]; readonly change?: (body: string) => string } = {},
  ): Promise<void> {
    const body = change === undefined ? answer : change(await text(answer));
    this.record.status = answer.statusCode;
    this.#response.writeHead(answer.statusCode ?? 0, answer.statusMessage, headers);
    if (typeof body === "string") this.#response.end(body);
    else await pipeline(body, this.#response);
  }

  /** Answers in the server's place. */
  answer(status: number, body: string, headers: Readonly<Record<string, string>> = {}): void {
    this.record.status = status;
    this.#response.writeHead(status, {
      ...headers,
      "Content-Type": "application/xml",
      "Content-Length": Buffer.byteLength(body),
      // Without a 100 the next bytes of the client may be its body or another request.
      ...(this.#asksFirst ? { Connection: "close" } : {}),
    });
    this.#response.end(body);
  }

  /** Resets the client's connection. */
  reset(): void {
    this.#request.socket.resetAndDestroy();
  }

  get #asksFirst(): boolean {
    return this.#request.headers.expect !== undefined;
  }

  #startRequest(): ClientRequest {
    const { hostname, port } = new URL(this.#server.endpoint);
    const request = sendRequest({
      hostname,
      port,
      agent: this.#server.agent,
      method: this.#request.method,
      path: this.#request.url,
      // All as they came, their order, their spelling and the Host included: they are signed.
      headers: this.#request.rawHeaders,
      setHost: false,
    });
    // An error before the answer ends the wait for it, one after it ends the answer.
    request.on("error", () => undefined);
    request.on("continue", () => {
      this.#response.writeContinue();
    });
    this.#response.on("close", () => {
      if (!this.#response.writableFinished) request.destroy();
    });
    // A client that asks first sends nothing before the server has seen these.
    request.flushHeaders();
    return request;
  }
}

interface Server {
  readonly endpoint: string;
  readonly agent: Agent;
}

type Writable<Type> = { -readonly [Key in keyof Type]: Type[Key] };

/** Counts what passes, and lets no more than its limit pass. */
class Meter extends Transform {
  readonly #record: Writable<S3Request>;
  readonly #limitBytes: number;
  readonly #onLimit: () => void;

  constructor(
    record: Writable<S3Request>,
    limitBytes = Infinity,
    onLimit: () => void = () => undefined,
  ) {
    super();
    this.#record = record;
    this.#limitBytes = limitBytes;
    this.#onLimit = onLimit;
  }

  override _transform(chunk: Buffer, _encoding: BufferEncoding, done: TransformCallback): void {
    const passing = chunk.subarray(0, this.#limitBytes - this.#record.bodyBytes);
    this.#record.bodyBytes += passing.length;
    this.push(passing);
    // Never done then: nothing more comes through.
    if (this.#record.bodyBytes >= this.#limitBytes) this.#onLimit();
    // A server that has answered early breaks the connection: its answer is to be read before more
    // is sent.
    else setImmediate(done);
  }
}

async function passesOn(exchange: Exchange): Promise<void> {
  await exchange.relay(await exchange.forward());
}

function describeRequest(request: IncomingMessage): Writable<S3Request> {
  const { method = "", url = "" } = request;
  const [path = "", query] = url.split("?", 2);
  const parameters = new URLSearchParams(query);
  const partNumber = parameters.get("partNumber");
  return {
    method,
    path,
    query: parameters,
    operation: operationOf(method, path, parameters, "x-amz-copy-source" in request.headers),
    partNumber: partNumber === null ? undefined : Number(partNumber),
    bodyBytes: 0,
    status: undefined,
  };
}

function operationOf(
  method: string,
  path: string,
  query: URLSearchParams,
  isCopy: boolean,
): S3Operation {
  const [, bucket = "", ...key] = path.split("/");
  const level = key.join("/") !== "" ? "object" : bucket !== "" ? "bucket" : "service";
  const names = ["uploads", "uploadId", "partNumber", "delete", "list-type"];
  const parameters = names.filter((name) => query.has(name)).join("+");
  switch (`${method} ${level} ${parameters}`.trimEnd()) {
    case "PUT object":
      return isCopy ? "CopyObject" : "PutObject";
    case "PUT object uploadId+partNumber":
      return isCopy ? "UploadPartCopy" : "UploadPart";
    case "POST object uploads":
      return "CreateMultipartUpload";
    case "POST object uploadId":
      return "CompleteMultipartUpload";
    case "DELETE object uploadId":
      return "AbortMultipartUpload";
    case "GET object uploadId":
      return "ListParts";
    case "GET object":
    case "GET object partNumber":
      return "GetObject";
    case "HEAD object":
    case "HEAD object partNumber":
      return "HeadObject";
    case "DELETE object":
      return "DeleteObject";
    case "PUT bucket":
      return "CreateBucket";
    case "HEAD bucket":
      return "HeadBucket";
    case "GET bucket":
    case "GET bucket list-type":
      return "ListObjects";
    case "GET bucket uploads":
      return "ListMultipartUploads";
    case "POST bucket delete":
      return "DeleteObjects";
    default:
      return "Other";
  }
}

function errorXml(code: string, message: string): string {
  return (
    '<?xml version="1.0" encoding="UTF-8"?>\n' +
    `<Error><Code>${code}</Code><Message>${message}</Message><RequestId>0</RequestId></Error>`
  );
}

function changeETags(xml: string): string {
  return xml.replace(/(?<=<ETag>)[^<]*/g, changeETag);
}

/** Its length stays, and what follows a digest: the count of an object's parts. */
function changeETag(eTag: string): string {
  return eTag.replace(/[0-9a-f]{32}/, (digest) =>
    digest.replace(/./g, (digit) => (15 - parseInt(digit, 16)).toString(16)),
  );
}
