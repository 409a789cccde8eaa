import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { BandwidthLimit } from "../../src/bytes/bandwidth-limit.ts";

beforeEach(() => {
  vi.useFakeTimers();
});

afterEach(() => {
  vi.useRealTimers();
});

describe("BandwidthLimit", () => {
  it("lets one second's worth through at once, and then keeps to the rate", async () => {
    const limit = new BandwidthLimit(1000);
    let takenBytes = 0;
    const taking = (async () => {
      while (takenBytes < 5000) {
        await limit.take(100);
        takenBytes += 100;
      }
    })();

    await vi.advanceTimersByTimeAsync(0);
    expect(takenBytes).toBe(1000);
    await vi.advanceTimersByTimeAsync(2000);
    expect(takenBytes).toBe(3000);
    await vi.advanceTimersByTimeAsync(2000);
    expect(takenBytes).toBe(5000);

    await taking;
    expect(vi.getTimerCount()).toBe(0);
  });

  it("saves up no more than one second's worth, however long it is idle", async () => {
    const limit = new BandwidthLimit(1000);
    await vi.advanceTimersByTimeAsync(60_000);
    await limit.take(1000);
    let isTaken = false;
    const taking = limit.take(500).then(() => {
      isTaken = true;
    });

    await vi.advanceTimersByTimeAsync(499);
    expect(isTaken).toBe(false);
    await vi.advanceTimersByTimeAsync(1);

    await taking;
  });

  it("lets more than one second's worth through when full, and makes later requests wait for it", async () => {
    const limit = new BandwidthLimit(1000);
    await limit.take(3000);
    let isTaken = false;
    const taking = limit.take(500).then(() => {
      isTaken = true;
    });

    await vi.advanceTimersByTimeAsync(2499);
    expect(isTaken).toBe(false);
    await vi.advanceTimersByTimeAsync(1);

    await taking;
  });

  it("gives transfers that ask block by block equal shares", async () => {
    const limit = new BandwidthLimit(1000);
    const takenBytes = { one: 0, other: 0 };
    const stop = new AbortController();
    const transfer = async (name: "one" | "other"): Promise<void> => {
      for (;;) {
        await limit.take(100, stop.signal);
        takenBytes[name] += 100;
      }
    };
    const transfers = Promise.allSettled([transfer("one"), transfer("other")]);

    await vi.advanceTimersByTimeAsync(9000);
    stop.abort();
    await transfers;

    expect(takenBytes).toEqual({ one: 5000, other: 5000 });
  });

  it("never exceeds the rate by more than one second's worth and one request", async () => {
    const requests = fc.array(fc.integer({ min: 1, max: 400 }), { minLength: 1, maxLength: 60 });

    await fc.assert(
      fc.asyncProperty(requests, fc.integer({ min: 50, max: 2000 }), async (sizes, rate) => {
        const limit = new BandwidthLimit(rate);
        const startedAtMs = performance.now();
        let takenBytes = 0;
        let isWithin = true;
        const taking = Promise.all(
          sizes.map(async (bytes) => {
            await limit.take(bytes);
            takenBytes += bytes;
            const seconds = (performance.now() - startedAtMs) / 1000;
            isWithin &&= takenBytes <= rate * (seconds + 1) + 400;
          }),
        );

        await vi.runAllTimersAsync();
        await taking;

        expect(isWithin).toBe(true);
        expect(vi.getTimerCount()).toBe(0);
      }),
    );
  });

  it("lets an aborted request go, gives its share to the next, and leaves no timer", async () => {
    const limit = new BandwidthLimit(1000);
    const stop = new AbortController();
    await limit.take(1000);
    const large = limit.take(1000, stop.signal);
    const small = limit.take(100);

    stop.abort(new Error("paused"));

    await expect(large).rejects.toThrow("paused");
    await vi.advanceTimersByTimeAsync(100);
    await small;
    expect(vi.getTimerCount()).toBe(0);
  });

  it("takes nothing for a request that comes with an aborted signal", async () => {
    const limit = new BandwidthLimit(1000);

    await expect(limit.take(1, AbortSignal.abort(new Error("paused")))).rejects.toThrow("paused");
  });

  it.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])("refuses a rate of %d", (rate) => {
    expect(() => new BandwidthLimit(rate)).toThrow(
      `Cannot limit the bandwidth to ${rate} bytes/s: it must be above 0`,
    );
  });
});
