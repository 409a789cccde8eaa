import type { IncomingHttpHeaders } from "node:http";

/** The state of a resource as its origin states it. */
export interface OriginState {
  /**
   * The value for `If-Range`; null when the origin sends none that is certain to differ between two
   * states.
   */
  readonly validator: string | null;
  /** Size of the complete resource; null when the origin does not state it. */
  readonly sizeBytes: number | null;
}

// RFC 9110, 8.8.2.2: the time of the last change distinguishes two states only if the response was
// created well after it.
const SURELY_LATER_MS = 60_000;

/**
 * The validator of a response, if it is strong enough to join two parts; else null.
 */
export function strongValidator(headers: IncomingHttpHeaders): string | null {
  const { etag, date } = headers;
  const modified = headers["last-modified"];
  if (etag !== undefined && /^"[^"]*"$/.test(etag)) return etag;
  if (modified === undefined || date === undefined) return null;
  const ageMs = Date.parse(date) - Date.parse(modified);
  return ageMs >= SURELY_LATER_MS ? modified : null;
}

/**
 * The content of a `Content-Range` such as `bytes 5-9/10`. For a range that does not exist it
 * states only the size.
 */
export interface ContentRange {
  /** First and last byte; undefined when there is none. */
  readonly bytes: readonly [first: number, last: number] | undefined;
  /** Size of the complete resource; null when it is not stated. */
  readonly sizeBytes: number | null;
}

/** Reads a `Content-Range`; undefined when its unit is not bytes. */
export function parseContentRange(text: string | undefined): ContentRange | undefined {
  // Some servers write an equals sign after the unit, as in a request, or more spaces than RFC 9110
  // allows.
  const match = /^bytes[ =]+(?:(\d+)-(\d+)|\*) *\/ *(\d+|\*)$/i.exec(text?.trim() ?? "");
  if (match === null) return undefined;
  const [, first, last, size = ""] = match;
  return {
    bytes: first === undefined ? undefined : [Number(first), Number(last)],
    sizeBytes: size === "*" ? null : Number(size),
  };
}

// An origin must not be able to delay an import without end.
const LONGEST_WAIT_MS = 3_600_000;

/** The wait of a `Retry-After`, which is written in seconds or as a date; undefined without one. */
export function retryAfterMs(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const waitMs = /^\s*\d+\s*$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(waitMs) ? Math.min(Math.max(waitMs, 0), LONGEST_WAIT_MS) : undefined;
}
