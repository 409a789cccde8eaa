import { createHash } from "node:crypto";
import { Readable } from "node:stream";
import { crc32 } from "node:zlib";
import type { BandwidthLimit } from "../bytes/bandwidth-limit.ts";
import { BLOCK_BYTES } from "../bytes/block-size.ts";
import { readFully, type PositionalReader } from "../bytes/positional-io.ts";
import { ImportError } from "../domain/import-failure.ts";
import type { PlannedPart } from "./part-plan.ts";

/** The digests of a part. */
export interface PartDigests {
  readonly sha256: Buffer;
  /** Undefined unless `withMd5` asks for it. */
  readonly md5: Buffer | undefined;
  /** crc32 of all bytes up to the end of this part. */
  readonly crc32: number;
}

/** Settings of {@link hashPart}. */
export interface HashOptions {
  /** crc32 of all bytes before this part. */
  readonly crcSoFar: number;
  readonly withMd5: boolean;
  /** Stops the reading within a block. */
  readonly signal: AbortSignal;
}

/**
 * Reads a part of a source for its digests. It blocks the event loop for one block at a time, about
 * a millisecond.
 *
 * @throws ImportError `StagedDataChanged` when the source ends within the part
 */
export async function hashPart(
  source: PositionalReader,
  part: PlannedPart,
  { crcSoFar, withMd5, signal }: HashOptions,
): Promise<PartDigests> {
  const sha256 = createHash("sha256");
  const md5 = withMd5 ? createHash("md5") : undefined;
  const buffer = Buffer.allocUnsafe(Math.min(BLOCK_BYTES, part.lengthBytes));
  let crc = crcSoFar;
  for (let doneBytes = 0; doneBytes < part.lengthBytes;) {
    signal.throwIfAborted();
    const block = await readBlock(source, buffer, part, doneBytes);
    crc = crc32(block, crc);
    sha256.update(block);
    md5?.update(block);
    doneBytes += block.length;
  }
  return { sha256: sha256.digest(), md5: md5?.digest(), crc32: crc };
}

/** Settings of {@link streamPart}. */
export interface StreamOptions {
  readonly limiter: BandwidthLimit | undefined;
  /** Ends a wait for bandwidth. The caller ends the stream. */
  readonly signal: AbortSignal;
  /** Called after every block with the number of bytes that were taken from the stream. */
  readonly onTaken: (takenBytes: number) => void;
}

/**
 * Reads a part a second time, to send it: from the page cache, because holding complete parts would
 * take up to half a GiB of memory each. It does not read the source after it is closed.
 *
 * @throws ImportError `StagedDataChanged`, as the stream's error, when the source ends within the
 *   part
 */
export function streamPart(
  source: PositionalReader,
  part: PlannedPart,
  options: StreamOptions,
): Readable {
  // One block is read ahead, and no more: the generator has two buffers.
  return Readable.from(blocksOf(source, part, options), { objectMode: false, highWaterMark: 1 });
}

async function* blocksOf(
  source: PositionalReader,
  part: PlannedPart,
  { limiter, signal, onTaken }: StreamOptions,
): AsyncGenerator<Buffer> {
  // Two buffers are enough: a socket has taken a block before it gets the next one, and only then
  // is the buffer filled again. Should that ever not hold, the server refuses the bytes by their
  // hash.
  const blockBytes = Math.min(BLOCK_BYTES, part.lengthBytes);
  let [current, spare] = [Buffer.allocUnsafe(blockBytes), Buffer.allocUnsafe(blockBytes)];
  for (let doneBytes = 0; doneBytes < part.lengthBytes;) {
    const block = await readBlock(source, current, part, doneBytes);
    await limiter?.take(block.length, signal);
    yield block;
    doneBytes += block.length;
    onTaken(doneBytes);
    [current, spare] = [spare, current];
  }
}

async function readBlock(
  source: PositionalReader,
  buffer: Buffer,
  part: PlannedPart,
  doneBytes: number,
): Promise<Buffer> {
  const block = buffer.subarray(0, part.lengthBytes - doneBytes);
  const position = part.offset + doneBytes;
  const readBytes = await readFully(source, block, position);
  if (readBytes === block.length) return block;
  throw new ImportError(
    "StagedDataChanged",
    `Cannot copy the staged data: it ends early, at byte ${position + readBytes}`,
  );
}
