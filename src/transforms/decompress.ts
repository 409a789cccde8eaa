import type { FileHandle } from "node:fs/promises";
import { BLOCK_BYTES } from "../bytes/block-size.ts";
import { readFully } from "../bytes/positional-io.ts";
import {
  COMPRESSION_MARK_BYTES,
  recogniseCompression,
  type Compression,
} from "../domain/compression.ts";
import { formatDuration } from "../domain/duration.ts";
import { ImportError } from "../domain/import-failure.ts";
import { timerMs } from "../domain/timer-ms.ts";
import type { DecompressSettings } from "../domain/transform-settings.ts";
import { decompressZstd } from "./decompress-zstd.ts";
import { decompressedBytes, type DecompressionLimits } from "./decompressed-bytes.ts";
import { versionOf, whyNotRunnable } from "./limited-program.ts";
import { makeProduct } from "./make-product.ts";
import type { Transform, TransformWork } from "./transform.ts";
import { writeProduct } from "./write-product.ts";

const MIB = 1024 * 1024;

/**
 * Decompresses one layer of an image that is compressed by gzip, zstd or xz, or is the only member
 * of a zip archive. The compression is recognised by the first bytes. An image whose container
 * format is `compressed` stays as it is.
 *
 * `run` throws `ImportError`: `DecompressionFailed` for an image that is damaged, cut off or
 * followed by other bytes, or that takes too long; `ProductTooLarge` above the limits; `NoSpace`
 * and similar failures of the disk.
 */
export function decompress(settings: DecompressSettings = {}): Transform {
  const { timeLimitMs = 6 * 3_600_000, zstd = "zstd", xz = "xz" } = settings;
  const limits = {
    maxRatio: settings.maxRatio ?? 64,
    ratioFreeBytes: settings.ratioFreeBytes ?? 64 * MIB,
    memoryBytes: settings.memoryBytes ?? 256 * MIB,
    cpuSeconds: Math.ceil(timeLimitMs / 1000),
    programs: { zstd, xz },
  };
  return {
    name: "decompress",
    run: async (work) => {
      if (work.image.containerFormat === "compressed") return undefined;
      const first = Buffer.alloc(Math.min(COMPRESSION_MARK_BYTES, work.sizeBytes));
      const firstBytes = await readFully(work.source, first, 0);
      const compression = recogniseCompression(first.subarray(0, firstBytes));
      if (compression === undefined) return undefined;
      const time = AbortSignal.timeout(timerMs(timeLimitMs));
      const signal = AbortSignal.any([work.signal, time]);
      const { sizeBytes: compressedBytes, maxProductBytes: maxBytes } = work;
      const allowed = { ...limits, maxBytes };
      const fill = async (product: FileHandle): Promise<unknown> => {
        if (compression === "zstd") {
          return decompressZstd({ ...work, signal }, product, allowed);
        }
        const options = { ...allowed, compression, compressedBytes, signal };
        return writeProduct(decompressedBytes(sourceBytes(work, signal), options), product);
      };
      await makeProduct(work, fill).catch((error: unknown) => {
        throw time.aborted && error === time.reason ? tookTooLong(timeLimitMs) : error;
      });
      return { hasProduct: true, tool: await toolOf(compression, limits.programs) };
    },
    check: async () => {
      const reasons = await Promise.all([
        whyNotRunnable(zstd, "zstd"),
        whyNotRunnable(xz, "xz-utils"),
      ]);
      const known = reasons.filter((reason) => reason !== undefined);
      return known.length === 0 ? undefined : known.join("; ");
    },
  };
}

async function toolOf(
  compression: Compression,
  programs: DecompressionLimits["programs"],
): Promise<string | undefined> {
  const isInside = compression === "gzip" || compression === "zip";
  return isInside ? `zlib ${process.versions.zlib}` : versionOf(programs[compression]);
}

async function* sourceBytes(
  { source, sizeBytes, report }: TransformWork,
  signal: AbortSignal,
): AsyncGenerator<Buffer> {
  for (let position = 0; position < sizeBytes;) {
    signal.throwIfAborted();
    // A new buffer for each block: the reader may still hold the one before.
    const block = Buffer.allocUnsafe(Math.min(BLOCK_BYTES, sizeBytes - position));
    const readBytes = await readFully(source, block, position);
    position += readBytes;
    if (readBytes < block.length) {
      throw new ImportError(
        "StagedDataChanged",
        `Cannot decompress the image: it has only ${position} of ${sizeBytes} bytes`,
      );
    }
    yield block;
    report(position, sizeBytes);
  }
}

function tookTooLong(timeLimitMs: number): ImportError {
  return new ImportError(
    "DecompressionFailed",
    `Cannot decompress the image: it took longer than ${formatDuration(timeLimitMs)}, the time limit of decompression`,
  );
}
