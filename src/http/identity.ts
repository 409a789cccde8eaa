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

/** An image service, by its place in a catalogue. */
export interface ServicePlace {
  readonly region: string;
  /** `public`, `internal` or `admin`. */
  readonly serviceInterface: string;
}

/** One of the ways in which callers identify themselves. */
export interface Identity {
  /** The value of `WWW-Authenticate` in a refusal. */
  readonly challenge: string;
  /**
   * Finds out who sends a request.
   *
   * @throws HttpFailure 401, 403; 503 while the identity service is unreachable
   */
  identify(credentials: Credentials): Promise<Caller>;
  /**
   * Looks up the image service of a region, as the caller sees it. Absent: this way of
   * identification has no catalogue of services.
   *
   * @returns its URL; undefined if the region has none
   * @throws HttpFailure 503 while the identity service is unreachable
   */
  imageEndpoint?(place: ServicePlace, headers: IncomingHttpHeaders): Promise<string | undefined>;
  close(): Promise<void>;
}

/** The digest that stands for a token: the token itself is not stored. */
export function digestOf(token: string): string {
  return createHash("sha256").update(token).digest("hex");
}

/** The token of a request, and the user of HTTP basic; undefined if it has none. */
export function credentialsIn(
  headers: IncomingHttpHeaders,
): { readonly user?: string; readonly token: string } | undefined {
  const token = headerOf(headers, "x-auth-token");
  if (token !== undefined) return { token };
  const authorization = headerOf(headers, "authorization") ?? "";
  const [, scheme = "", value = ""] = /^(basic|bearer)\s+(\S+)$/i.exec(authorization) ?? [];
  if (scheme === "") return undefined;
  if (scheme.toLowerCase() === "bearer") return { token: value };
  const text = Buffer.from(value, "base64").toString("utf8");
  const colon = text.indexOf(":");
  return colon < 0 ? undefined : { user: text.slice(0, colon), token: text.slice(colon + 1) };
}

/** The value of a header that may be sent once; undefined if it is absent or blank. */
export function headerOf(headers: IncomingHttpHeaders, name: string): string | undefined {
  const value = headers[name];
  const text = (Array.isArray(value) ? value[0] : value)?.trim();
  return text === "" ? undefined : text;
}
