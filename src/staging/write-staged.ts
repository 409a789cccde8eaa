import type { FileHandle } from "node:fs/promises";
import type { Readable } from "node:stream";
import type { BandwidthLimit } from "../bytes/bandwidth-limit.ts";
import { BLOCK_BYTES } from "../bytes/block-size.ts";
import { DigestRing } from "../bytes/digest-ring.ts";
import { readFully, writeFully } from "../bytes/positional-io.ts";
import { WriteBehind } from "../bytes/write-behind.ts";
import { isZeroBlock, type ZeroBlocks } from "../bytes/zero-blocks.ts";
import type { Digests } from "../domain/digests.ts";

/** Where bytes come from, one after the other. */
export interface ByteSource {
  /**
   * Fills as much of the buffer as is there.
   *
   * @returns how many bytes it put there; 0 at the end
   */
  read(buffer: Buffer): Promise<number>;
}

/** Reads an open file from where it stands to its end. */
export function fileSource(handle: FileHandle): ByteSource {
  return {
    read: async (buffer) => (await handle.read(buffer, 0, buffer.length, null)).bytesRead,
  };
}

/** Reads a stream of bytes or of text, such as standard input, to its end. */
export function streamSource(stream: Readable): ByteSource {
  const chunks = (stream as AsyncIterable<Uint8Array | string>)[Symbol.asyncIterator]();
  let rest: Buffer = Buffer.alloc(0);
  return {
    async read(buffer) {
      while (rest.length === 0) {
        const next = await chunks.next();
        if (next.done === true) return 0;
        rest = typeof next.value === "string" ? Buffer.from(next.value) : viewOf(next.value);
      }
      const lengthBytes = rest.copy(buffer);
      rest = rest.subarray(lengthBytes);
      return lengthBytes;
    },
  };
}

function viewOf({ buffer, byteOffset, byteLength }: Uint8Array): Buffer {
  return Buffer.from(buffer, byteOffset, byteLength);
}

/** Settings of {@link writeStaged}. */
export interface StagingWrite {
  /** The multihash, as node:crypto names it. */
  readonly hashAlgo: string;
  readonly limiter?: BandwidthLimit | undefined;
  /**
   * Waits for the right to write so many bytes in all; called before each block is written.
   * Default: there is room.
   */
  readonly reserve?: ((sizeBytes: number) => Promise<void>) | undefined;
  /** Is told of every block that is zero. */
  readonly zeroBlocks?: ZeroBlocks | undefined;
  /**
   * Makes durable what was written so far; called now and then beside the writing. Default: nobody
   * does.
   */
  readonly sync?: () => Promise<void>;
  /**
   * Where the target ends, when an earlier attempt has begun it: those bytes are read from it, and
   * not written again, and the source goes on behind them. Default: nothing is there, and nobody
   * will go on with this one.
   */
  readonly resumeAt?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called after every block with how many bytes have passed. */
  readonly onProgress?: (doneBytes: number) => void;
}

/**
 * Writes a source to its end into a private file, digesting on the way, so that nothing reads these
 * bytes a second time. Zero blocks are skipped: a sparse source stays sparse. One block is written
 * while the next one is read and the last ones are digested.
 *
 * @throws the signal's reason when it is aborted, what `reserve` throws, else the system's own
 *   error
 */
export async function writeStaged(
  source: ByteSource,
  target: FileHandle,
  options: StagingWrite,
): Promise<Digests> {
  await using ring = DigestRing.open({ hashAlgo: options.hashAlgo });
  const { resumeAt = 0 } = options;
  const bytes = resumeAt === 0 ? source : resumedSource(target, resumeAt, source);
  const behind = new WriteBehind(options.sync ?? (() => Promise.resolve()));
  let doneBytes = 0;
  let writing: Promise<void> = Promise.resolve();
  try {
    for (;;) {
      options.signal?.throwIfAborted();
      const block = await ring.acquire();
      const { lengthBytes, failure } = await fill(bytes, block.bytes, options.signal);
      if (lengthBytes === 0) {
        block.release();
        if (failure !== undefined) throw failure.error;
        break;
      }
      await options.reserve?.(doneBytes + lengthBytes);
      ring.submit(block, lengthBytes);
      const position = doneBytes;
      await writing;
      behind.wrote(lengthBytes);
      writing = writeUnlessZero(target, block.bytes.subarray(0, lengthBytes), position, options);
      // Not an unhandled rejection meanwhile: the next round, or the end, awaits it.
      writing.catch(() => undefined);
      void writing
        .finally(() => {
          block.release();
        })
        .catch(() => undefined);
      doneBytes += lengthBytes;
      options.onProgress?.(doneBytes);
      if (failure === undefined) continue;
      // What came before is worth having for whoever goes on.
      await writing;
      throw failure.error;
    }
    await writing;
  } finally {
    // Nothing may still write when the caller closes the file.
    await writing.catch(() => undefined);
    await behind.end();
  }
  await target.truncate(doneBytes);
  return await ring.finish();
}

/** What is there already, and then what comes. */
function resumedSource(target: FileHandle, lengthBytes: number, rest: ByteSource): ByteSource {
  let doneBytes = 0;
  return {
    async read(buffer) {
      if (doneBytes === lengthBytes) return rest.read(buffer);
      const wanted = buffer.subarray(0, lengthBytes - doneBytes);
      const readBytes = await readFully(target, wanted, doneBytes);
      if (readBytes < wanted.length) throw new Error("The part became shorter while it was read");
      doneBytes += readBytes;
      return readBytes;
    },
  };
}

/** Fills a block; it may hold less at the end of the source, and when the source fails. */
async function fill(
  source: ByteSource,
  buffer: Buffer,
  signal: AbortSignal | undefined,
): Promise<{ readonly lengthBytes: number; readonly failure?: { readonly error: unknown } }> {
  let lengthBytes = 0;
  try {
    while (lengthBytes < buffer.length) {
      const readBytes = await unlessAborted(source.read(buffer.subarray(lengthBytes)), signal);
      if (readBytes === 0) break;
      lengthBytes += readBytes;
    }
    return { lengthBytes };
  } catch (error) {
    return { lengthBytes, failure: { error } };
  }
}

/**
 * A source may be silent for as long as it likes, such as a terminal; an abort does not wait for
 * its next byte.
 */
async function unlessAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return work;
  let abort: () => void = () => undefined;
  const aborted = new Promise<never>((_resolve, reject) => {
    // The reason is whatever the owner of the signal chose; it is passed on as it is.
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

async function writeUnlessZero(
  target: FileHandle,
  bytes: Buffer,
  position: number,
  { limiter, zeroBlocks, resumeAt, signal }: StagingWrite,
): Promise<void> {
  const end = position + bytes.length;
  if (isZeroBlock(bytes)) {
    zeroBlocks?.add(position / BLOCK_BYTES);
    // Whoever goes on with it sees by its length how far it came.
    if (resumeAt !== undefined && end > resumeAt) await target.truncate(end);
    return;
  }
  if (resumeAt !== undefined && end <= resumeAt) return;
  await limiter?.take(bytes.length, signal);
  await writeFully(target, bytes, position);
}
