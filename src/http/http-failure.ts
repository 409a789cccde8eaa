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

/** A refusal with 400: the request is wrong. */
export function badRequest(message: string, options?: HttpFailureOptions): HttpFailure {
  return new HttpFailure(400, message, options);
}

/** A refusal with 403: the caller may see the image, but may not do this. */
export function forbidden(message: string, options?: HttpFailureOptions): HttpFailure {
  return new HttpFailure(403, message, options);
}

/** A refusal with 404: absent, or hidden from the caller. */
export function notFound(message: string, options?: HttpFailureOptions): HttpFailure {
  return new HttpFailure(404, message, options);
}

/** A refusal with 409: the state of the image does not allow this. */
export function conflict(message: string, options?: HttpFailureOptions): HttpFailure {
  return new HttpFailure(409, message, options);
}
