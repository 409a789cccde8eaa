import {
  closeSync,
  copyFileSync,
  ftruncateSync,
  openSync,
  readSync,
  renameSync,
  rmSync,
  statSync,
  writeSync,
} from "node:fs";

/** Limits of a log. */
export interface RotationLimits {
  /** A longer log is rotated. */
  readonly maxSizeBytes: number;
  /** The number of rotated logs that are kept: `<log>.1` is the newest. */
  readonly keep: number;
}

/** Rotates logs, again and again, as far as it can. */
export class LogRotation {
  readonly #log: (line: string) => void;
  readonly #failed = new Set<string>();

  /** @param log - prints one line for the user */
  constructor(log: (line: string) => void) {
    this.#log = log;
  }

  /** Rotates a log that has grown too long. A failure is printed once, until it succeeds again. */
  rotate(logFile: string, limits: RotationLimits): void {
    try {
      rotateIfLong(logFile, limits);
      this.#failed.delete(logFile);
    } catch (error) {
      if (!this.#failed.has(logFile)) {
        const reason = error instanceof Error ? error.message : String(error);
        this.#log(
          `Cannot rotate the log "${logFile}": ${reason}. It grows until this works again.`,
        );
      }
      this.#failed.add(logFile);
    }
  }
}

/**
 * Rotates a log that has grown too long: copies its bytes to `<log>.1`, and empties it. The file
 * itself stays, because programs that outlive this one have it open for appending. Bytes that a
 * program writes between the last read of the copy and the emptying, some microseconds, are lost.
 */
export function rotateIfLong(logFile: string, { maxSizeBytes, keep }: RotationLimits): void {
  const sizeBytes = statSync(logFile, { throwIfNoEntry: false })?.size ?? 0;
  if (sizeBytes <= maxSizeBytes) return;
  try {
    copyFileSync(logFile, `${logFile}.new`);
    emptyAfter(logFile, sizeOf(`${logFile}.new`));
  } catch (error) {
    // A part of a copy would only take the rest of a full disk.
    rmSync(`${logFile}.new`, { force: true });
    throw error;
  }
  for (let number = keep; number > 1; number -= 1) {
    moveIfThere(`${logFile}.${String(number - 1)}`, `${logFile}.${String(number)}`);
  }
  renameSync(`${logFile}.new`, `${logFile}.1`);
}

/**
 * Appends to the copy what programs have written to the log meanwhile, until there is no more, and
 * empties the log.
 */
function emptyAfter(logFile: string, copiedBytes: number): void {
  const log = openSync(logFile, "r+");
  const copy = openSync(`${logFile}.new`, "a");
  try {
    const buffer = Buffer.alloc(64 * 1024);
    let position = copiedBytes;
    for (;;) {
      const bytes = readSync(log, buffer, 0, buffer.length, position);
      if (bytes === 0) break;
      // The system may take only a part of them; the rest is read again.
      position += writeSync(copy, buffer, 0, bytes);
    }
    ftruncateSync(log, 0);
  } finally {
    closeSync(copy);
    closeSync(log);
  }
}

function sizeOf(path: string): number {
  return statSync(path).size;
}

function moveIfThere(from: string, to: string): void {
  if (statSync(from, { throwIfNoEntry: false }) === undefined) rmSync(to, { force: true });
  else renameSync(from, to);
}
