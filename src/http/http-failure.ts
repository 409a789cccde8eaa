import type { OutgoingHttpHeaders } from "node:http";

/** The parts of an {@link HttpFailure} beside its status and message. */
export interface HttpFailureOptions {
  /** The way out. Default: none beyond the message. */
  readonly hint?: string;
  /** Headers of the answer, such as `allow`. */
  readonly headers?: OutgoingHttpHeaders;
  readonly cause?: unknown;
}

/** A refusal that only HTTP knows: a status, and the reason in the words of Glance. */
export class HttpFailure extends Error {
  readonly status: number;
  readonly hint: string | undefined;
  readonly headers: OutgoingHttpHeaders;

  constructor(status: number, message: string, options: HttpFailureOptions = {}) {
    super(message, "cause" in options ? { cause: options.cause } : undefined);
    this.name = "HttpFailure";
    this.status = status;
    this.hint = options.hint;
    this.headers = options.headers ?? {};
  }
}

/** 400. */
export function badRequest(message: string, options?: HttpFailureOptions): HttpFailure {
  return new HttpFailure(400, message, options);
}

/** 403: the caller may see the image, and may not do this. */
export function forbidden(message: string, options?: HttpFailureOptions): HttpFailure {
  return new HttpFailure(403, message, options);
}

/** 404. */
export function notFound(message: string, options?: HttpFailureOptions): HttpFailure {
  return new HttpFailure(404, message, options);
}

/** 409. */
export function conflict(message: string, options?: HttpFailureOptions): HttpFailure {
  return new HttpFailure(409, message, options);
}
