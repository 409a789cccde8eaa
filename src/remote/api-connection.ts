import { setTimeout as sleep } from "node:timers/promises";
import { EnvHttpProxyAgent, request, type Dispatcher } from "undici";
import { packageVersion } from "../config/package-version.ts";
import type { ApiAccess } from "../config/api-access.ts";
import { ImportError, UnlistedFailure } from "../domain/import-failure.ts";
import { tlsFailure } from "../domain/tls-failure.ts";
import { refusalOf, WAY_TO_THE_ADDRESS } from "./refusal.ts";

/** One request. */
export interface ApiRequest {
  readonly method: Dispatcher.HttpMethod;
  /** The path below the address of the API, such as `/v1/images`, with the query. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Dispatcher.DispatchOptions["body"];
  readonly signal?: AbortSignal | undefined;
  /** The longest wait for the head of the answer, in ms; 0: without a limit. Default: 60 s. */
  readonly headWithinMs?: number;
  /** The longest time in which no byte of the answer comes, in ms. Default: 60 s. */
  readonly idleMs?: number;
  /** Statuses from 400 on that are returned. Default: none, all are thrown as refusals. */
  readonly expects?: readonly number[];
}

/** A request with an answer in JSON. */
export interface JsonRequest extends Omit<ApiRequest, "body"> {
  readonly json?: unknown;
  /** True if it may be sent again when its answer is lost. Default: true for GET alone. */
  readonly isRepeatable?: boolean;
}

// A restarted API answers within seconds.
const RETRY_EVERY_MS = 1_000;
const PATIENCE_MS = 30_000;
const CONNECT_WITHIN_MS = 10_000;
const ANSWER_WITHIN_MS = 60_000;

/** The connection to an API, with the token of the user. */
export class ApiConnection {
  readonly #access: ApiAccess;
  readonly #agent = new EnvHttpProxyAgent({ connect: { timeout: CONNECT_WITHIN_MS } });
  #hasAnswered = false;

  constructor(access: ApiAccess) {
    this.#access = access;
  }

  /** The address, without a slash at the end. */
  get url(): string {
    return this.#access.url;
  }

  /**
   * Sends a request and returns the answer in JSON. If this API has answered before and becomes
   * unreachable, sends the request again for up to 30 s: the API may restart. A request that is not
   * repeatable is sent again only if the connection was refused.
   *
   * @throws ImportError the refusal; `ApiUnavailable`; `BadConfiguration` for an answer that does
   *   not come from the API
   */
  async json<Answer>({ json, isRepeatable, ...wanted }: JsonRequest): Promise<Answer> {
    const isSafe = isRepeatable ?? wanted.method === "GET";
    const giveUpAtMs = performance.now() + PATIENCE_MS;
    for (;;) {
      try {
        const { body, statusCode } = await this.send({
          ...wanted,
          headers: {
            ...(json === undefined ? {} : { "content-type": "application/json" }),
            ...wanted.headers,
          },
          body: json === undefined ? null : JSON.stringify(json),
        });
        return this.#documentIn(await body.text(), wanted.method, statusCode) as Answer;
      } catch (error) {
        wanted.signal?.throwIfAborted();
        const failure = this.unavailable(error);
        const isWorthIt = this.#hasAnswered && (isSafe || wasNeverSent(failure));
        if (!isUnavailable(failure) || !isWorthIt || performance.now() > giveUpAtMs) throw failure;
        await sleep(RETRY_EVERY_MS, undefined, { signal: wanted.signal });
      }
    }
  }

  /**
   * Sends a request once, and returns the head of the answer with its body. The caller must read or
   * dump the body.
   *
   * @throws ImportError the refusal; `ApiUnavailable`; `BadConfiguration` for a redirect
   */
  async send(wanted: ApiRequest): Promise<Dispatcher.ResponseData> {
    const { method, path, headers = {}, body = null, signal } = wanted;
    const { url, token } = this.#access;
    let answer: Dispatcher.ResponseData;
    try {
      answer = await request(`${url}${path}`, {
        dispatcher: this.#agent,
        method,
        headers: {
          accept: "application/json, */*",
          "user-agent": `image-import/${packageVersion()}`,
          ...headers,
          ...(token === undefined ? {} : { "x-auth-token": token }),
        },
        body,
        ...(signal === undefined ? {} : { signal }),
        headersTimeout: wanted.headWithinMs ?? ANSWER_WITHIN_MS,
        bodyTimeout: wanted.idleMs ?? ANSWER_WITHIN_MS,
      });
    } catch (error) {
      signal?.throwIfAborted();
      throw this.unavailable(error);
    }
    if (answer.statusCode >= 300 && answer.statusCode < 400) {
      await answer.body.dump();
      throw this.#redirected(answer.headers["location"], path);
    }
    this.#hasAnswered = true;
    const isExpected = wanted.expects?.includes(answer.statusCode) ?? false;
    if (answer.statusCode < 400 || isExpected) return answer;
    throw this.refusal(answer.statusCode, await answer.body.text().catch(() => ""));
  }

  /** The API sends no redirects: this answer comes from a proxy, or from another server. */
  #redirected(location: string | readonly string[] | undefined, path: string): ImportError {
    const asked = `${this.url}${path}`;
    const isNamed = typeof location === "string" && URL.canParse(location, asked);
    const target = isNamed ? new URL(location, asked).href : undefined;
    const address = target?.endsWith(path) === true ? target.slice(0, -path.length) : target;
    return new ImportError(
      "BadConfiguration",
      `Cannot use the API at ${this.url}: it answered with a redirect${address === undefined ? "" : ` to ${address}`}`,
      {
        hint:
          address === undefined
            ? WAY_TO_THE_ADDRESS
            : "Name that address with `--api` or IMAGE_IMPORT_API, if you trust it.",
      },
    );
  }

  /** @throws ImportError `BadConfiguration` for an answer that does not come from the API */
  #documentIn(text: string, method: string, status: number): unknown {
    // The answer to a write may have no body.
    if (text === "" && method !== "GET") return undefined;
    try {
      const document: unknown = JSON.parse(text);
      if (typeof document === "object" && document !== null) return document;
    } catch {
      // The failure below says more than that of the parser.
    }
    throw new ImportError(
      "BadConfiguration",
      `Cannot use the API at ${this.url}: it did not answer with JSON (status ${String(status)})`,
      { hint: `Is this the address of an Image Import API? ${WAY_TO_THE_ADDRESS}` },
    );
  }

  /** The failure in an answer. */
  refusal(status: number, text: string): ReturnType<typeof refusalOf> {
    const { url, token } = this.#access;
    return refusalOf(status, text, { url, hasToken: token !== undefined });
  }

  /**
   * The path of a `location` in an answer, below the address of the API. Its host is ignored:
   * behind a proxy the API may not know its own address, and the token is sent to no other host.
   */
  pathOf(location: string, path: string): `/${string}` {
    const base = new URL(this.url).pathname.replace(/\/$/, "");
    const { pathname, search } = new URL(location, `${this.url}${path}`);
    const own = pathname.startsWith(`${base}/`) ? pathname.slice(base.length) : pathname;
    return `/${own.slice(1)}${search}`;
  }

  async close(): Promise<void> {
    await this.#agent.destroy();
  }

  /** The failure of a connection that broke; an answer of the API is returned as it is. */
  unavailable(error: unknown): unknown {
    const isAnswer = error instanceof ImportError || error instanceof UnlistedFailure;
    if (!(error instanceof Error) || isAnswer) return error;
    const code = codeOf(error);
    const tls = tlsFailure(error, {
      caFile: "the environment variable NODE_EXTRA_CA_CERTS",
      address: "the address of the API",
      program: "command",
    });
    const reason = tls?.reason ?? (error.message === "" ? code : error.message);
    return new ImportError("ApiUnavailable", `The API at ${this.url} does not answer: ${reason}`, {
      cause: error,
      ...(tls === undefined ? {} : { hint: tls.hint }),
    });
  }
}

/** True if the API may answer the same request later. */
export function isUnavailable(error: unknown): boolean {
  return error instanceof ImportError && error.code === "ApiUnavailable";
}

function wasNeverSent(error: unknown): boolean {
  const cause = error instanceof Error ? error.cause : undefined;
  return cause instanceof Error && codeOf(cause) === "ECONNREFUSED";
}

function codeOf(error: Error): string {
  if ("code" in error && typeof error.code === "string") return error.code;
  const [first] = error instanceof AggregateError ? (error.errors as unknown[]) : [];
  return first instanceof Error ? codeOf(first) : "";
}
