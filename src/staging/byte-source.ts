import type { FileHandle } from "node:fs/promises";
import type { Readable } from "node:stream";
import type { SharedBlock } from "../bytes/block-pool.ts";

/** A source of bytes, one after the other. */
export interface ByteSource {
  /**
   * Waits until the first of the next bytes is there, or the end, or a failure: a source that is
   * silent needs no buffer meanwhile. Default: the bytes are always there
   */
  ready?(): Promise<void>;
  /**
   * Reads the next bytes into the buffer, as many as are there.
   *
   * @returns the number of bytes read; 0 at the end
   */
  read(buffer: Buffer): Promise<number>;
}

/** Reads an open file from its current position to its end. */
export function fileSource(handle: FileHandle): ByteSource {
  return {
    read: async (buffer) => (await handle.read(buffer, 0, buffer.length, null)).bytesRead,
  };
}

/** Reads a stream of bytes or of text, such as standard input, to its end. */
export function streamSource(stream: Readable): ByteSource {
  const chunks = (stream as AsyncIterable<Uint8Array | string>)[Symbol.asyncIterator]();
  let rest: Buffer = Buffer.alloc(0);
  let isEnded = false;
  const ready = async (): Promise<void> => {
    while (rest.length === 0 && !isEnded) {
      const next = await chunks.next();
      if (next.done === true) isEnded = true;
      else rest = typeof next.value === "string" ? Buffer.from(next.value) : viewOf(next.value);
    }
  };
  return {
    ready,
    async read(buffer) {
      await ready();
      const lengthBytes = rest.copy(buffer);
      rest = rest.subarray(lengthBytes);
      return lengthBytes;
    },
  };
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

/**
 * Fills the first `wantedBytes` of a block. Less comes at the end of the source, and when the
 * source fails.
 */
export async function fillBlock(
  source: ByteSource,
  block: SharedBlock,
  wantedBytes: number,
  signal: AbortSignal | undefined,
): Promise<{ readonly lengthBytes: number; readonly failure?: { readonly error: unknown } }> {
  let lengthBytes = 0;
  try {
    while (lengthBytes < wantedBytes) {
      const room = block.bytes.subarray(lengthBytes, wantedBytes);
      const readBytes = await unlessAborted(readInto(source, block, room), signal);
      if (readBytes === 0) break;
      lengthBytes += readBytes;
    }
    return { lengthBytes };
  } catch (error) {
    return { lengthBytes, failure: { error } };
  }
}

/**
 * A read that an abort leaves behind may still put bytes into the block: another stream must not
 * get the block before that.
 */
async function readInto(source: ByteSource, block: SharedBlock, room: Buffer): Promise<number> {
  block.retain();
  try {
    return await source.read(room);
  } finally {
    block.release();
  }
}

/**
 * The result of the work, or the reason of the abort: an abort does not wait for the next byte of a
 * silent source, such as a terminal.
 */
export async function unlessAborted<T>(
  work: Promise<T> | T,
  signal: AbortSignal | undefined,
): Promise<T> {
  if (signal === undefined) return work;
  let abort: () => void = () => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    // The owner of the signal chose the reason; it is passed on as it is.
    abort = () => {
      reject(signal.reason as Error);
    };
    signal.addEventListener("abort", abort, { once: true });
    if (signal.aborted) abort();
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
