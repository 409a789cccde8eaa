import { formatBytes } from "../domain/byte-size.ts";
import { ImportError } from "../domain/import-failure.ts";

const MIB = 1024 ** 2;

/** Largest object that S3 accepts: 5 TiB. */
export const MAX_OBJECT_BYTES = 5 * 1024 ** 4;
/** Smallest part that S3 accepts, except for the last one: 5 MiB. */
export const MIN_PART_BYTES = 5 * MIB;
/** Most parts that S3 accepts for one object. */
const MAX_PARTS = 10_000;

/** One piece of an object, as it is sent. */
export interface PlannedPart {
  /** From 1, as S3 counts. */
  readonly number: number;
  /** Position of its first byte in the object. */
  readonly offset: number;
  readonly lengthBytes: number;
}

/**
 * The size of all parts but the last: the smallest number of MiB that is at least the minimum, and
 * with which the object has no more than 10,000 parts. It depends on nothing else: an attempt that
 * resumes an upload cuts the object in the same way.
 *
 * @param sizeBytes - size of the object; undefined if it is not known yet, and then the parts are
 *   large enough for the largest object
 * @param minimumBytes - smallest size of a part, from 5 MiB
 * @throws ImportError `NoSpace` when the object is too large for S3
 * @throws RangeError when the parts are too small for S3
 */
export function partBytesFor(sizeBytes: number | undefined, minimumBytes: number): number {
  if (minimumBytes < MIN_PART_BYTES) {
    throw new RangeError(
      `Cannot send parts of ${minimumBytes} bytes: S3 accepts ${formatBytes(MIN_PART_BYTES)} or more`,
    );
  }
  const toFitBytes = sizeBytes ?? MAX_OBJECT_BYTES;
  if (toFitBytes > MAX_OBJECT_BYTES) {
    throw new ImportError(
      "NoSpace",
      `Cannot send an object of ${toFitBytes} bytes: S3 accepts ${formatBytes(MAX_OBJECT_BYTES)} or less`,
    );
  }
  return Math.ceil(Math.max(minimumBytes, toFitBytes / MAX_PARTS) / MIB) * MIB;
}

/**
 * Cuts an object into parts. An empty one is one empty part.
 *
 * @param sizeBytes - size of the object
 * @param minimumBytes - smallest size of a part, from 5 MiB
 * @throws as {@link partBytesFor}
 */
export function planParts(sizeBytes: number, minimumBytes: number): readonly PlannedPart[] {
  const partBytes = partBytesFor(sizeBytes, minimumBytes);
  const count = Math.max(1, Math.ceil(sizeBytes / partBytes));
  return Array.from({ length: count }, (_, index) => {
    const offset = index * partBytes;
    return { number: index + 1, offset, lengthBytes: Math.min(partBytes, sizeBytes - offset) };
  });
}
