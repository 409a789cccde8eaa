import { formatBytes } from "../domain/byte-size.ts";
import type { Compression } from "../domain/compression.ts";
import { ImportError } from "../domain/import-failure.ts";
import { ChunkReader } from "./chunk-reader.ts";
import { damaged, gunzip } from "./inflate.ts";
import { startLimited } from "./limited-program.ts";
import type { ProgramEnding, RunningProgram } from "./limited-program.ts";
import { unzipMember } from "./unzip-member.ts";

/** What decompressing may take, and what it needs. */
export interface DecompressionLimits {
  /** The decompressed bytes may not become more than this. */
  readonly maxBytes: number;
  /** They may be so many times more than the compressed ones… */
  readonly maxRatio: number;
  /** …once they are more than this many bytes. */
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
  readonly compression: Compression;
  /**
   * How many compressed bytes there are, if that is known already; the ratio is held against those
   * that have come otherwise.
   */
  readonly compressedBytes?: number | undefined;
  readonly signal: AbortSignal;
}

/**
 * Decompresses bytes as they come, one layer. Bytes that come out are good only once all of them
 * have: a wrong checksum is found at the end.
 *
 * @param compressed - the compressed bytes in chunks of any size; it must stop by itself when the
 *   signal is aborted
 * @throws ImportError `DecompressionFailed` when they are damaged, cut off, or followed by anything
 *   else
 * @throws ImportError `ProductTooLarge` when more comes out than may
 * @throws the signal's reason when it is aborted; what `compressed` throws
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
    case "zstd":
      return throughProgram(reader, options.programs.zstd, zstdArguments(options), options);
    case "xz":
      return throughProgram(reader, options.programs.xz, xzArguments(options), options);
  }
}

/**
 * As much as a window of 2^27 takes, the most that zstd itself decompresses without being asked to.
 */
const ZSTD_WINDOW_BYTES = 128 * 1024 * 1024;

function zstdArguments({ memoryBytes }: DecompressionLimits): readonly string[] {
  const windowBytes = Math.min(memoryBytes, ZSTD_WINDOW_BYTES);
  return ["-d", "-c", "-q", "--no-pass-through", `--memory=${windowBytes}`, "-"];
}

function xzArguments({ memoryBytes }: DecompressionLimits): readonly string[] {
  // One format, so that what follows is not taken for another; one thread, so that the memory is.
  return ["-d", "-c", "--format=xz", "--threads=1", `--memlimit-decompress=${memoryBytes}`];
}

/** Beside their windows: code, libraries, stacks of threads. */
const PROGRAM_BYTES = 256 * 1024 * 1024;

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
  // It may fail before anybody waits for it.
  feeding.catch(() => undefined);
  try {
    for await (const chunk of running.stdout as AsyncIterable<Buffer>) yield chunk;
    const ending = await running.ended;
    signal.throwIfAborted();
    await feeding;
    assertEndedWell(command, ending);
  } finally {
    running.kill();
    // Nothing may still read from the source once the caller closes it.
    await Promise.allSettled([feeding, running.ended]);
  }
}

/**
 * @throws what the source throws, with the program killed; a program that takes no more is no error
 *   here
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

function assertEndedWell(command: string, { exitCode, killedBy, stderr }: ProgramEnding): void {
  if (exitCode === 0) return;
  const how = killedBy === null ? `ended with ${String(exitCode)}` : `was ended by ${killedBy}`;
  const said = stderr.trim().replaceAll(/\s*\n\s*/g, "; ");
  throw damaged(said === "" ? `${command} ${how}` : `${command} ${how}: ${said}`);
}

function assertNotTooMuch(
  doneBytes: number,
  takenBytes: number,
  { maxBytes, maxRatio, ratioFreeBytes, compressedBytes = takenBytes }: Decompression,
): void {
  if (doneBytes > maxBytes) {
    throw new ImportError(
      "ProductTooLarge",
      `Cannot decompress the image: more than ${formatBytes(maxBytes)} came out, the most that it may become`,
    );
  }
  if (doneBytes <= ratioFreeBytes || doneBytes <= maxRatio * compressedBytes) return;
  throw new ImportError(
    "ProductTooLarge",
    `Cannot decompress the image: more than ${formatBytes(doneBytes)} came out of ${formatBytes(compressedBytes)}, ` +
      `and beyond ${formatBytes(ratioFreeBytes)} it may become ${maxRatio} times larger at most`,
  );
}
