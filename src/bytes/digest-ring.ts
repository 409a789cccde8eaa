import { createHash, getHashes } from "node:crypto";
import { crc32 } from "node:zlib";
import type { Digests } from "../domain/digests.ts";
import { BlockPool } from "./block-pool.ts";
import type { PooledBlock, SharedBlock } from "./block-pool.ts";
import { BLOCK_BYTES } from "./block-size.ts";
import { ThreadHasher } from "./thread-hasher.ts";

/** Glance's `checksum` is md5, whatever the multihash is. */
const CHECKSUM_ALGO = "md5";

/** Glance's default `os_hash_algo`. */
export const DEFAULT_HASH_ALGO = "sha512";

// Enough for the reader to run ahead of the slower of two threads; 8 MiB per file being hashed.
const BLOCK_COUNT = 8;

/** Settings of a {@link DigestRing}. */
export interface DigestRingOptions {
  /** The multihash, as node:crypto names it. @default {"sha512"} */
  readonly hashAlgo?: string;
}

interface Submitted {
  readonly block: PooledBlock;
  readonly lengthBytes: number;
}

interface Threads {
  readonly checksum: ThreadHasher;
  readonly multihash: ThreadHasher;
}

/**
 * Computes all {@link Digests} of a stream of blocks, without blocking the event loop: md5 and the
 * multihash each in a worker thread over shared memory, crc32 here (0.3 ms per block; a thread
 * would not make the whole faster). A single block is hashed here at the end, because starting
 * threads takes longer than that.
 *
 * The order of use is: {@link acquire} a block, fill it, {@link submit} it and `release()` it, for
 * each block; then {@link finish}, and {@link close} in any case. Acquiring waits while all blocks
 * are in use: that bounds the memory, and the reader is not faster than the hashing.
 */
export class DigestRing implements AsyncDisposable {
  readonly #hashAlgo: string;
  readonly #pool = new BlockPool(BLOCK_COUNT);
  readonly #blocks = new WeakSet<SharedBlock>();
  #threads: Threads | undefined;
  #first: Submitted | undefined;
  #crc32 = 0;
  #sizeBytes = 0;
  #ended: Error | undefined;
  #digests: Promise<Digests> | undefined;
  #rejectDigests: ((reason: Error) => void) | undefined;
  #closed: Promise<void> | undefined;

  private constructor(hashAlgo: string) {
    this.#hashAlgo = hashAlgo;
  }

  /** @throws RangeError when node:crypto does not know the hash */
  static open({ hashAlgo = DEFAULT_HASH_ALGO }: DigestRingOptions = {}): DigestRing {
    if (!getHashes().includes(hashAlgo)) {
      throw new RangeError(
        `Cannot compute digests with "${hashAlgo}": node:crypto has no such hash; try sha512 or sha256`,
      );
    }
    return new DigestRing(hashAlgo);
  }

  /**
   * Waits for a free block.
   *
   * @throws Error when the ring was closed, or one of its threads died
   */
  async acquire(): Promise<SharedBlock> {
    const block = await this.#pool.acquire();
    this.#blocks.add(block);
    return block;
  }

  /**
   * Adds the first `lengthBytes` of a block to the digests, behind all earlier blocks. The caller
   * may still read the block until it releases it.
   *
   * @throws Error when the ring is finished or closed, or one of its threads died
   */
  submit(block: SharedBlock, lengthBytes: number): void {
    this.#assertUsable();
    if (!this.#owns(block))
      throw new TypeError("Cannot submit a block: it belongs to another ring");
    if (!Number.isInteger(lengthBytes) || lengthBytes < 0 || lengthBytes > BLOCK_BYTES) {
      throw new RangeError(`Cannot submit ${lengthBytes} bytes: a block holds 0 to ${BLOCK_BYTES}`);
    }
    if (lengthBytes === 0) return;
    this.#crc32 = crc32(block.bytes.subarray(0, lengthBytes), this.#crc32);
    this.#sizeBytes += lengthBytes;
    this.#queue({ block, lengthBytes });
  }

  /**
   * The digests of all submitted blocks. It may be called again.
   *
   * @throws Error when the ring was closed, or one of its threads died
   */
  async finish(): Promise<Digests> {
    if (this.#digests === undefined) {
      if (this.#ended !== undefined) throw this.#ended;
      this.#digests =
        this.#threads === undefined ? this.#digestHere() : this.#collect(this.#threads);
    }
    return this.#digests;
  }

  /**
   * Ends the threads and rejects every wait. Safe at any time, and more than once.
   */
  async close(): Promise<void> {
    this.#closed ??= this.#end(new Error("Cannot compute digests: the ring was closed"));
    return this.#closed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  #assertUsable(): void {
    if (this.#ended !== undefined) throw this.#ended;
    if (this.#digests !== undefined) throw new Error("Cannot submit a block: the ring is finished");
  }

  #owns(block: SharedBlock): block is PooledBlock {
    return this.#blocks.has(block);
  }

  #queue(submitted: Submitted): void {
    if (this.#threads !== undefined) {
      this.#dispatch(this.#threads, submitted);
    } else if (this.#first === undefined) {
      submitted.block.retain();
      this.#first = submitted;
    } else {
      this.#threads = this.#startThreads();
      this.#dispatch(this.#threads, this.#first);
      this.#first.block.release();
      this.#first = undefined;
      this.#dispatch(this.#threads, submitted);
    }
  }

  #startThreads(): Threads {
    const start = (algorithm: string): ThreadHasher =>
      ThreadHasher.start({ algorithm, memory: this.#pool.memory }, (reason) => {
        void this.#end(reason);
      });
    return { checksum: start(CHECKSUM_ALGO), multihash: start(this.#hashAlgo) };
  }

  #dispatch(threads: Threads, { block, lengthBytes }: Submitted): void {
    const range = { offsetBytes: block.offsetBytes, lengthBytes };
    for (const thread of [threads.checksum, threads.multihash]) {
      block.retain();
      thread.hash(range, () => {
        block.release();
      });
    }
  }

  async #digestHere(): Promise<Digests> {
    const { block, lengthBytes = 0 } = this.#first ?? {};
    const bytes = block?.bytes.subarray(0, lengthBytes) ?? Buffer.alloc(0);
    const digests = this.#withValues(
      createHash(CHECKSUM_ALGO).update(bytes).digest("hex"),
      createHash(this.#hashAlgo).update(bytes).digest("hex"),
    );
    block?.release();
    this.#first = undefined;
    return digests;
  }

  async #collect({ checksum, multihash }: Threads): Promise<Digests> {
    const ended = new Promise<never>((_resolve, reject) => {
      this.#rejectDigests = reject;
    });
    const hashed = Promise.all([checksum.finish(), multihash.finish()]);
    const [md5, osHashValue] = await Promise.race([hashed, ended]);
    return this.#withValues(md5, osHashValue);
  }

  #withValues(checksum: string, osHashValue: string): Digests {
    return {
      checksum,
      osHashAlgo: this.#hashAlgo,
      osHashValue,
      crc32: this.#crc32,
      sizeBytes: this.#sizeBytes,
    };
  }

  async #end(reason: Error): Promise<void> {
    this.#ended ??= reason;
    this.#pool.end(this.#ended);
    this.#rejectDigests?.(this.#ended);
    await Promise.all([this.#threads?.checksum.stop(), this.#threads?.multihash.stop()]);
  }
}
