import type { FileHandle } from "node:fs/promises";
import { BLOCK_BYTES } from "../bytes/block-size.ts";
import { writeFully } from "../bytes/positional-io.ts";
import { WriteBehind } from "../bytes/write-behind.ts";
import { isZeroBlock } from "../bytes/zero-blocks.ts";

/**
 * Writes bytes into an empty file as they come; blocks of zeros are skipped, so that the file is
 * sparse. One block is written while the next one is filled. The file is not yet synced to its end.
 *
 * @returns how many bytes the file has
 * @throws what `chunks` throws, else the system's own error (`ENOSPC`, `EIO`, …)
 */
export async function writeProduct(
  chunks: AsyncIterable<Buffer>,
  target: FileHandle,
): Promise<number> {
  const behind = new WriteBehind(() => target.datasync());
  let [current, spare] = [Buffer.alloc(BLOCK_BYTES), Buffer.alloc(BLOCK_BYTES)];
  let [position, filledBytes] = [0, 0];
  let writing = Promise.resolve(0);
  const writeFilled = async (): Promise<void> => {
    behind.wrote(await writing);
    writing = writeUnlessZero(target, current.subarray(0, filledBytes), position);
    // Not an unhandled rejection meanwhile: the next block, or the end, awaits it.
    writing.catch(() => undefined);
    position += filledBytes;
    filledBytes = 0;
    [current, spare] = [spare, current];
  };
  try {
    for await (const chunk of chunks) {
      for (let at = 0; at < chunk.length;) {
        const copiedBytes = chunk.copy(current, filledBytes, at);
        at += copiedBytes;
        filledBytes += copiedBytes;
        if (filledBytes === BLOCK_BYTES) await writeFilled();
      }
    }
    await writeFilled();
    await writing;
  } finally {
    // Nothing may still write when the caller closes the file.
    await writing.catch(() => undefined);
    await behind.end();
  }
  await target.truncate(position);
  return position;
}

/** @returns how many bytes were really written */
async function writeUnlessZero(
  target: FileHandle,
  block: Buffer,
  position: number,
): Promise<number> {
  if (isZeroBlock(block)) return 0;
  await writeFully(target, block, position);
  return block.length;
}
