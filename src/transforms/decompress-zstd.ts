import { open, readFile, type FileHandle } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";
import { WriteBehind } from "../bytes/write-behind.ts";
import { ImportError } from "../domain/import-failure.ts";
import {
  assertEndedWell,
  assertNotTooMuch,
  PROGRAM_BYTES,
  type DecompressionLimits,
} from "./decompressed-bytes.ts";
import { startFilter, type LimitedProgram, type RunningFilter } from "./limited-program.ts";
import type { TransformWork } from "./transform.ts";

// zstd makes a few hundred MiB in this time.
const LOOK_EVERY_MS = 100;

/** The memory of a window of 2^27, the largest that zstd decompresses by default. */
const ZSTD_WINDOW_BYTES = 128 * 1024 * 1024;

/**
 * Decompresses a zstd file into an empty product, which is not yet synced to its end and has holes
 * where zeros are. zstd reads and writes the files itself: with pipes to this process it takes up
 * to twice the time.
 *
 * @throws ImportError `DecompressionFailed` when the bytes are damaged, cut off, or followed by
 *   others; `ProductTooLarge`, `NoSpace`, `StagedDataChanged`; retried: `StagingUnavailable`,
 *   `TransformUnavailable`
 * @throws the signal's reason when it is aborted
 */
export async function decompressZstd(
  { source, sizeBytes, report, signal }: TransformWork,
  product: FileHandle,
  limits: DecompressionLimits,
): Promise<void> {
  // Opened again, for a position of its own that begins at 0.
  const input = await open(`/proc/self/fd/${source.fd}`);
  const behind = new WriteBehind(() => product.datasync());
  try {
    await assertComplete(input, sizeBytes);
    const running = await startFilter(program(limits, sizeBytes, signal), {
      input,
      output: product,
    });
    let madeBytes = 0;
    await whileRunning(running, async () => {
      const before = madeBytes;
      madeBytes = await positionOf(product);
      // The kernel's limit of the file size does not notice a hole before bytes follow it.
      assertNotTooMuch(madeBytes, sizeBytes, limits);
      behind.wrote(madeBytes - before);
      report(await positionOf(input), sizeBytes);
    });
    signal.throwIfAborted();
    await assertComplete(input, sizeBytes);
    await assertMade(running, limits, sizeBytes);
    report(sizeBytes, sizeBytes);
  } finally {
    await behind.end().finally(() => input.close());
  }
}

function program(
  limits: DecompressionLimits,
  compressedBytes: number,
  signal: AbortSignal,
): LimitedProgram {
  const { memoryBytes, cpuSeconds, programs } = limits;
  const windowBytes = Math.min(memoryBytes, ZSTD_WINDOW_BYTES);
  return {
    command: programs.zstd,
    arguments: [
      ...["-d", "-c", "-q", "--sparse", "--no-pass-through", `--memory=${windowBytes}`, "-"],
    ],
    limits: {
      memoryBytes: memoryBytes + PROGRAM_BYTES,
      cpuSeconds,
      fileBytes: largestProduct(limits, compressedBytes),
    },
    signal,
  };
}

function largestProduct(
  { maxBytes, maxRatio, ratioFreeBytes }: DecompressionLimits,
  compressedBytes: number,
): number {
  return Math.min(maxBytes, Math.max(ratioFreeBytes, Math.floor(maxRatio * compressedBytes)));
}

/**
 * Calls `look` again and again until the program has ended. The program has ended when this returns
 * or throws.
 */
async function whileRunning(running: RunningFilter, look: () => Promise<void>): Promise<void> {
  const over = new AbortController();
  const ended = running.ended.finally(() => {
    over.abort();
  });
  try {
    while (!over.signal.aborted) {
      await look();
      await sleep(LOOK_EVERY_MS, undefined, { signal: over.signal }).catch(() => undefined);
    }
  } finally {
    running.kill();
    await ended;
  }
}

/** The position in an open file, which the program moves that reads or writes it. */
async function positionOf({ fd }: FileHandle): Promise<number> {
  const info = await readFile(`/proc/self/fdinfo/${fd}`, "utf8");
  return Number(/^pos:\s*(\d+)$/m.exec(info)?.[1]);
}

async function assertComplete(source: FileHandle, sizeBytes: number): Promise<void> {
  const { size } = await source.stat();
  if (size === sizeBytes) return;
  throw new ImportError(
    "StagedDataChanged",
    `Cannot decompress the image: it has ${size} bytes instead of ${sizeBytes}`,
  );
}

async function assertMade(
  running: RunningFilter,
  limits: DecompressionLimits,
  compressedBytes: number,
): Promise<void> {
  const ending = await running.ended;
  if (ending.killedBy === "SIGXFSZ" || /File too large/.test(ending.stderr)) {
    assertNotTooMuch(largestProduct(limits, compressedBytes) + 1, compressedBytes, limits);
  }
  // zstd prints this only if the system refuses a read or a write. For a file that is cut off it
  // prints "Read error (39)".
  if (/error 37 : Read error|Input\/output error/.test(ending.stderr)) {
    const said = ending.stderr.trim();
    throw new ImportError("StagingUnavailable", `Cannot use the staging area: ${said}`);
  }
  assertEndedWell(limits.programs.zstd, ending);
}
