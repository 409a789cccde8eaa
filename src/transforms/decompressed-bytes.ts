import { formatBytes } from "../domain/byte-size.ts";
import type { Compression } from "../domain/compression.ts";
import { ImportError } from "../domain/import-failure.ts";
import { ChunkReader } from "./chunk-reader.ts";
import { damaged, gunzip } from "./inflate.ts";
import { startLimited } from "./limited-program.ts";
import type { ProgramEnding, RunningProgram } from "./limited-program.ts";
import { requireUndisturbed } from "./program-failure.ts";
import { unzipMember } from "./unzip-member.ts";

/** The limits of a decompression, and the programs that it needs. */
export interface DecompressionLimits {
  /** The most decompressed bytes. */
  readonly maxBytes: number;
  /** The most decompressed bytes for each compressed byte. */
  readonly maxRatio: number;
  /** The number of decompressed bytes up to which `maxRatio` does not count. */
  readonly ratioFreeBytes: number;
  /** Memory that zstd and xz may use for their windows, in bytes. */
  readonly memoryBytes: number;
  /** Processor time that they may use, in seconds. */
  readonly cpuSeconds: number;
  /** The programs, by name or path. */
  readonly programs: { readonly zstd: string; readonly xz: string };
}

/** Settings of {@link decompressedBytes}. */
export interface Decompression extends DecompressionLimits {
  readonly compression: Exclude<Compression, "zstd">;
  /**
   * The number of compressed bytes, if it is known. Default: those that have come so far count for
   * the ratio.
   */
  readonly compressedBytes?: number | undefined;
  readonly signal: AbortSignal;
}

/**
 * Decompresses one layer of bytes while they come. The result is valid only when it is complete: a
 * wrong checksum is found at the end.
 *
 * @param compressed - the compressed bytes in chunks of any size; it must stop when the signal is
 *   aborted
 * @throws ImportError `DecompressionFailed` when they are damaged, cut off, or followed by other
 *   bytes
 * @throws ImportError `ProductTooLarge` when the result is larger than allowed; retried:
 *   `TransformUnavailable` when the program was disturbed
 * @throws the signal's reason when it is aborted; errors of `compressed`
 */
export async function* decompressedBytes(
  compressed: AsyncIterable<Buffer>,
  options: Decompression,
): AsyncGenerator<Buffer> {
  const reader = new ChunkReader(compressed);
  let doneBytes = 0;
  try {
    for await (const chunk of decoded(reader, options)) {
      options.signal.throwIfAborted();
      doneBytes += chunk.length;
      assertNotTooMuch(doneBytes, reader.takenBytes, options);
      yield chunk;
    }
  } finally {
    await reader.close();
  }
}

function decoded(reader: ChunkReader, options: Decompression): AsyncIterable<Buffer> {
  switch (options.compression) {
    case "gzip":
      return gunzip(reader);
    case "zip":
      return unzipMember(reader);
    case "xz":
      return throughProgram(reader, options.programs.xz, xzArguments(options), options);
  }
}

function xzArguments({ memoryBytes }: DecompressionLimits): readonly string[] {
  // One format, so that following bytes are not taken for another one. One thread, so that the
  // memory limit is that of one thread.
  return ["-d", "-c", "--format=xz", "--threads=1", `--memlimit-decompress=${memoryBytes}`];
}

/** Memory of the programs beside their windows: code, libraries, stacks of threads. @internal */
export const PROGRAM_BYTES = 256 * 1024 * 1024;

async function* throughProgram(
  reader: ChunkReader,
  command: string,
  args: readonly string[],
  { memoryBytes, cpuSeconds, signal }: Decompression,
): AsyncGenerator<Buffer> {
  const running = await startLimited({
    command,
    arguments: args,
    limits: { memoryBytes: memoryBytes + PROGRAM_BYTES, cpuSeconds, fileBytes: 0 },
    signal,
  });
  const feeding = feed(running, reader);
  // It may fail before it is awaited, which must not count as an unhandled rejection.
  feeding.catch(() => undefined);
  try {
    for await (const chunk of running.stdout as AsyncIterable<Buffer>) yield chunk;
    const ending = await running.ended;
    signal.throwIfAborted();
    await feeding;
    assertEndedWell(command, ending);
  } finally {
    running.kill();
    // No read may be in progress when the caller closes the source.
    await Promise.allSettled([feeding, running.ended]);
  }
}

/**
 * Feeds the program. A program that closes its input ends the feeding without an error.
 *
 * @throws errors of the source, after the program was killed
 */
async function feed(running: RunningProgram, reader: ChunkReader): Promise<void> {
  try {
    for (let chunk = await reader.next(); chunk !== undefined; chunk = await reader.next()) {
      if (!(await wasTaken(running, chunk))) return;
    }
    running.stdin.end();
  } catch (error) {
    running.kill();
    throw error;
  }
}

async function wasTaken({ stdin }: RunningProgram, chunk: Buffer): Promise<boolean> {
  return new Promise((resolve) => {
    stdin.write(chunk, (error) => {
      resolve(error == null);
    });
  });
}

/**
 * Makes sure that a program ended successfully.
 *
 * @throws ImportError `DecompressionFailed` with the error output of the program; `NoSpace`;
 *   retried: `TransformUnavailable`
 */
export function assertEndedWell(command: string, ending: ProgramEnding): void {
  const { exitCode, killedBy, stderr } = ending;
  if (exitCode === 0) return;
  requireUndisturbed(ending, (reason) => damaged(`${command} ${reason}`));
  const how = killedBy === null ? `ended with ${String(exitCode)}` : `was ended by ${killedBy}`;
  const said = stderr.trim().replaceAll(/\s*\n\s*/g, "; ");
  throw damaged(said === "" ? `${command} ${how}` : `${command} ${how}: ${said}`);
}

/**
 * Makes sure that the decompressed bytes are not more than the limits allow.
 *
 * @param takenBytes - the number of compressed bytes that have come so far
 * @throws ImportError `ProductTooLarge` when the decompressed bytes are more than allowed
 */
export function assertNotTooMuch(
  doneBytes: number,
  takenBytes: number,
  {
    maxBytes,
    maxRatio,
    ratioFreeBytes,
    compressedBytes = takenBytes,
  }: Pick<Decompression, "maxBytes" | "maxRatio" | "ratioFreeBytes" | "compressedBytes">,
): void {
  if (doneBytes > maxBytes) {
    throw new ImportError(
      "ProductTooLarge",
      `Cannot decompress the image: its content is larger than the ${formatBytes(maxBytes)} that the product may have`,
    );
  }
  if (doneBytes <= ratioFreeBytes || doneBytes <= maxRatio * compressedBytes) return;
  throw new ImportError(
    "ProductTooLarge",
    `Cannot decompress the image: ${formatBytes(compressedBytes)} became more than ${formatBytes(doneBytes)}, ` +
      `but above ${formatBytes(ratioFreeBytes)} the content may be at most ${maxRatio} times larger`,
  );
}
