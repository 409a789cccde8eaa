import type { FileHandle } from "node:fs/promises";
import type { BandwidthLimit } from "../bytes/bandwidth-limit.ts";
import { BLOCK_BYTES } from "../bytes/block-size.ts";
import { DigestRing } from "../bytes/digest-ring.ts";
import { readFully } from "../bytes/positional-io.ts";
import { SparseWriter } from "../bytes/sparse-writer.ts";
import { isZeroBlock, type ZeroBlocks } from "../bytes/zero-blocks.ts";
import type { Digests } from "../domain/digests.ts";
import type { Report } from "../domain/report.ts";
import { fillBlock, unlessAborted, type ByteSource } from "./byte-source.ts";

/** Settings of {@link writeStaged}. */
export interface StagingWrite {
  /** The multihash, as node:crypto names it. */
  readonly hashAlgo: string;
  readonly limiter?: BandwidthLimit | undefined;
  /**
   * Waits for the right to write a file of `sizeBytes`; called before each block is written.
   * Default: no right is needed
   */
  readonly reserve?: ((sizeBytes: number) => Promise<void>) | undefined;
  /** Every block that is zero is added to it. Default: they are not recorded */
  readonly zeroBlocks?: ZeroBlocks | undefined;
  /**
   * Makes the bytes written so far durable; called after every 128 MiB, beside the writing, when
   * every byte that `report` reported is written.
   */
  readonly sync?: () => Promise<void>;
  /**
   * Length of the target, where an earlier attempt wrote it: those bytes are read from it and not
   * written again, and the bytes of the source are written after them. The length of the target
   * then always includes written zeros. Default: the target is empty, and no attempt resumes this
   * one
   */
  readonly resumeAt?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called after every block with the number of bytes that have passed. */
  readonly report?: Report;
}

/**
 * Writes a source to its end into a private file, and digests the bytes on the way, so that no step
 * reads them a second time. Zero blocks are skipped: a sparse source stays sparse. One block is
 * written while the next one is read and the last ones are digested.
 *
 * @throws the signal's reason when it is aborted, what `reserve` throws, else the system's own
 *   error
 */
export async function writeStaged(
  source: ByteSource,
  target: FileHandle,
  options: StagingWrite,
): Promise<Digests> {
  using ring = DigestRing.open({ hashAlgo: options.hashAlgo });
  const writer = new SparseWriter(target, options);
  try {
    const sizeBytes = await writeAndDigest(source, target, { ring, writer, options });
    await writer.end(sizeBytes);
  } finally {
    source.close?.();
    await writer.close();
  }
  return await ring.finish();
}

/** The machinery of one {@link writeStaged}. */
interface Writing {
  readonly ring: DigestRing;
  readonly writer: SparseWriter;
  readonly options: StagingWrite;
}

/** Brings every block of the source to the ring and to the file. @returns the size of the file */
async function writeAndDigest(
  source: ByteSource,
  target: FileHandle,
  { ring, writer, options }: Writing,
): Promise<number> {
  const { resumeAt, zeroBlocks, signal } = options;
  const bytes = resumedSource(target, resumeAt ?? 0, source);
  let doneBytes = 0;
  for (;;) {
    signal?.throwIfAborted();
    await unlessAborted(bytes.ready?.(), signal);
    using block = await ring.acquire();
    const { lengthBytes, failure } = await fillBlock(bytes, block, BLOCK_BYTES, signal);
    if (lengthBytes === 0) {
      if (failure !== undefined) throw failure.error;
      return doneBytes;
    }
    const position = doneBytes;
    const end = position + lengthBytes;
    await options.reserve?.(end);
    ring.submit(block, lengthBytes);
    const filled = block.bytes.subarray(0, lengthBytes);
    const isHeld = resumeAt !== undefined && end <= resumeAt;
    const isZero = isHeld
      ? isZeroBlock(filled)
      : await writer.writeLent(block, lengthBytes, position);
    if (isZero) zeroBlocks?.add(position / BLOCK_BYTES);
    // An attempt that resumes this one sees its progress in the length of the file.
    if (isZero && !isHeld && resumeAt !== undefined) await target.truncate(end);
    doneBytes = end;
    options.report?.(doneBytes);
    // A block that the source left incomplete is written, too, for the next attempt.
    if (failure !== undefined) throw failure.error;
  }
}

/** Reads the bytes that the target holds already, and then the source. */
function resumedSource(target: FileHandle, lengthBytes: number, rest: ByteSource): ByteSource {
  let doneBytes = 0;
  return {
    ready: async () => {
      if (doneBytes === lengthBytes) await rest.ready?.();
    },
    async read(buffer) {
      if (doneBytes === lengthBytes) return rest.read(buffer);
      const wanted = buffer.subarray(0, lengthBytes - doneBytes);
      const readBytes = await readFully(target, wanted, doneBytes);
      if (readBytes < wanted.length)
        throw new Error("Cannot resume the part: it became shorter while it was read");
      doneBytes += readBytes;
      return readBytes;
    },
  };
}
