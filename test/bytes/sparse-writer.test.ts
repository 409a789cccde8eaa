import { randomBytes } from "node:crypto";
import { open, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { BandwidthLimit } from "../../src/bytes/bandwidth-limit.ts";
import { BLOCK_BYTES } from "../../src/bytes/block-size.ts";
import { SparseWriter, type SparseTarget } from "../../src/bytes/sparse-writer.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { PATIENCE } from "../support/patience.ts";

const RANDOM = randomBytes(BLOCK_BYTES);
const ZEROS = Buffer.alloc(BLOCK_BYTES);

let path: string;
beforeEach(() => {
  path = join(makeTemporaryDirectory(), "file");
});

/** A target whose writes end when the test says so. */
class HeldTarget implements SparseTarget {
  readonly begun: number[] = [];
  readonly #ends: ((error?: Error) => void)[] = [];

  write(_buffer: Buffer, _offset: number, length: number, position: number) {
    this.begun.push(position);
    return new Promise<{ bytesWritten: number }>((resolve, reject) => {
      this.#ends.push((error) => {
        if (error === undefined) resolve({ bytesWritten: length });
        else reject(error);
      });
    });
  }

  async truncate(): Promise<void> {
    // The tests look at the writes alone.
  }

  /** Ends the oldest write that runs. */
  async endWrite(error?: Error): Promise<void> {
    await vi.waitUntil(() => this.#ends.length > 0, PATIENCE);
    this.#ends.shift()?.(error);
  }
}

/** A block that is written by one call of `write`. */
const SMALL = Buffer.from("0123456789abcdef");

/** True once the promise is settled, a turn of the event loop later. */
async function isSettled(promise: Promise<unknown>): Promise<boolean> {
  const pending = Symbol("pending");
  const turn = new Promise((resolve) => setImmediate(resolve, pending));
  const first = await Promise.race([promise.catch(() => undefined), turn]);
  return first !== pending;
}

describe("SparseWriter", () => {
  it("writes blocks where they belong, leaves holes for zeros, and gives the file its size", async () => {
    const target = await open(path, "w");
    onTestFinished(() => target.close());
    const writer = new SparseWriter(target);

    const zeros = [
      await writer.write(ZEROS, 0),
      await writer.write(RANDOM, BLOCK_BYTES),
      await writer.write(RANDOM.subarray(0, 9), 20 * BLOCK_BYTES),
      await writer.write(ZEROS.subarray(0, 5), 20 * BLOCK_BYTES + 9),
    ];
    await writer.end(20 * BLOCK_BYTES + 14);
    await writer.close();
    await target.sync();

    expect(zeros).toEqual([true, false, false, true]);
    const expected = Buffer.alloc(20 * BLOCK_BYTES + 14);
    RANDOM.copy(expected, BLOCK_BYTES);
    RANDOM.copy(expected, 20 * BLOCK_BYTES, 0, 9);
    expect((await readFile(path)).equals(expected)).toBe(true);
    expect((await stat(path)).blocks * 512).toBeLessThan(2 * BLOCK_BYTES);
    expect(writer.writtenBytes).toBe(BLOCK_BYTES + 9);
  });

  it("returns while its block is being written, and begins the next when that is over", async () => {
    const target = new HeldTarget();
    const writer = new SparseWriter(target);

    await writer.write(SMALL, 0);
    const next = writer.write(SMALL, SMALL.length);
    expect(await isSettled(next)).toBe(false);
    expect(target.begun).toEqual([0]);
    await target.endWrite();
    await next;

    expect(target.begun).toEqual([0, SMALL.length]);
    await target.endWrite();
    await writer.close();
  });

  it("has no write running when it has skipped a block", async () => {
    const target = new HeldTarget();
    const writer = new SparseWriter(target);

    await writer.write(SMALL, 0);
    const skipping = writer.write(ZEROS, SMALL.length);
    expect(await isSettled(skipping)).toBe(false);
    await target.endWrite();

    expect(await skipping).toBe(true);
    expect(writer.writtenBytes).toBe(SMALL.length);
  });

  it.each(["write", "end", "close"] as const)(
    "keeps the failure of a write for the next call, and no rejection is unhandled: %s()",
    async (call) => {
      const unhandled = vi.fn();
      process.on("unhandledRejection", unhandled);
      onTestFinished(() => void process.off("unhandledRejection", unhandled));
      const target = new HeldTarget();
      const writer = new SparseWriter(target);
      const reason = new Error("disk broke");

      await writer.write(SMALL, 0);
      await target.endWrite(reason);
      // Node reports an unhandled rejection after a turn of the event loop.
      await new Promise((resolve) => setImmediate(resolve));

      const next = {
        write: () => writer.write(SMALL, SMALL.length),
        end: () => writer.end(SMALL.length),
        close: () => writer.close(),
      };
      await expect(next[call]()).rejects.toBe(reason);
      expect(target.begun).toEqual([0]);
      expect(unhandled).not.toHaveBeenCalled();
    },
  );

  it("waits for the write and the sync that still run before it is closed", async () => {
    const target = new HeldTarget();
    let endSync: () => void = () => undefined;
    const sync = vi.fn(() => new Promise<void>((resolve) => (endSync = resolve)));
    const writer = new SparseWriter(target, { sync });
    // So much that the write behind begins.
    const large = Buffer.alloc(128 * BLOCK_BYTES, 1);
    target.write = async (_buffer, _offset, length) => ({ bytesWritten: length });

    await writer.write(large, 0);
    await vi.waitUntil(() => sync.mock.calls.length > 0, PATIENCE);
    const closing = writer.close();
    expect(await isSettled(closing)).toBe(false);
    endSync();

    await closing;
    expect(sync).toHaveBeenCalledTimes(1);
  });

  it("waits for the write that still runs before it is closed", async () => {
    const target = new HeldTarget();
    const writer = new SparseWriter(target);

    await writer.write(SMALL, 0);
    const closing = writer.close();
    expect(await isSettled(closing)).toBe(false);
    await target.endWrite();

    await closing;
  });

  it("syncs also after zero blocks, when all earlier blocks are written", async () => {
    const target = await open(path, "w");
    onTestFinished(() => target.close());
    const written: number[] = [];
    const writer: SparseWriter = new SparseWriter(target, {
      sync: async () => {
        written.push(writer.writtenBytes);
      },
    });

    await writer.write(RANDOM, 0);
    for (let block = 1; block < 128; block += 1) await writer.write(ZEROS, block * BLOCK_BYTES);
    await writer.end(128 * BLOCK_BYTES);

    expect(written).toEqual([BLOCK_BYTES]);
  });

  it("fails with the failure of a sync, also when the caller has failed before it is closed", async () => {
    const target = await open(path, "w");
    onTestFinished(() => target.close());
    const reason = new Error("disk broke");
    const writer = new SparseWriter(target, { sync: () => Promise.reject(reason) });

    for (let block = 0; block < 128; block += 1) await writer.write(ZEROS, block * BLOCK_BYTES);

    await expect(writer.close()).rejects.toBe(reason);
  });

  it("takes from the bandwidth what it writes, nothing for zeros, and leaves it when aborted", async () => {
    const target = await open(path, "w");
    onTestFinished(() => target.close());
    const limiter = new BandwidthLimit(1);
    const stop = new AbortController();
    const reason = new Error("Enough");
    const writer = new SparseWriter(target, { limiter, signal: stop.signal });

    // One block passes at once; the second would have to wait for twelve days.
    await writer.write(RANDOM, 0);
    await writer.write(ZEROS, BLOCK_BYTES);
    await writer.write(RANDOM, 2 * BLOCK_BYTES);
    stop.abort(reason);

    await expect(writer.end(3 * BLOCK_BYTES)).rejects.toBe(reason);
    expect(writer.writtenBytes).toBe(BLOCK_BYTES);
  });
});
