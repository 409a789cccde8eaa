import type { FileHandle } from "node:fs/promises";
import { finished, type Readable } from "node:stream";
import type { SharedBlock } from "../bytes/block-pool.ts";
import { BLOCK_BYTES } from "../bytes/block-size.ts";

/** A source of bytes, one after the other. */
export interface ByteSource {
  /**
   * Waits until the next byte is there, or the end, or a failure. The caller takes a buffer only
   * then: a silent source needs none. Default: the bytes are always there
   */
  ready?(): Promise<void>;
  /**
   * Reads the next bytes into the buffer, as many as are there.
   *
   * @returns the number of bytes read; 0 at the end
   */
  read(buffer: Buffer): Promise<number>;
  /**
   * Stops reading. The remaining bytes belong to the owner of the source. Default: nothing to do
   */
  close?(): void;
}

/** Reads an open file from its current position to its end. */
export function fileSource(handle: FileHandle): ByteSource {
  return {
    read: async (buffer) => (await handle.read(buffer, 0, buffer.length, null)).bytesRead,
  };
}

// A stream that is stopped and started for each chunk costs a third of the time of an upload: one
// stream is read a block ahead, and many streams share the memory for that.
const MOST_AHEAD_BYTES = BLOCK_BYTES;
const LEAST_AHEAD_BYTES = 128 * 1024;
const ALL_AHEAD_BYTES = 8 * BLOCK_BYTES;
let openStreams = 0;

function mostAheadBytes(): number {
  const shareBytes = ALL_AHEAD_BYTES / Math.max(1, openStreams);
  return Math.min(MOST_AHEAD_BYTES, Math.max(LEAST_AHEAD_BYTES, shareBytes));
}

/**
 * Reads a stream of bytes or of text, such as standard input, to its end. It takes chunks as they
 * come: an iterator costs three promises for each, which is a fifth of the time of an upload.
 */
export function streamSource(stream: Readable): ByteSource {
  const chunks: Buffer[] = [];
  let aheadBytes = 0;
  let end: { readonly failure?: Error } | undefined;
  let isStarted = false;
  let isClosed = false;
  let wake: () => void = () => undefined;

  const onData = (chunk: Uint8Array | string): void => {
    if (chunk.length === 0) return;
    const bytes = typeof chunk === "string" ? Buffer.from(chunk) : viewOf(chunk);
    chunks.push(bytes);
    aheadBytes += bytes.length;
    if (aheadBytes >= mostAheadBytes()) stream.pause();
    wake();
  };
  const start = (): void => {
    isStarted = true;
    openStreams += 1;
    finished(stream, { writable: false }, (error) => {
      end = error == null ? {} : { failure: error };
      wake();
    });
    stream.on("data", onData);
  };
  const ready = async (): Promise<void> => {
    if (!isStarted) start();
    while (aheadBytes === 0 && end === undefined) {
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
    }
    if (aheadBytes === 0 && end?.failure !== undefined) throw end.failure;
  };
  /** Takes the bytes that have arrived. */
  const take = (buffer: Buffer): number => {
    let lengthBytes = 0;
    for (let chunk = chunks[0]; chunk !== undefined; chunk = chunks[0]) {
      const copiedBytes = chunk.copy(buffer, lengthBytes);
      lengthBytes += copiedBytes;
      if (copiedBytes < chunk.length) {
        chunks[0] = chunk.subarray(copiedBytes);
        break;
      }
      chunks.shift();
    }
    aheadBytes -= lengthBytes;
    if (aheadBytes < mostAheadBytes() && stream.isPaused() && !isClosed) stream.resume();
    return lengthBytes;
  };
  return {
    ready,
    async read(buffer) {
      if (aheadBytes === 0) await ready();
      return take(buffer);
    },
    close() {
      if (!isStarted || isClosed) return;
      isClosed = true;
      openStreams -= 1;
      stream.off("data", onData);
      stream.pause();
      // Ends a read that an abort left behind, so that it releases its block.
      end ??= {};
      wake();
    },
  };
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

/**
 * Fills the first `wantedBytes` of a block. Fills fewer bytes at the end of the source, and when
 * the source fails.
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
 * Reads into a block, and holds the block until the read ends. A read that an abort leaves behind
 * may still write into the block, which another stream must not get before.
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
