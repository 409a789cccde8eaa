import type { FileHandle } from "node:fs/promises";
import { formatDuration } from "../domain/duration.ts";
import { ImportError } from "../domain/import-failure.ts";
import { startLimited } from "./limited-program.ts";
import type { ProgramEnding, ProgramLimits, RunningProgram } from "./limited-program.ts";
import { requireUndisturbed } from "./program-failure.ts";

/** A file, and QEMU's name of the format in which it is read or written. It is never guessed. */
export interface DiskFile {
  readonly handle: FileHandle;
  readonly driver: string;
}

/** The result of `qemu-img info`. */
export interface DiskInfo {
  readonly format: string;
  /** In bytes. */
  readonly virtualSizeBytes: number;
  readonly isEncrypted: boolean;
  /** The kinds of other files that it refers to, such as "backing file". */
  readonly references: readonly string[];
  /** The `createType` of a VMDK. */
  readonly createType: string | undefined;
}

/** Settings of {@link convertDisk}. */
export interface DiskConversion {
  readonly source: DiskFile;
  /** An empty file, open for reading and writing. */
  readonly target: DiskFile;
  /** Options of the target's format, such as `subformat=streamOptimized`. */
  readonly targetOptions: readonly string[];
  readonly limits: ProgramLimits;
  readonly signal: AbortSignal;
  /** Called with the part that is done, from 0 to 1. */
  readonly onProgress: (part: number) => void;
}

const GIB = 1024 ** 3;

/** Limits of Glance. Reading a header takes milliseconds. */
const INFO_LIMITS: ProgramLimits = { memoryBytes: GIB, cpuSeconds: 2, fileBytes: 0 };
const INFO_TIME_LIMIT_MS = 30_000;

/**
 * Inspects a disk by `qemu-img info`.
 *
 * @throws ImportError `ConversionFailed` when it fails, or prints a warning; retried:
 *   `TransformUnavailable`
 */
export async function inspectDisk(
  qemuImg: string,
  { handle, driver }: DiskFile,
  signal: AbortSignal,
  timeLimitMs = INFO_TIME_LIMIT_MS,
): Promise<DiskInfo> {
  const time = AbortSignal.timeout(timeLimitMs);
  const running = await startLimited({
    command: qemuImg,
    arguments: ["info", "-f", driver, "--output=json", fileAt(0)],
    limits: INFO_LIMITS,
    files: [handle],
    signal: AbortSignal.any([signal, time]),
  });
  running.stdin.end();
  const output = await outputOf(running);
  signal.throwIfAborted();
  const ending = await running.ended;
  if (time.aborted && ending.killedBy === "SIGKILL") {
    // Its processor time is limited to 2 s. So it waited for a disk, and the image is not the
    // cause.
    throw new ImportError(
      "TransformUnavailable",
      `Cannot convert the image: qemu-img info did not end within ${formatDuration(timeLimitMs)}`,
      { hint: "Check the staging volume; the step is retried automatically." },
    );
  }
  assertEndedWell("info", ending);
  return parseInfo(output);
}

/** Only a disk with tens of thousands of snapshots has more output. */
const INFO_BYTES = 1024 ** 2;

async function outputOf(running: RunningProgram): Promise<string> {
  let output = "";
  try {
    for await (const chunk of running.stdout as AsyncIterable<Buffer>) {
      output += chunk.toString();
      if (output.length > INFO_BYTES)
        throw conversionFailed("`qemu-img info` printed more than 1 MiB");
    }
  } finally {
    if (output.length > INFO_BYTES) running.kill();
    await running.ended;
  }
  return output;
}

// The formats that qemu-img can check. It finds the missing parts of a vpc when it opens the file.
const CHECKED = ["qcow2", "vmdk", "vdi", "vhdx"];

/** The exit code of `qemu-img check` if space is wasted, but the data is right. */
const ONLY_LEAKS = 3;

/**
 * Makes sure by `qemu-img check` that a disk is complete. The conversion of a cut-off disk would
 * succeed: the missing bytes read as zeros.
 *
 * @throws ImportError `ConversionFailed` when it is not; retried: `TransformUnavailable`
 */
export async function checkDisk(
  qemuImg: string,
  { handle, driver }: DiskFile,
  { limits, signal }: Pick<DiskConversion, "limits" | "signal">,
): Promise<void> {
  if (!CHECKED.includes(driver)) return;
  const running = await startLimited({
    command: qemuImg,
    arguments: ["check", "-f", driver, fileAt(0)],
    limits: { ...limits, fileBytes: 0 },
    files: [handle],
    signal,
  });
  running.stdin.end();
  running.stdout.resume();
  const ending = await running.ended;
  signal.throwIfAborted();
  if (ending.exitCode !== ONLY_LEAKS) assertEndedWell("check", ending);
}

/**
 * Converts a disk. The target then has all of its bytes, but is not yet synced.
 *
 * @throws ImportError `ConversionFailed` when qemu-img fails, or prints a warning; `NoSpace` when
 *   the disk is full; `ProductTooLarge` when the target became larger than its limit; retried:
 *   `TransformUnavailable`
 * @throws the signal's reason when it is aborted
 */
export async function convertDisk(qemuImg: string, conversion: DiskConversion): Promise<void> {
  const { source, target, targetOptions, limits, signal, onProgress } = conversion;
  const options = targetOptions.flatMap((option) => ["-o", option]);
  const running = await startLimited({
    command: qemuImg,
    arguments: [
      ...["convert", "-p", "-f", source.driver, "-O", target.driver, ...options],
      ...[fileAt(0), fileAt(1)],
    ],
    limits,
    files: [source.handle, target.handle],
    signal,
  });
  running.stdin.end();
  try {
    // The output is `    (12.34/100%)` and a carriage return, again and again.
    for await (const chunk of running.stdout as AsyncIterable<Buffer>) {
      const percent = [...chunk.toString().matchAll(/\((\d+\.\d+)\/100%\)/g)].at(-1)?.[1];
      if (percent !== undefined) onProgress(Number(percent) / 100);
    }
  } catch (error) {
    running.kill();
    throw error;
  } finally {
    await running.ended;
  }
  signal.throwIfAborted();
  assertEndedWell("convert", await running.ended);
}

/**
 * A path that qemu-img cannot take for a protocol. It leads to the open file even if the file's
 * name now leads to another.
 */
function fileAt(index: number): string {
  return `/proc/self/fd/${3 + index}`;
}

function parseInfo(output: string): DiskInfo {
  const info = JSON.parse(output) as {
    readonly format: string;
    readonly "virtual-size": number;
    readonly encrypted?: boolean;
    readonly "backing-filename"?: string;
    readonly "full-backing-filename"?: string;
    readonly "format-specific"?: {
      readonly data: { readonly "data-file"?: string; readonly "create-type"?: string };
    };
  };
  const data = info["format-specific"]?.data;
  const references = [
    ...("backing-filename" in info || "full-backing-filename" in info ? ["backing file"] : []),
    ...(data !== undefined && "data-file" in data ? ["data file"] : []),
  ];
  return {
    format: info.format,
    virtualSizeBytes: info["virtual-size"],
    isEncrypted: info.encrypted === true,
    references,
    createType: data?.["create-type"],
  };
}

function assertEndedWell(what: string, { exitCode, killedBy, stderr }: ProgramEnding): void {
  // A warning counts: a disk that qemu-img does not fully understand is not converted.
  if (exitCode === 0 && stderr === "") return;
  requireUndisturbed({ exitCode, killedBy, stderr }, (reason) =>
    conversionFailed(`qemu-img ${what} ${reason}`),
  );
  const said = stderr.trim().replaceAll(/\s*\n\s*/g, "; ");
  if (killedBy === "SIGXFSZ" || /File too large/.test(said)) {
    throw new ImportError(
      "ProductTooLarge",
      "Cannot convert the image: the product became larger than its limit",
    );
  }
  throw conversionFailed(`qemu-img ${what} ${howItEnded({ exitCode, killedBy, stderr: said })}`);
}

function howItEnded({ exitCode, killedBy, stderr }: ProgramEnding): string {
  if (killedBy === "SIGXCPU") return "exceeded its limit of processor time";
  if (killedBy !== null) return `was killed by ${killedBy}${stderr === "" ? "" : `: ${stderr}`}`;
  return `exited with code ${String(exitCode)}: ${stderr}`;
}

/** @returns an `ImportError` `ConversionFailed` */
export function conversionFailed(reason: string): ImportError {
  return new ImportError("ConversionFailed", `Cannot convert the image: ${reason}`);
}
