import type { FileHandle } from "node:fs/promises";
import { ImportError } from "../domain/import-failure.ts";
import { startLimited } from "./limited-program.ts";
import type { ProgramEnding, ProgramLimits, RunningProgram } from "./limited-program.ts";

/** A file, and the format that it is read or written in, as QEMU names it. Never guessed. */
export interface DiskFile {
  readonly handle: FileHandle;
  readonly driver: string;
}

/** What `qemu-img info` says of a disk. */
export interface DiskInfo {
  readonly format: string;
  /** In bytes. */
  readonly virtualSizeBytes: number;
  readonly isEncrypted: boolean;
  /** Other files that it refers to, by the words of qemu-img. */
  readonly references: readonly string[];
  /** Of a VMDK: its `createType`. */
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
  /** Called with what part is done, from 0 to 1. */
  readonly onProgress: (part: number) => void;
}

const GIB = 1024 ** 3;

/** Reading a header takes milliseconds; Glance's limits. */
const INFO_LIMITS: ProgramLimits = { memoryBytes: GIB, cpuSeconds: 2, fileBytes: 0 };
const INFO_TIME_LIMIT_MS = 30_000;

/**
 * Asks qemu-img what a disk is.
 *
 * @throws ImportError `ConversionFailed` when it fails, or says anything but what it was asked
 */
export async function inspectDisk(
  qemuImg: string,
  { handle, driver }: DiskFile,
  signal: AbortSignal,
): Promise<DiskInfo> {
  const running = await startLimited({
    command: qemuImg,
    arguments: ["info", "-f", driver, "--output=json", fileAt(0)],
    limits: INFO_LIMITS,
    files: [handle],
    signal: AbortSignal.any([signal, AbortSignal.timeout(INFO_TIME_LIMIT_MS)]),
  });
  running.stdin.end();
  const output = await outputOf(running);
  signal.throwIfAborted();
  assertEndedWell("info", await running.ended);
  return parseInfo(output);
}

/** A disk with ten thousands of snapshots has more to tell. */
const INFO_BYTES = 1024 ** 2;

async function outputOf(running: RunningProgram): Promise<string> {
  let output = "";
  try {
    for await (const chunk of running.stdout as AsyncIterable<Buffer>) {
      output += chunk.toString();
      if (output.length > INFO_BYTES) throw conversionFailed("qemu-img has too much to say of it");
    }
  } finally {
    if (output.length > INFO_BYTES) running.kill();
    await running.ended;
  }
  return output;
}

// Those of QEMU's formats that it can check. It finds by itself what is missing of a vpc.
const CHECKED = ["qcow2", "vmdk", "vdi", "vhdx"];

/** What `qemu-img check` ends with when space is wasted, and nothing is wrong with the data. */
const ONLY_LEAKS = 3;

/**
 * Asks qemu-img whether a disk is whole. Converting one that is cut off would succeed: what is
 * missing reads as zeros.
 *
 * @throws ImportError `ConversionFailed` when it isn't
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
 * Converts a disk. The target has all of its bytes then, not yet synced.
 *
 * @throws ImportError `ConversionFailed` when qemu-img fails or complains; `NoSpace` when the disk
 *   is full; `ProductTooLarge` when the target became larger than its limit
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
    // `    (12.34/100%)`, and a carriage return, again and again.
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
 * A path that can't be taken for a protocol, and leads to the open file even if its name now leads
 * to another.
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
  const said = stderr.trim().replaceAll(/\s*\n\s*/g, "; ");
  if (/No space left on device|Disk quota exceeded/.test(said)) {
    throw new ImportError("NoSpace", `Cannot use the staging area: no space is left (${said})`);
  }
  if (killedBy === "SIGXFSZ" || /File too large/.test(said)) {
    throw new ImportError(
      "ProductTooLarge",
      "Cannot convert the image: its file became larger than the product may be",
    );
  }
  throw conversionFailed(`qemu-img ${what} ${howItEnded({ exitCode, killedBy, stderr: said })}`);
}

function howItEnded({ exitCode, killedBy, stderr }: ProgramEnding): string {
  if (killedBy === "SIGXCPU") return "took more processor time than it may";
  if (killedBy !== null) return `was ended by ${killedBy}${stderr === "" ? "" : `: ${stderr}`}`;
  return `ended with ${String(exitCode)}: ${stderr}`;
}

/** @returns an `ImportError` `ConversionFailed` */
export function conversionFailed(reason: string): ImportError {
  return new ImportError("ConversionFailed", `Cannot convert the image: ${reason}`);
}
