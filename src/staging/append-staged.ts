import type { FileHandle } from "node:fs/promises";
import { processBlocks } from "../bytes/block-pool.ts";
import { BLOCK_BYTES } from "../bytes/block-size.ts";
import { SparseWriter, type SparseWriterOptions } from "../bytes/sparse-writer.ts";
import type { Report } from "../domain/report.ts";
import { fillBlock, unlessAborted, type ByteSource } from "./byte-source.ts";

/** Settings of {@link appendStaged}. */
export interface StagingAppend extends SparseWriterOptions {
  /** Length of the target. The bytes of the source are written after it. */
  readonly startAt: number;
  /** Called after every block with the length that the target will have. */
  readonly report?: Report;
}

/**
 * Writes a source to its end after the bytes of a private file, without digests. The length of the
 * file shows the progress at any time, zeros included.
 *
 * @returns the length of the file
 * @throws the signal's reason when it is aborted, what the source throws, else the system's own
 *   error; the bytes that were read before it are written
 */
export async function appendStaged(
  source: ByteSource,
  target: FileHandle,
  options: StagingAppend,
): Promise<number> {
  const { signal, report } = options;
  const writer = new SparseWriter(target, options);
  const blocks = processBlocks.share();
  let endBytes = options.startAt;
  try {
    for (;;) {
      signal?.throwIfAborted();
      await unlessAborted(source.ready?.(), signal);
      using block = await blocks.acquire();
      // Reads to the end of a block of the file, so that complete zero blocks become holes.
      const wantedBytes = BLOCK_BYTES - (endBytes % BLOCK_BYTES);
      const { lengthBytes, failure } = await fillBlock(source, block, wantedBytes, signal);
      if (lengthBytes > 0) {
        const isZero = await writer.writeLent(block, lengthBytes, endBytes);
        endBytes += lengthBytes;
        if (isZero) await target.truncate(endBytes);
        report?.(endBytes);
      }
      if (failure !== undefined) throw failure.error;
      if (lengthBytes === 0) break;
    }
    await writer.end(endBytes);
    return endBytes;
  } finally {
    source.close?.();
    await writer.close();
  }
}
