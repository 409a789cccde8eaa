import { crc32 } from "node:zlib";
import { ImportError } from "../domain/import-failure.ts";
import type { Report } from "../domain/report.ts";
import type { BandwidthLimit } from "./bandwidth-limit.ts";
import { BLOCK_BYTES } from "./block-size.ts";
import { appendZeros } from "./crc-of-zeros.ts";
import { readFully, type PositionalReader } from "./positional-io.ts";
import { SparseWriter, type SparseTarget } from "./sparse-writer.ts";
import type { ZeroBlocks } from "./zero-blocks.ts";

/** The file that a copy is written to; a `FileHandle` open for writing is one. */
export interface CopyTarget extends SparseTarget {
  stat(): Promise<{ readonly size: number }>;
}

/** A copy to make with {@link copyBlocks}. */
export interface BlockCopy {
  readonly source: PositionalReader;
  readonly target: CopyTarget;
  /** Size of the source; bytes beyond it are not copied. */
  readonly sizeBytes: number;
  /** Number of bytes that the target holds from an earlier attempt; 0 for a new copy. */
  readonly startAt: number;
  /** crc32 of those bytes, from {@link rebuildCrc}; 0 for a new copy. */
  readonly crcSoFar: number;
  /** Blocks of the source that are known to be zero: they are not even read. */
  readonly zeroBlocks?: ZeroBlocks | undefined;
  /** Slows the writing down. Zero blocks take nothing from it. Default: no limit */
  readonly limiter?: BandwidthLimit | undefined;
  /** Makes the bytes written so far durable; called after every 128 MiB, beside the writing. */
  readonly sync?: () => Promise<void>;
  /** Stops the copy within a block. The blocks that were written stay, to be resumed. */
  readonly signal?: AbortSignal;
  /**
   * Called after every block, or run of known zeros, with the number of bytes copied so far,
   * `startAt` included.
   */
  readonly report?: Report;
}

/** The result of {@link copyBlocks}. */
export interface CopyResult {
  /** crc32 of the complete copy, zeros included. */
  readonly crc32: number;
  /** Bytes that were really written: neither those of earlier attempts nor zero blocks. */
  readonly writtenBytes: number;
}

/**
 * Copies a file block by block, and computes the crc32 of the copy on the way. The next block is
 * read while the last is written. Zero blocks are skipped, so that the target stays sparse. At most
 * two blocks are held.
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
  const writer = new SparseWriter(copy.target, copy);
  try {
    const crc = await writeSource(copy, writer);
    await writer.end(copy.sizeBytes);
    copy.report?.(copy.sizeBytes);
    return { crc32: crc, writtenBytes: writer.writtenBytes };
  } finally {
    await writer.close();
  }
}

/**
 * The crc32 of the first `lengthBytes` of a file, to resume a copy after them. It is computed from
 * the bytes that are really there: a part that differs from the source is noticed at the end of the
 * copy.
 *
 * @param handle - the part
 * @param lengthBytes - the size of the part, floored to a block
 * @param signal - stops the reading within a block
 * @param report - called after every block with the number of bytes read so far
 * @throws RangeError when the file is shorter
 */
export async function rebuildCrc(
  handle: PositionalReader,
  lengthBytes: number,
  signal?: AbortSignal,
  report?: Report,
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
    report?.(doneBytes);
  }
  return crc;
}

async function cutToStart({ target, startAt, sizeBytes }: BlockCopy): Promise<void> {
  const { size } = await target.stat();
  // Cutting a shorter file would lengthen it with zeros that no attempt has copied.
  if (size < startAt) throw partTooShort(size, startAt);
  if (startAt > sizeBytes) {
    throw new RangeError(`Cannot resume at byte ${startAt}: the source has ${sizeBytes} bytes`);
  }
  if (size > startAt) await target.truncate(startAt);
}

/** Copies every block that is not known to be zero. @returns the crc32 of the copy */
async function writeSource(copy: BlockCopy, writer: SparseWriter): Promise<number> {
  let [current, spare] = [Buffer.alloc(BLOCK_BYTES), Buffer.alloc(BLOCK_BYTES)];
  let { startAt: offset, crcSoFar: crc } = copy;
  let block = await readNext(copy, current, offset);
  for (;;) {
    const { position, bytes } = block;
    crc = appendZeros(crc, position - offset);
    if (bytes.length === 0) return crc;
    const isZero = await writer.write(bytes, position);
    // Every block before this one is written now, and its buffer is free.
    if (position > copy.startAt) copy.report?.(position);
    offset = position + bytes.length;
    const reading = readNext(copy, spare, offset);
    crc = isZero ? appendZeros(crc, bytes.length) : crc32(bytes, crc);
    block = await reading;
    [current, spare] = [spare, current];
  }
}

/** Bytes of the source, a block at most. */
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

/** Position of the first block that is not known to be zero; `sizeBytes` if there is none. */
function skipZeros({ zeroBlocks, sizeBytes }: BlockCopy, position: number): number {
  let block = Math.floor(position / BLOCK_BYTES);
  if (zeroBlocks?.has(block) !== true) return position;
  while (zeroBlocks.has(block)) block += 1;
  return Math.min(block * BLOCK_BYTES, sizeBytes);
}

function partTooShort(actualBytes: number, expectedBytes: number): RangeError {
  return new RangeError(
    `Cannot resume at byte ${expectedBytes}: the part file has only ${actualBytes} bytes`,
  );
}
