import { BLOCK_BYTES } from "./block-size.ts";

/**
 * A 1 MiB block of shared memory, lent until every holder has released it. `using` it gives up the
 * hold with which it was lent.
 */
export interface SharedBlock extends Disposable {
  /** The complete block; filled from its start. It must not change once it was submitted. */
  readonly bytes: Buffer;
  /** Holds the block once more, for one more user beside the first. */
  retain(): void;
  /**
   * Gives up one hold. The last one frees the block.
   *
   * @throws Error when the block has no holder any more
   */
  release(): void;
}

/** A block as the threads see it: with its memory. */
export interface PooledBlock extends SharedBlock {
  readonly memory: SharedArrayBuffer;
}

/** Limits of a {@link BlockPool}. */
export interface BlockPoolLimits {
  /**
   * Blocks that are lent at a time, before every stream has to do with a single one. Default: 64,
   * which is 64 MiB
   */
  readonly budget?: number;
  /**
   * Blocks that one stream has at a time. Default: 8, enough for a reader to run ahead of the
   * slower of two hashing threads
   */
  readonly perStream?: number;
}

interface Waiter {
  readonly share: BlockShare;
  resolve(block: PooledBlock): void;
  reject(reason: Error): void;
}

/**
 * The 1 MiB blocks of all streams of bytes in a process. A few streams read ahead; of many streams
 * each has one block, which none of the others can keep from it: a stream never waits for a
 * stranger whose disk, quota or network stands still.
 */
export class BlockPool {
  readonly #budget: number;
  readonly #perStream: number;
  readonly #free: SharedArrayBuffer[] = [];
  readonly #waiting: Waiter[] = [];
  #lentBlocks = 0;

  constructor({ budget = 64, perStream = 8 }: BlockPoolLimits = {}) {
    this.#budget = budget;
    this.#perStream = perStream;
  }

  /** The blocks of one more stream. */
  share(): BlockShare {
    return new BlockShare(this);
  }

  /** @internal */
  async acquire(share: BlockShare): Promise<PooledBlock> {
    // Those who wait already are served as soon as they may be: there is no queue to jump.
    if (this.mayHave(share)) return this.#lend(share);
    return new Promise((resolve, reject) => this.#waiting.push({ share, resolve, reject }));
  }

  /** @internal */
  reject(share: BlockShare, reason: Error): void {
    for (const waiter of this.#waiting.filter((each) => each.share === share)) {
      this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
      waiter.reject(reason);
    }
  }

  /** @internal */
  mayHave({ heldBlocks }: BlockShare): boolean {
    if (heldBlocks === 0) return true;
    return heldBlocks < this.#perStream && this.#lentBlocks < this.#budget;
  }

  #lend(share: BlockShare): PooledBlock {
    const memory = this.#free.pop() ?? new SharedArrayBuffer(BLOCK_BYTES);
    let holds = 1;
    share.heldBlocks += 1;
    this.#lentBlocks += 1;
    const assertHeld = (): void => {
      if (holds === 0) throw new Error("Cannot use a block: it was released already");
    };
    const release = (): void => {
      assertHeld();
      holds -= 1;
      if (holds === 0) this.#takeBack(share, memory);
    };
    return {
      memory,
      bytes: Buffer.from(memory),
      retain: () => {
        assertHeld();
        holds += 1;
      },
      release,
      [Symbol.dispose]: release,
    };
  }

  #takeBack(share: BlockShare, memory: SharedArrayBuffer): void {
    share.heldBlocks -= 1;
    this.#lentBlocks -= 1;
    if (this.#free.length < this.#budget) this.#free.push(memory);
    // A stream whose last block came back may have one beside the one that is free now.
    for (let next = this.#nextWaiter(); next !== undefined; next = this.#nextWaiter()) {
      next.resolve(this.#lend(next.share));
    }
  }

  /** Takes the first waiter that may have a block now. */
  #nextWaiter(): Waiter | undefined {
    const index = this.#waiting.findIndex(({ share }) => this.mayHave(share));
    return index === -1 ? undefined : this.#waiting.splice(index, 1)[0];
  }
}

/** The blocks of one stream. */
export class BlockShare {
  readonly #pool: BlockPool;
  #ended: Error | undefined;
  /** Blocks that are lent to the stream now. Only the pool changes it. */
  heldBlocks = 0;

  constructor(pool: BlockPool) {
    this.#pool = pool;
  }

  /** True if {@link acquire} does not wait. */
  get isAnyFree(): boolean {
    return this.#pool.mayHave(this);
  }

  /**
   * Waits for a free block, and holds it once. Waits of one stream are served in their order.
   *
   * @throws the reason given to {@link end}
   */
  async acquire(): Promise<PooledBlock> {
    if (this.#ended !== undefined) throw this.#ended;
    return this.#pool.acquire(this);
  }

  /**
   * Rejects every wait for a block, now and later. The first reason counts. Blocks that are lent
   * come back when they are released.
   */
  end(reason: Error): void {
    this.#ended ??= reason;
    this.#pool.reject(this, this.#ended);
  }
}

/** The blocks of this process. */
export const processBlocks = new BlockPool();
