import { badRequest, HttpFailure } from "./http-failure.ts";

/** A range of bytes of an image. Both positions lie inside the image. */
export interface ByteRange {
  readonly start: number;
  /** The position of the last byte of the range. */
  readonly end: number;
}

/**
 * The range of an image that a request asks for; undefined: the complete image.
 *
 * @param header - `Range`, or the `Content-Range` that old clients send in a request
 * @throws HttpFailure 400 for several ranges; 416 for one that is malformed, or behind the end
 */
export function readRange(header: string | undefined, sizeBytes: number): ByteRange | undefined {
  if (header === undefined) return undefined;
  if (header.includes(","))
    throw badRequest(
      "Requests with multiple ranges are not supported in Glance. You may make multiple single-range requests instead.",
    );
  const [, first = "", final = ""] =
    /^bytes[= ]\s*(\d*)-(\d*)(?:\/(?:\*|\d+))?$/.exec(header.trim()) ?? [];
  if (first === "" && final === "") throw unsatisfiable(header, sizeBytes);
  const start = first === "" ? Math.max(0, sizeBytes - Number(final)) : Number(first);
  const end = first === "" || final === "" ? sizeBytes - 1 : Math.min(Number(final), sizeBytes - 1);
  if (start > end || start >= sizeBytes) throw unsatisfiable(header, sizeBytes);
  return { start, end };
}

function unsatisfiable(header: string, sizeBytes: number): HttpFailure {
  return new HttpFailure(416, `Invalid range request: "${header}" of ${String(sizeBytes)} bytes.`, {
    headers: { "content-range": `bytes */${String(sizeBytes)}` },
  });
}
