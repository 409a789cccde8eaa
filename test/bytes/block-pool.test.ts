import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { BlockPool, type PooledBlock } from "../../src/bytes/block-pool.ts";

async function isStillWaiting(promise: Promise<unknown>): Promise<boolean> {
  const waiting = Symbol("waiting");
  const later = new Promise((resolve) => {
    setImmediate(resolve, waiting);
  });
  return (await Promise.race([promise, later])) === waiting;
}

describe("BlockPool", () => {
  it("lends a stream its share, then makes the next block wait for the last hold", async () => {
    const share = new BlockPool({ perStream: 2 }).share();
    const first = await share.acquire();
    await share.acquire();
    const third = share.acquire();

    first.retain();
    first.release();
    expect(await isStillWaiting(third)).toBe(true);
    first.release();

    expect((await third).memory).toBe(first.memory);
  });

  it("lends a block beyond the budget to a stream that waited and has none", async () => {
    const pool = new BlockPool({ budget: 3, patienceMs: 1 });
    const greedy = pool.share();
    const taken = await Promise.all([greedy.acquire(), greedy.acquire(), greedy.acquire()]);
    const late = pool.share();

    const mine = await late.acquire();

    expect(taken.map(({ memory }) => memory)).not.toContain(mine.memory);
    const second = late.acquire();
    // The time of a stream that has a block does not run.
    await pool.share().acquire();
    expect(await isStillWaiting(second)).toBe(true);
    mine.release();
    await second;
  });

  it("lets a stream that waited too long continue while other streams hold the budget", async () => {
    let timers = 0;
    const pool = new BlockPool({ budget: 1, patienceMs: 1 });
    await pool.share().acquire();
    const stream = pool.share();
    (await stream.acquire()).release();

    const setTimer = vi.spyOn(globalThis, "setTimeout").mockImplementation(() => {
      timers += 1;
      throw new Error("It waits");
    });
    for (let n = 0; n < 20; n += 1) (await stream.acquire()).release();
    setTimer.mockRestore();

    expect(timers).toBe(0);
  });

  it("serves those who may have a block in the order of their requests", async () => {
    const pool = new BlockPool({ budget: 2, perStream: 2, patienceMs: 60_000 });
    const served: string[] = [];
    const [one, other] = [pool.share(), pool.share()];
    const held = [await one.acquire(), await one.acquire()];
    const waiting = [
      one.acquire().then(() => served.push("one, first")),
      other.acquire().then(() => served.push("other, first")),
      one.acquire().then(() => served.push("one, second")),
    ];

    held[1]?.release();
    await waiting[0];
    held[0]?.release();
    await waiting[1];

    expect(served).toEqual(["one, first", "other, first"]);
    expect(await isStillWaiting(waiting[2] ?? Promise.resolve())).toBe(true);
    one.end(new Error("over"));
    await expect(waiting[2]).rejects.toThrow("over");
  });

  it("never stops a stream that releases its blocks, and never lends one twice", async () => {
    const streams = fc.array(fc.nat(12), { minLength: 1, maxLength: 12 });
    await fc.assert(
      fc.asyncProperty(streams, fc.integer({ min: 1, max: 6 }), async (lengths, budget) => {
        const pool = new BlockPool({ budget, perStream: 3, patienceMs: 1 });
        const lent = new Set<SharedArrayBuffer>();
        let mostLent = 0;
        await Promise.all(
          lengths.map(async (length) => {
            const share = pool.share();
            for (let i = 0; i < length; i += 1) {
              const block = await share.acquire();
              expect(lent.has(block.memory)).toBe(false);
              lent.add(block.memory);
              mostLent = Math.max(mostLent, lent.size);
              // Released beside the next one, as a thread does it.
              setImmediate(() => {
                lent.delete(block.memory);
                block.release();
              });
            }
          }),
        );
        expect(mostLent).toBeLessThanOrEqual(budget + lengths.length);
      }),
      { numRuns: 50 },
    );
  });

  it("releases a hold at the end of the scope of its block", async () => {
    const share = new BlockPool({ perStream: 1 }).share();
    let second: Promise<PooledBlock>;
    {
      using block = await share.acquire();
      second = share.acquire();
      expect(await isStillWaiting(second)).toBe(true);
      expect(block.bytes).toHaveLength(1024 * 1024);
    }
    expect(await isStillWaiting(second)).toBe(false);
  });

  it("refuses a second release of one hold, also when the block is lent again by then", async () => {
    const share = new BlockPool({ perStream: 1 }).share();
    const first = await share.acquire();
    first.release();
    await share.acquire();

    expect(() => {
      first.release();
    }).toThrow("Cannot use a block: it was released already");
  });

  it("rejects every wait of a stream that is ended, with the first reason, and of no other", async () => {
    const pool = new BlockPool({ budget: 1 });
    const [ended, other] = [pool.share(), pool.share()];
    const mine = await ended.acquire();
    await other.acquire();
    const [waiting, otherWaiting] = [ended.acquire(), other.acquire()];

    ended.end(new Error("over"));
    ended.end(new Error("over again"));

    await expect(waiting).rejects.toThrow("over");
    await expect(ended.acquire()).rejects.toThrow(/^over$/);
    expect(await isStillWaiting(otherWaiting)).toBe(true);
    // A block that is lent comes back all the same.
    mine.release();
  });
});
