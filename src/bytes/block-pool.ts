import { BLOCK_BYTES } from "./block-size.ts";

/**
 * A 1 MiB block of shared memory, lent until every holder has released it. The end of a `using`
 * releases the hold with which it was lent.
 */
export interface SharedBlock extends Disposable {
  /** The complete block; filled from its start. It must not change once it was submitted. */
  readonly bytes: Buffer;
  /** Adds a hold, for one more user of the block. */
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
   * Blocks that are lent at a time. Blocks for streams that waited too long come on top. Default:
   * 24, which is 24 MiB
   */
  readonly budget?: number;
  /**
   * Blocks that one stream has at a time. Default: 8, enough for a reader to run ahead of the
   * slower of two hashing threads
   */
  readonly perStream?: number;
  /** Time in ms after which a stream without a block gets one beyond the budget. Default: 1 s */
  readonly patienceMs?: number;
}

interface Waiter {
  readonly share: BlockShare;
  /** Runs while the stream has no block. */
  timer?: NodeJS.Timeout;
  resolve(block: PooledBlock): void;
  reject(reason: Error): void;
}

/**
 * The 1 MiB blocks of all streams of bytes in a process. A few streams read ahead, and many take
 * turns. A stream that waited too long for its only block gets it beyond the budget, and from then
 * on at once: other streams, whose disk, quota or network stands still, do not block it.
 */
export class BlockPool {
  readonly #budget: number;
  readonly #perStream: number;
  readonly #patienceMs: number;
  readonly #free: SharedArrayBuffer[] = [];
  readonly #waiting: Waiter[] = [];
  #lentBlocks = 0;

  constructor({ budget = 24, perStream = 8, patienceMs = 1000 }: BlockPoolLimits = {}) {
    this.#budget = budget;
    this.#perStream = perStream;
    this.#patienceMs = patienceMs;
  }

  /** The blocks of one more stream. */
  share(): BlockShare {
    return new BlockShare(this);
  }

  /** @internal */
  async acquire(share: BlockShare): Promise<PooledBlock> {
    // No stream is overtaken: each waiting stream is served as soon as it may have a block.
    if (this.mayHave(share)) return this.#lend(share);
    return new Promise((resolve, reject) => {
      const waiter: Waiter = { share, resolve, reject };
      this.#waiting.push(waiter);
      this.#grantLater(waiter);
    });
  }

  /** @internal */
  reject(share: BlockShare, reason: Error): void {
    for (const waiter of this.#waiting.filter((each) => each.share === share)) {
      this.#leave(waiter);
      waiter.reject(reason);
    }
  }

  /** @internal */
  mayHave({ heldBlocks, hasWaitedTooLong }: BlockShare): boolean {
    if (heldBlocks === 0 && hasWaitedTooLong) return true;
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
    // At most two: one for the block that is free, and one for a stream beyond the budget.
    for (let next = this.#nextWaiter(); next !== undefined; next = this.#nextWaiter()) {
      this.#serve(next);
    }
    for (const waiter of this.#waiting) if (waiter.share === share) this.#grantLater(waiter);
  }

  #nextWaiter(): Waiter | undefined {
    return this.#waiting.find(({ share }) => this.mayHave(share));
  }

  #serve(waiter: Waiter): void {
    this.#leave(waiter);
    waiter.resolve(this.#lend(waiter.share));
  }

  #leave(waiter: Waiter): void {
    clearTimeout(waiter.timer);
    this.#waiting.splice(this.#waiting.indexOf(waiter), 1);
  }

  /**
   * Starts the patience of a stream without a block. A stream that has one waits until that one, or
   * one of another stream, is released.
   */
  #grantLater(waiter: Waiter): void {
    if (waiter.share.heldBlocks > 0) return;
    waiter.timer ??= setTimeout(() => {
      waiter.share.hasWaitedTooLong = true;
      this.#serve(waiter);
    }, this.#patienceMs);
  }
}

/** The blocks of one stream. */
export class BlockShare {
  readonly #pool: BlockPool;
  #ended: Error | undefined;
  /** Blocks that are lent to the stream now. Only the pool changes it. */
  heldBlocks = 0;
  /** True once it waited too long: from then on it gets a block at once. Only the pool sets it. */
  hasWaitedTooLong = false;

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
