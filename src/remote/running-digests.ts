import { createHash, getHashes, type Hash } from "node:crypto";
import type { FileHandle } from "node:fs/promises";
import type { StagedImage } from "../client/stage-image.ts";
import { ImportError } from "../domain/import-failure.ts";

const BLOCK_BYTES = 1024 * 1024;

/** The digests of bytes that are sent or received in order, some of them more than once. */
export class RunningDigests {
  readonly #algo: string;
  readonly #md5 = createHash("md5");
  readonly #multihash: Hash;
  #doneBytes = 0;

  /**
   * @param algo - the multihash, as node:crypto names it. Default, also for an unknown name: sha512
   */
  constructor(algo = "sha512") {
    this.#algo = getHashes().includes(algo) ? algo : "sha512";
    this.#multihash = createHash(this.#algo);
  }

  /** The number of bytes that were digested. */
  get doneBytes(): number {
    return this.#doneBytes;
  }

  /**
   * Digests the bytes of a position. Those that were digested before are skipped.
   *
   * @throws Error if bytes before the position are missing
   */
  update(bytes: Uint8Array, position: number): void {
    const fresh = bytes.subarray(this.#doneBytes - position);
    if (position > this.#doneBytes) throw new Error("The bytes before it are not digested");
    this.#md5.update(fresh);
    this.#multihash.update(fresh);
    this.#doneBytes += fresh.length;
  }

  /** Reads and digests a file up to a position, or to its end. */
  async reach(
    handle: FileHandle,
    position: number,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const block = Buffer.allocUnsafe(BLOCK_BYTES);
    while (this.#doneBytes < position) {
      signal?.throwIfAborted();
      const most = Math.min(BLOCK_BYTES, position - this.#doneBytes);
      const { bytesRead } = await handle.read(block, 0, most, this.#doneBytes);
      if (bytesRead === 0) return;
      this.update(block.subarray(0, bytesRead), this.#doneBytes);
    }
  }

  /**
   * Compares the digests with those that the service found.
   *
   * @param what - the message of a failure
   * @param found - by the service. A digest that is null is not compared, nor is a multihash of
   *   another algorithm
   * @throws ImportError `DigestMismatch`
   */
  requireSame(
    what: string,
    found: Pick<StagedImage, "checksum" | "os_hash_algo" | "os_hash_value">,
    hint: string,
  ): void {
    const isOther = (own: Hash, theirs: string | null): boolean =>
      theirs !== null && own.copy().digest("hex") !== theirs;
    const differs = [
      ...(isOther(this.#md5, found.checksum) ? ["md5"] : []),
      ...(found.os_hash_algo === this.#algo && isOther(this.#multihash, found.os_hash_value)
        ? [this.#algo]
        : []),
    ];
    if (differs.length === 0) return;
    throw new ImportError("DigestMismatch", `${what} (${differs.join(", ")})`, { hint });
  }
}
