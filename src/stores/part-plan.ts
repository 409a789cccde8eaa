import { formatBytes } from "../domain/byte-size.ts";
import { ImportError } from "../domain/import-failure.ts";

const MIB = 1024 ** 2;

/** What S3 takes at most as one object: 5 TiB. */
export const MAX_OBJECT_BYTES = 5 * 1024 ** 4;
/** Fewer bytes S3 takes as the last part only: 5 MiB. */
export const MIN_PART_BYTES = 5 * MIB;
/** So many parts S3 puts together at most. */
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
 * with which the object has no more than 10,000 parts. It depends on nothing else, so that whoever
 * resumes an upload cuts as it was cut before.
 *
 * @param sizeBytes - of the object; undefined when nobody knows it yet, and then there is room for
 *   the largest
 * @param minimumBytes - of a part, from 5 MiB
 * @throws ImportError `NoSpace` when S3 takes no such object
 * @throws RangeError when it takes no such parts
 */
export function partBytesFor(sizeBytes: number | undefined, minimumBytes: number): number {
  if (minimumBytes < MIN_PART_BYTES) {
    throw new RangeError(
      `Cannot send parts of ${minimumBytes} bytes: S3 takes no less than ${formatBytes(MIN_PART_BYTES)}`,
    );
  }
  const toFitBytes = sizeBytes ?? MAX_OBJECT_BYTES;
  if (toFitBytes > MAX_OBJECT_BYTES) {
    throw new ImportError(
      "NoSpace",
      `Cannot send an object of ${toFitBytes} bytes: S3 takes no more than ${formatBytes(MAX_OBJECT_BYTES)}`,
    );
  }
  return Math.ceil(Math.max(minimumBytes, toFitBytes / MAX_PARTS) / MIB) * MIB;
}

/**
 * Cuts an object into parts. An empty one is one empty part.
 *
 * @param sizeBytes - of the object
 * @param minimumBytes - of a part, from 5 MiB
 * @throws ImportError `NoSpace` when S3 takes no such object
 * @throws RangeError when it takes no such parts
 */
export function planParts(sizeBytes: number, minimumBytes: number): readonly PlannedPart[] {
  const partBytes = partBytesFor(sizeBytes, minimumBytes);
  const count = Math.max(1, Math.ceil(sizeBytes / partBytes));
  return Array.from({ length: count }, (_, index) => {
    const offset = index * partBytes;
    return { number: index + 1, offset, lengthBytes: Math.min(partBytes, sizeBytes - offset) };
  });
}
