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

/** How much of a log is kept. */
export interface RotationLimits {
  /** A log that is longer is put aside. */
  readonly maxSizeBytes: number;
  /** How many logs that were put aside are kept: `<log>.1` is the newest. */
  readonly keep: number;
}

/**
 * Puts a log aside that has grown too long: its bytes are copied to `<log>.1`, and it is emptied.
 * The file itself stays, because programs that outlive this one have it open, for appending. What a
 * program writes between the last read of the copy and the emptying, some microseconds, is lost.
 */
export function rotateIfLong(logFile: string, { maxSizeBytes, keep }: RotationLimits): void {
  const sizeBytes = statSync(logFile, { throwIfNoEntry: false })?.size ?? 0;
  if (sizeBytes <= maxSizeBytes) return;
  copyFileSync(logFile, `${logFile}.new`);
  emptyAfter(logFile, sizeOf(`${logFile}.new`));
  for (let number = keep; number > 1; number -= 1) {
    moveIfThere(`${logFile}.${String(number - 1)}`, `${logFile}.${String(number)}`);
  }
  renameSync(`${logFile}.new`, `${logFile}.1`);
}

/**
 * Appends to the copy what was written meanwhile, until there is nothing more, and empties the log.
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
      writeSync(copy, buffer, 0, bytes);
      position += bytes;
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
