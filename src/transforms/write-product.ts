import type { FileHandle } from "node:fs/promises";
import { BLOCK_BYTES } from "../bytes/block-size.ts";
import { SparseWriter } from "../bytes/sparse-writer.ts";

/**
 * Writes bytes into an empty file as they come; blocks of zeros are skipped, so that the file is
 * sparse. One block is written while the next one is filled. The file is not yet synced to its end.
 *
 * @returns the size of the file in bytes
 * @throws what `chunks` throws, else the system's own error (`ENOSPC`, `EIO`, …)
 */
export async function writeProduct(
  chunks: AsyncIterable<Buffer>,
  target: FileHandle,
): Promise<number> {
  const writer = new SparseWriter(target, { sync: () => target.datasync() });
  try {
    const sizeBytes = await writeChunks(chunks, writer);
    await writer.end(sizeBytes);
    return sizeBytes;
  } finally {
    await writer.close();
  }
}

async function writeChunks(chunks: AsyncIterable<Buffer>, writer: SparseWriter): Promise<number> {
  let [current, spare] = [Buffer.alloc(BLOCK_BYTES), Buffer.alloc(BLOCK_BYTES)];
  let [position, filledBytes] = [0, 0];
  for await (const chunk of chunks) {
    for (let at = 0; at < chunk.length;) {
      const copiedBytes = chunk.copy(current, filledBytes, at);
      at += copiedBytes;
      filledBytes += copiedBytes;
      if (filledBytes < BLOCK_BYTES) continue;
      await writer.write(current, position);
      position += filledBytes;
      filledBytes = 0;
      [current, spare] = [spare, current];
    }
  }
  await writer.write(current.subarray(0, filledBytes), position);
  return position + filledBytes;
}
