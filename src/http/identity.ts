import { createHash } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import type { Caller } from "./caller.ts";

/** The parts of a request by which its sender is identified. */
export interface Credentials {
  readonly headers: IncomingHttpHeaders;
  readonly method: string;
  /** Without the query. */
  readonly path: string;
}

/** One of the ways in which callers identify themselves. */
export interface Identity {
  /** The value of `WWW-Authenticate` in a refusal. */
  readonly challenge: string;
  /**
   * Finds out who sends a request.
   *
   * @throws HttpFailure 401; 503 if that cannot be found out now
   */
  identify(credentials: Credentials): Promise<Caller>;
  close(): Promise<void>;
}

/** The digest by which a token is known: the token itself is kept nowhere. */
export function digestOf(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}

/** The value of a header that may be sent once; undefined if it is absent or blank. */
export function headerOf(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  const text = (Array.isArray(value) ? value[0] : value)?.trim();
  return text === "" ? undefined : text;
}
