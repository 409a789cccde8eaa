import { BLOCK_BYTES } from "./block-size.ts";

/** A 1 MiB block of shared memory, lent until every holder has released it. */
export interface SharedBlock {
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

/** A block as the pool's owner sees it: with its place in the shared memory. */
export interface PooledBlock extends SharedBlock {
  /** Offset of the block in {@link BlockPool.memory}. */
  readonly offsetBytes: number;
}

interface Waiter {
  resolve(block: PooledBlock): void;
  reject(reason: Error): void;
}

/**
 * A fixed number of 1 MiB blocks over one piece of shared memory, handed out in the order in which
 * they are asked for.
 */
export class BlockPool {
  readonly memory: SharedArrayBuffer;
  readonly #freeOffsets: number[];
  readonly #waiting: Waiter[] = [];
  #ended: Error | undefined;

  constructor(blockCount: number) {
    this.memory = new SharedArrayBuffer(blockCount * BLOCK_BYTES);
    // Last in, first out, from the start of the memory: blocks that are never needed are never
    // touched, and so never allocated.
    this.#freeOffsets = Array.from(
      { length: blockCount },
      (_, index) => (blockCount - 1 - index) * BLOCK_BYTES,
    );
  }

  /**
   * Waits for a free block, and holds it once.
   *
   * @throws the reason given to {@link end}
   */
  async acquire(): Promise<PooledBlock> {
    if (this.#ended !== undefined) throw this.#ended;
    const offsetBytes = this.#freeOffsets.pop();
    if (offsetBytes !== undefined) return this.#lend(offsetBytes);
    return new Promise((resolve, reject) => this.#waiting.push({ resolve, reject }));
  }

  /** Rejects every wait for a block, now and later. The first reason counts. */
  end(reason: Error): void {
    this.#ended ??= reason;
    for (const waiter of this.#waiting.splice(0)) waiter.reject(this.#ended);
  }

  #lend(offsetBytes: number): PooledBlock {
    let holds = 1;
    const assertHeld = (): void => {
      if (holds === 0) throw new Error("Cannot use a block: it was released already");
    };
    return {
      offsetBytes,
      bytes: Buffer.from(this.memory, offsetBytes, BLOCK_BYTES),
      retain: () => {
        assertHeld();
        holds += 1;
      },
      release: () => {
        assertHeld();
        holds -= 1;
        if (holds === 0) this.#takeBack(offsetBytes);
      },
    };
  }

  #takeBack(offsetBytes: number): void {
    const next = this.#waiting.shift();
    if (next === undefined) this.#freeOffsets.push(offsetBytes);
    else next.resolve(this.#lend(offsetBytes));
  }
}
