import { constants } from "node:fs";
import { open } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { basename } from "node:path";

/**
 * A directory that this process holds open. Every path of {@link HeldDirectory.pathOf} stays in it,
 * even when its own path leads elsewhere by then: while it is held, its volume cannot be unmounted,
 * and a volume that is mounted over it is not entered.
 */
export class HeldDirectory implements AsyncDisposable {
  /** The path by which it was opened, for messages. */
  readonly path: string;
  readonly #handle: FileHandle;

  private constructor(path: string, handle: FileHandle) {
    this.path = path;
    this.#handle = handle;
  }

  /** @throws the system's own error: `ENOENT`, `ENOTDIR`, `EACCES` */
  static async open(path: string): Promise<HeldDirectory> {
    return new HeldDirectory(path, await open(path, constants.O_RDONLY | constants.O_DIRECTORY));
  }

  /** Does some work in the directory. Errors of the work name the directory by its path. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    try {
      return await work();
    } catch (error) {
      if (error instanceof Error) {
        error.message = error.message.replaceAll(this.ownPath, this.path);
      }
      throw error;
    }
  }

  /** A path of the directory itself, valid in this process as long as it is held. */
  get ownPath(): string {
    // The kernel resolves it to the open directory, even after a rename: see proc_pid_fd(5).
    return `/proc/self/fd/${String(this.#handle.fd)}`;
  }

  /** A path of one of its entries, valid in this process as long as it is held. */
  pathOf(name: string): string {
    return `${this.ownPath}/${basename(name)}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}
