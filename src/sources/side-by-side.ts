import type { Readable } from "node:stream";

/** How much each connection brings at a time, and keeps in memory until it is its turn: 4 MiB. */
export const RANGE_BYTES = 4 * 1024 * 1024;

/** What {@link receiveSideBySide} receives, and how. */
export interface SideBySide {
  /**
   * The answer that there is already: bytes from `startAt` on. No more than one range of it is
   * read.
   */
  readonly first: Readable;
  readonly startAt: number;
  /** Of the whole resource: more than a range lies before it. */
  readonly sizeBytes: number;
  /** How many ranges are on their way at once, the one that is read included. */
  readonly connections: number;
  /**
   * Asks for the bytes from the first position to before the second, which come also while nobody
   * reads them.
   */
  readonly ask: (startAt: number, endAt: number) => Promise<Readable>;
}

interface ComingRange {
  readonly endAt: number;
  readonly body: Promise<Readable>;
}

/**
 * The rest of a resource, in order, while the ranges that follow come over connections of their
 * own: from an origin that gives each connection only so much, more of them bring more. At most
 * `connections` ranges are held in memory. When it ends early, or anything fails, all connections
 * end.
 *
 * What an origin sends behind the end of the resource is given, too: it is for the caller to see.
 *
 * @throws Error when a range is not as long as it was asked for; what `ask` and the connections
 *   fail with
 */
export async function* receiveSideBySide(order: SideBySide): AsyncGenerator<Buffer, undefined> {
  const { first, startAt, sizeBytes, connections } = order;
  const coming: ComingRange[] = [];
  const comes = (endAt: number, body: Promise<Readable>): number => {
    // Whoever reads it learns of a failure; until then nobody does.
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
        // The first answer goes on to the end of the resource, over a connection that others have
        // left behind.
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
  return new Error("a range of it has another length than was asked for");
}
