import { fstatSync, writeSync } from "node:fs";
import { Writable } from "node:stream";
import { isatty } from "node:tty";

/**
 * A standard stream that is a file. The stream of Node leaves bytes out when the system takes only
 * a part of them, and throws where it is used when the disk is full.
 */
class FileOutput extends Writable {
  readonly #fd: number;

  constructor(fd: number) {
    super();
    this.#fd = fd;
  }

  override _write(chunk: Buffer, _encoding: string, done: (error?: Error) => void): void {
    try {
      for (let writtenBytes = 0; writtenBytes < chunk.length;) {
        writtenBytes += writeSync(this.#fd, chunk, writtenBytes);
      }
    } catch (error) {
      // The stream lives on: a disk that is full now may take the next lines of a long command.
      this.emit("error", error);
    }
    done();
  }
}

/** Makes the standard streams of this process write every byte, or fail with an `error`. */
export function writeWholeOutput(): void {
  for (const [fd, name] of [
    [1, "stdout"],
    [2, "stderr"],
  ] as const) {
    // Pipes and terminals take all.
    if (isFile(fd)) Object.defineProperty(process, name, { value: new FileOutput(fd) });
  }
}

/** True for a file, for a disk, and for a device such as `/dev/full`. */
function isFile(fd: number): boolean {
  const stats = fstatSync(fd);
  // Node's own stream for a block device writes nothing.
  return stats.isFile() || stats.isBlockDevice() || (stats.isCharacterDevice() && !isatty(fd));
}
