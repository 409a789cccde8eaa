import type { Readable } from "node:stream";

/**
 * The size of the range that each connection downloads at a time, and keeps in memory until its
 * turn.
 */
export const RANGE_BYTES = 4 * 1024 * 1024;

/** The settings of {@link receiveSideBySide}. */
export interface SideBySide {
  /**
   * The body of the response that has arrived already, from `startAt` on. Only one range of it is
   * read.
   */
  readonly first: Readable;
  readonly startAt: number;
  /** The size of the complete resource: more than one range must be missing. */
  readonly sizeBytes: number;
  /** The number of ranges that are downloaded at once, including the one that is read. */
  readonly connections: number;
  /**
   * Requests the bytes from `startAt` to before `endAt`. They must arrive even before they are
   * read.
   */
  readonly ask: (startAt: number, endAt: number) => Promise<Readable>;
}

interface ComingRange {
  readonly endAt: number;
  readonly body: Promise<Readable>;
}

/**
 * Yields the rest of a resource in order, while the following ranges arrive over connections of
 * their own. That is faster where an origin limits the rate of each connection. At most
 * `connections` ranges are held in memory. All connections end when the caller stops early or one
 * fails.
 *
 * Bytes that an origin sends after the end of the resource are yielded, too: the caller refuses
 * them.
 *
 * @throws Error when a range does not have the requested length; errors of `ask` and of the
 *   connections
 */
export async function* receiveSideBySide(order: SideBySide): AsyncGenerator<Buffer, undefined> {
  const { first, startAt, sizeBytes, connections } = order;
  const coming: ComingRange[] = [];
  const comes = (endAt: number, body: Promise<Readable>): number => {
    // A failure is thrown when the range is read. Until then it must not count as unhandled.
    body.then((readable) => readable.on("error", ignore), ignore);
    return coming.push({ endAt, body });
  };
  let askedTo = startAt + RANGE_BYTES;
  comes(askedTo, Promise.resolve(first));
  let position = startAt;
  try {
    for (;;) {
      while (coming.length < connections && askedTo < sizeBytes) {
        const from = askedTo;
        askedTo = Math.min(from + RANGE_BYTES, sizeBytes);
        comes(askedTo, order.ask(from, askedTo));
      }
      const range = coming[0];
      if (range === undefined) return undefined;
      const body = await range.body;
      for await (const chunk of body as AsyncIterable<Buffer>) {
        // The first response continues to the end of the resource. Only its first range is read.
        const wanted = body === first ? chunk.subarray(0, range.endAt - position) : chunk;
        position += wanted.length;
        if (position > range.endAt && range.endAt < sizeBytes) throw wrongLength();
        yield wanted;
        if (body === first && position === range.endAt) break;
      }
      if (position < range.endAt) throw wrongLength();
      coming.shift();
    }
  } finally {
    for (const { body } of coming) body.then((readable) => readable.destroy(), ignore);
  }
}

function ignore(): void {
  return;
}

function wrongLength(): Error {
  return new Error("a range of it does not have the requested length");
}
