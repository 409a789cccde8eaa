import { createHash, getHashes } from "node:crypto";
import { crc32 } from "node:zlib";
import type { Digests } from "../domain/digests.ts";
import { processBlocks } from "./block-pool.ts";
import type { BlockPool, BlockShare, PooledBlock, SharedBlock } from "./block-pool.ts";
import { BLOCK_BYTES } from "./block-size.ts";
import { processDigestThreads } from "./digest-threads.ts";
import type { DigestThreads, ThreadHash } from "./digest-threads.ts";

/** Glance's `checksum` is md5, whatever the multihash is. */
const CHECKSUM_ALGO = "md5";

/** Glance's default `os_hash_algo`. */
export const DEFAULT_HASH_ALGO = "sha512";

/** Settings of a {@link DigestRing}. */
export interface DigestRingOptions {
  /** The multihash, as node:crypto names it. @default {"sha512"} */
  readonly hashAlgo?: string;
  /** The pool that lends the blocks. Default: that of this process */
  readonly blocks?: BlockPool;
  /** The threads that hash the blocks. Default: those of this process */
  readonly threads?: DigestThreads;
}

interface Submitted {
  readonly block: PooledBlock;
  readonly lengthBytes: number;
}

interface ThreadHashes {
  readonly checksum: ThreadHash;
  readonly multihash: ThreadHash;
}

/**
 * Computes all {@link Digests} of a stream of blocks, without blocking the event loop: md5 and the
 * multihash each in a thread over shared memory, crc32 here (0.3 ms per block; a thread would not
 * make the whole faster). A single block is hashed here at the end, because handing it to threads
 * takes longer than that.
 *
 * The order of use is: {@link acquire} a block, fill it, {@link submit} it and `release()` it, for
 * each block; then {@link finish}, and {@link close} in any case. Acquiring waits while all blocks
 * are in use: that bounds the memory, and the reader is not faster than the hashing.
 */
export class DigestRing implements Disposable {
  readonly #hashAlgo: string;
  readonly #share: BlockShare;
  readonly #threads: DigestThreads;
  readonly #blocks = new WeakSet<SharedBlock>();
  #hashes: ThreadHashes | undefined;
  #first: Submitted | undefined;
  #crc32 = 0;
  #sizeBytes = 0;
  #ended: Error | undefined;
  #digests: Promise<Digests> | undefined;
  #rejectDigests: ((reason: Error) => void) | undefined;

  private constructor(hashAlgo: string, blocks: BlockPool, threads: DigestThreads) {
    this.#hashAlgo = hashAlgo;
    this.#share = blocks.share();
    this.#threads = threads;
  }

  /** @throws RangeError when node:crypto does not know the hash */
  static open({
    hashAlgo = DEFAULT_HASH_ALGO,
    blocks = processBlocks,
    threads = processDigestThreads,
  }: DigestRingOptions = {}): DigestRing {
    if (!getHashes().includes(hashAlgo)) {
      throw new RangeError(
        `Cannot compute digests with "${hashAlgo}": node:crypto has no such hash; try sha512 or sha256`,
      );
    }
    return new DigestRing(hashAlgo, blocks, threads);
  }

  /**
   * Waits for a free block.
   *
   * @throws Error when the ring was closed, or one of its threads died
   */
  async acquire(): Promise<SharedBlock> {
    // A block that is held back must not be the one that this stream waits for.
    if (!this.#share.isAnyFree) this.#dispatchFirst();
    const block = await this.#share.acquire();
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
      this.#digests = this.#hashes === undefined ? this.#digestHere() : this.#collect(this.#hashes);
    }
    return this.#digests;
  }

  /**
   * Ends the hashes and rejects every wait. Blocks go back when the threads and their users have
   * released them. Safe at any time, and more than once.
   */
  close(): void {
    this.#end(new Error("Cannot compute digests: the ring was closed"));
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #assertUsable(): void {
    if (this.#ended !== undefined) throw this.#ended;
    if (this.#digests !== undefined) throw new Error("Cannot submit a block: the ring is finished");
  }

  #owns(block: SharedBlock): block is PooledBlock {
    return this.#blocks.has(block);
  }

  /** Holds the first block back, as it may be the only one. */
  #queue(submitted: Submitted): void {
    if (this.#hashes === undefined && this.#first === undefined) {
      submitted.block.retain();
      this.#first = submitted;
      return;
    }
    this.#dispatchFirst();
    this.#dispatch(submitted);
  }

  #dispatchFirst(): void {
    const first = this.#first;
    if (first === undefined) return;
    this.#first = undefined;
    this.#dispatch(first);
    first.block.release();
  }

  #dispatch({ block, lengthBytes }: Submitted): void {
    this.#hashes ??= this.#startHashes();
    for (const hash of [this.#hashes.checksum, this.#hashes.multihash]) {
      block.retain();
      hash.update(block.memory, lengthBytes, () => {
        block.release();
      });
    }
  }

  #startHashes(): ThreadHashes {
    const start = (algorithm: string): ThreadHash =>
      this.#threads.start(algorithm, (reason) => {
        this.#end(reason);
      });
    return { checksum: start(CHECKSUM_ALGO), multihash: start(this.#hashAlgo) };
  }

  async #digestHere(): Promise<Digests> {
    const { block, lengthBytes = 0 } = this.#first ?? {};
    const bytes = block?.bytes.subarray(0, lengthBytes) ?? Buffer.alloc(0);
    const digests = this.#withValues(
      createHash(CHECKSUM_ALGO).update(bytes).digest("hex"),
      createHash(this.#hashAlgo).update(bytes).digest("hex"),
    );
    this.#releaseFirst();
    return digests;
  }

  async #collect({ checksum, multihash }: ThreadHashes): Promise<Digests> {
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

  #end(reason: Error): void {
    this.#ended ??= reason;
    this.#share.end(this.#ended);
    this.#rejectDigests?.(this.#ended);
    this.#hashes?.checksum.drop();
    this.#hashes?.multihash.drop();
    this.#releaseFirst();
  }

  #releaseFirst(): void {
    this.#first?.block.release();
    this.#first = undefined;
  }
}
