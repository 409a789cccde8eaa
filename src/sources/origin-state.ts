import type { IncomingHttpHeaders } from "node:http";

/** What tells one state of a resource from another, as its origin says it. */
export interface OriginState {
  /**
   * What `If-Range` takes; null when the origin gives nothing that two different states could not
   * share.
   */
  readonly validator: string | null;
  /** Size of the whole resource; null when the origin does not say it. */
  readonly sizeBytes: number | null;
}

// RFC 9110, 8.8.2.2: the time of the last change tells two states apart only when the answer was
// made well after it.
const SURELY_LATER_MS = 60_000;

/**
 * The validator of an answer that is strong enough to put two parts together by it; null when it
 * has none.
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
 * What a `Content-Range` says, such as `bytes 5-9/10`; of a range that is not there it says the
 * size alone.
 */
export interface ContentRange {
  /** First and last byte; undefined when there is none. */
  readonly bytes: readonly [first: number, last: number] | undefined;
  /** Size of the whole; null when it is not told. */
  readonly sizeBytes: number | null;
}

/** Reads a `Content-Range`; undefined when it is none of bytes. */
export function parseContentRange(text: string | undefined): ContentRange | undefined {
  // Some servers put an equals sign behind the unit, as in a request, or more spaces than RFC 9110
  // has.
  const match = /^bytes[ =]+(?:(\d+)-(\d+)|\*) *\/ *(\d+|\*)$/i.exec(text?.trim() ?? "");
  if (match === null) return undefined;
  const [, first, last, size = ""] = match;
  return {
    bytes: first === undefined ? undefined : [Number(first), Number(last)],
    sizeBytes: size === "*" ? null : Number(size),
  };
}

// An origin must not be able to park an import for as long as it likes.
const LONGEST_WAIT_MS = 3_600_000;

/** How long `Retry-After` asks to wait, in seconds or as a date; undefined when it does not. */
export function retryAfterMs(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const waitMs = /^\s*\d+\s*$/.test(text) ? Number(text) * 1000 : Date.parse(text) - Date.now();
  return Number.isFinite(waitMs) ? Math.min(Math.max(waitMs, 0), LONGEST_WAIT_MS) : undefined;
}
