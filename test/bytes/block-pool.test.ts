import { describe, expect, it } from "vitest";
import { BlockPool } from "../../src/bytes/block-pool.ts";

describe("BlockPool", () => {
  it("lends as many blocks as it has, then makes the next one wait for the last hold", async () => {
    const pool = new BlockPool(2);
    const first = await pool.acquire();
    await pool.acquire();
    let hasThird = false;
    const third = pool.acquire().then((block) => {
      hasThird = true;
      return block;
    });

    first.retain();
    first.release();
    await Promise.resolve();
    expect(hasThird).toBe(false);
    first.release();

    expect((await third).offsetBytes).toBe(first.offsetBytes);
  });

  it("serves waits in the order of their requests", async () => {
    const pool = new BlockPool(1);
    const served: string[] = [];
    const block = await pool.acquire();
    const waiting = ["first", "second", "third"].map(async (name) => {
      const mine = await pool.acquire();
      served.push(name);
      mine.release();
    });

    block.release();
    await Promise.all(waiting);

    expect(served).toEqual(["first", "second", "third"]);
  });

  it("refuses a second release of one hold, also when the block is lent again by then", async () => {
    const pool = new BlockPool(1);
    const first = await pool.acquire();
    first.release();
    await pool.acquire();

    expect(() => {
      first.release();
    }).toThrow("Cannot use a block: it was released already");
  });

  it("rejects every wait once it is ended, with the first reason", async () => {
    const pool = new BlockPool(1);
    await pool.acquire();
    const waiting = pool.acquire();

    pool.end(new Error("over"));
    pool.end(new Error("over again"));

    await expect(waiting).rejects.toThrow("over");
    await expect(pool.acquire()).rejects.toThrow(/^over$/);
  });
});
