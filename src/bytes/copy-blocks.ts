import { crc32 } from "node:zlib";
import { ImportError } from "../domain/import-failure.ts";
import type { BandwidthLimit } from "./bandwidth-limit.ts";
import { BLOCK_BYTES } from "./block-size.ts";
import { appendZeros } from "./crc-of-zeros.ts";
import { readFully, writeFully } from "./positional-io.ts";
import type { PositionalReader, PositionalWriter } from "./positional-io.ts";
import { WriteBehind } from "./write-behind.ts";
import { isZeroBlock, type ZeroBlocks } from "./zero-blocks.ts";

/** Where a copy is written; a `FileHandle` open for writing is one. */
export interface CopyTarget extends PositionalWriter {
  stat(): Promise<{ readonly size: number }>;
  truncate(lengthBytes: number): Promise<void>;
}

/** What {@link copyBlocks} copies, and how. */
export interface BlockCopy {
  readonly source: PositionalReader;
  readonly target: CopyTarget;
  /** How many bytes the source has; bytes beyond are not copied. */
  readonly sizeBytes: number;
  /** How many bytes the target already holds, from an earlier attempt; 0 for a new copy. */
  readonly startAt: number;
  /** crc32 of those bytes, from {@link rebuildCrc}; 0 for a new copy. */
  readonly crcSoFar: number;
  /** Blocks of the source that are known to be zero: they are not even read. */
  readonly zeroBlocks?: ZeroBlocks | undefined;
  /** Slows the writing down; blocks that are skipped because they are zero take nothing from it. */
  readonly limiter?: BandwidthLimit;
  /**
   * Makes durable what was written so far; called now and then beside the writing. Default: nobody
   * does.
   */
  readonly sync?: () => Promise<void>;
  /** Stops the copy within a block. What was written stays, to be resumed. */
  readonly signal?: AbortSignal;
  /**
   * Called after every block, or run of known zeros, with how many bytes are copied so far,
   * `startAt` included.
   */
  readonly onProgress?: (doneBytes: number) => void;
}

/** What came of a copy. */
export interface CopyResult {
  /** crc32 of the whole copy, from its first byte and zeros included. */
  readonly crc32: number;
  /** How many bytes were really written: neither those of earlier attempts nor zero blocks. */
  readonly writtenBytes: number;
}

/**
 * Copies a file block by block, and computes the crc32 of what it copies on the way. The next block
 * is read while the last is written. Zero blocks are skipped, so that the target stays sparse. At
 * most two blocks are held.
 *
 * The target is cut to `startAt` first: a zero block that is skipped must not uncover bytes of an
 * earlier attempt. It has exactly `sizeBytes` at the end, and is not yet synced.
 *
 * @throws ImportError `StagedDataChanged` when the source is shorter than `sizeBytes`
 * @throws RangeError when the target is shorter than `startAt`, or `startAt` lies beyond
 *   `sizeBytes`
 * @throws the signal's reason when it is aborted, else the system's own error (`ENOSPC`, `EIO`, …)
 */
export async function copyBlocks(copy: BlockCopy): Promise<CopyResult> {
  await cutToStart(copy);
  const behind = new WriteBehind(copy.sync ?? (() => Promise.resolve()));
  const buffers: [Buffer, Buffer] = [Buffer.alloc(BLOCK_BYTES), Buffer.alloc(BLOCK_BYTES)];
  // A sync that still runs is waited for, also when the copy fails: the caller closes the file
  // then.
  const result = await copyFrom(copy, buffers, behind).finally(() => behind.end());
  await copy.target.truncate(copy.sizeBytes);
  return result;
}

/**
 * The crc32 of the first `lengthBytes` of a file, to resume a copy after them. It is computed from
 * what really lies there, so that a part that does not hold the source's bytes is found out at the
 * end of the copy.
 *
 * @param handle - the part file
 * @param lengthBytes - how much of it counts: its size, floored to a block
 * @param signal - stops the reading within a block
 * @param onProgress - called after every block with how many bytes were read so far
 * @throws RangeError when the file is shorter
 */
export async function rebuildCrc(
  handle: PositionalReader,
  lengthBytes: number,
  signal?: AbortSignal,
  onProgress?: (doneBytes: number) => void,
): Promise<number> {
  const buffer = Buffer.alloc(Math.min(BLOCK_BYTES, lengthBytes));
  let crc = 0;
  for (let doneBytes = 0; doneBytes < lengthBytes;) {
    signal?.throwIfAborted();
    const block = buffer.subarray(0, lengthBytes - doneBytes);
    const readBytes = await readFully(handle, block, doneBytes);
    doneBytes += readBytes;
    if (readBytes < block.length) throw partTooShort(doneBytes, lengthBytes);
    crc = crc32(block, crc);
    onProgress?.(doneBytes);
  }
  return crc;
}

async function cutToStart({ target, startAt, sizeBytes }: BlockCopy): Promise<void> {
  const { size } = await target.stat();
  // Cutting a shorter file would lengthen it with zeros that nobody ever copied.
  if (size < startAt) throw partTooShort(size, startAt);
  if (startAt > sizeBytes) {
    throw new RangeError(`Cannot resume at byte ${startAt}: the source has ${sizeBytes} bytes`);
  }
  if (size > startAt) await target.truncate(startAt);
}

async function copyFrom(
  copy: BlockCopy,
  buffers: [Buffer, Buffer],
  behind: WriteBehind,
): Promise<CopyResult> {
  let [current, spare] = buffers;
  let { startAt: offset, crcSoFar: crc } = copy;
  let writtenBytes = 0;
  let block = await readNext(copy, current, offset);
  for (;;) {
    if (block.position > offset) {
      crc = appendZeros(crc, block.position - offset);
      offset = block.position;
      copy.onProgress?.(offset);
    }
    const { bytes } = block;
    if (bytes.length === 0) return { crc32: crc, writtenBytes };
    // The next one with data is read meanwhile, however many known zeros lie between.
    const reading = readNext(copy, spare, offset + bytes.length);
    const isZero = isZeroBlock(bytes);
    const writing = isZero ? 0 : write(copy, block);
    crc = isZero ? appendZeros(crc, bytes.length) : crc32(bytes, crc);
    // Both are waited for, also when one fails: nothing may still read or write once the caller
    // closes the files.
    const [read, written] = await Promise.allSettled([reading, writing]);
    if (written.status === "rejected") throw written.reason;
    writtenBytes += written.value;
    behind.wrote(written.value);
    offset += bytes.length;
    copy.onProgress?.(offset);
    if (read.status === "rejected") throw read.reason;
    block = read.value;
    [current, spare] = [spare, current];
  }
}

/** Some bytes of the source, a block at most. */
interface Block {
  readonly position: number;
  readonly bytes: Buffer;
}

/**
 * The first block from `position` on that is not known to be zero; empty at the end of the copy.
 */
async function readNext(copy: BlockCopy, buffer: Buffer, position: number): Promise<Block> {
  copy.signal?.throwIfAborted();
  const start = skipZeros(copy, position);
  const bytes = buffer.subarray(0, copy.sizeBytes - start);
  const readBytes = await readFully(copy.source, bytes, start);
  if (readBytes === bytes.length) return { position: start, bytes };
  throw new ImportError(
    "StagedDataChanged",
    `Cannot copy the staged data: it has ${start + readBytes} of ${copy.sizeBytes} bytes`,
  );
}

/** Where the first block begins that is not known to be zero; `sizeBytes` when there is none. */
function skipZeros({ zeroBlocks, sizeBytes }: BlockCopy, position: number): number {
  let block = Math.floor(position / BLOCK_BYTES);
  if (zeroBlocks?.has(block) !== true) return position;
  while (zeroBlocks.has(block)) block += 1;
  return Math.min(block * BLOCK_BYTES, sizeBytes);
}

async function write(copy: BlockCopy, { bytes, position }: Block): Promise<number> {
  await copy.limiter?.take(bytes.length, copy.signal);
  await writeFully(copy.target, bytes, position);
  return bytes.length;
}

function partTooShort(actualBytes: number, expectedBytes: number): RangeError {
  return new RangeError(
    `Cannot resume at byte ${expectedBytes}: the part file has only ${actualBytes} bytes`,
  );
}
