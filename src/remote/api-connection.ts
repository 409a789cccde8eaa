import { setTimeout as sleep } from "node:timers/promises";
import { EnvHttpProxyAgent, request, type Dispatcher } from "undici";
import { packageVersion } from "../config/package-version.ts";
import type { ApiAccess } from "../config/api-access.ts";
import { ImportError } from "../domain/import-failure.ts";
import { tlsFailure } from "../domain/tls-failure.ts";
import { refusalOf } from "./refusal.ts";

/** One request. */
export interface ApiRequest {
  readonly method: Dispatcher.HttpMethod;
  /** Such as `/v1/images`, with the query. */
  readonly path: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Dispatcher.DispatchOptions["body"];
  readonly signal?: AbortSignal | undefined;
  /** The longest wait for the head of the answer, in ms; 0: without a limit. Default: 60 s. */
  readonly headWithinMs?: number;
  /** The longest time in which no byte of the answer comes, in ms. Default: 60 s. */
  readonly idleMs?: number;
  /** Statuses from 400 on that are answers, too. Default: none, all are refusals. */
  readonly expects?: readonly number[];
}

/** A request with an answer in JSON. */
export interface JsonRequest extends Omit<ApiRequest, "body"> {
  readonly json?: unknown;
  /** True if it may be sent again when its answer is lost. Default: those with GET. */
  readonly isRepeatable?: boolean;
}

// A restarted API answers within seconds.
const RETRY_EVERY_MS = 1_000;
const PATIENCE_MS = 30_000;
const CONNECT_WITHIN_MS = 10_000;
const ANSWER_WITHIN_MS = 60_000;

/** The way to an API, with the token of the user. */
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
   * Sends a request and returns the answer in JSON. An API that has answered before is waited for,
   * while it is restarted.
   *
   * @throws ImportError the refusal; `ApiUnavailable`, `AccessDenied`
   */
  async json<Answer>({ json, isRepeatable, ...wanted }: JsonRequest): Promise<Answer> {
    const isSafe = isRepeatable ?? wanted.method === "GET";
    const giveUpAtMs = Date.now() + PATIENCE_MS;
    for (;;) {
      try {
        const { body } = await this.send({
          ...wanted,
          headers: {
            ...(json === undefined ? {} : { "content-type": "application/json" }),
            ...wanted.headers,
          },
          body: json === undefined ? null : JSON.stringify(json),
        });
        const text = await body.text();
        return (text === "" ? undefined : JSON.parse(text)) as Answer;
      } catch (error) {
        wanted.signal?.throwIfAborted();
        const failure = this.unavailable(error);
        const isWorthIt = this.#hasAnswered && (isSafe || wasNeverSent(failure));
        if (!isUnavailable(failure) || !isWorthIt || Date.now() > giveUpAtMs) throw failure;
        await sleep(RETRY_EVERY_MS, undefined, { signal: wanted.signal });
      }
    }
  }

  /**
   * Sends a request once, and returns the head of the answer with its body, which must be read.
   *
   * @throws ImportError the refusal; `ApiUnavailable`, `AccessDenied`
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
    this.#hasAnswered = true;
    const isExpected = wanted.expects?.includes(answer.statusCode) ?? false;
    if (answer.statusCode < 400 || isExpected) return answer;
    throw this.refusal(answer.statusCode, await answer.body.text().catch(() => ""));
  }

  /** The failure in an answer. */
  refusal(status: number, text: string): ReturnType<typeof refusalOf> {
    const { url, token } = this.#access;
    return refusalOf(status, text, { url, hasToken: token !== undefined });
  }

  /**
   * The path of an address that an answer names. Behind a proxy the API may not know its own
   * address: the token goes nowhere else.
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

  /** The failure of a connection that broke; any other failure is returned as it is. */
  unavailable(error: unknown): unknown {
    if (!(error instanceof Error) || error instanceof ImportError) return error;
    const code = codeOf(error);
    const tls = tlsFailure(error, {
      caFile: "the environment variable NODE_EXTRA_CA_CERTS",
      address: "the address of the API",
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
