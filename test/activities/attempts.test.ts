import { describe, expect, it } from "vitest";
import { Attempts, type Previous } from "../../src/activities/attempts.ts";

/**
 * A running attempt. The test ends it. An abort of its signal ends it too, unless it is deaf.
 */
class RunningAttempt {
  readonly result: Promise<string>;
  end: () => void = () => undefined;

  private constructor(attempts: Attempts, key: string, isDeaf: boolean, isBegun: () => void) {
    this.result = attempts.run(key, async (signal) => {
      isBegun();
      return new Promise<string>((resolve) => {
        this.end = () => {
          resolve("ended by the test");
        };
        if (isDeaf) return;
        signal.addEventListener("abort", () => {
          resolve((signal.reason as Error).message);
        });
      });
    });
  }

  static async begin(
    attempts: Attempts,
    { key = "key", isDeaf = false } = {},
  ): Promise<RunningAttempt> {
    return new Promise((resolve) => {
      const attempt: RunningAttempt = new RunningAttempt(attempts, key, isDeaf, () => {
        resolve(attempt);
      });
    });
  }
}

async function tellPrevious(_signal: AbortSignal, previous: Previous): Promise<Previous> {
  return previous;
}

describe("Attempts.run()", () => {
  it("returns the result of the work", async () => {
    expect(await new Attempts().run("key", async () => 7)).toBe(7);
  });

  it("passes on what the work throws", async () => {
    const failure = new Error("disk broke");

    const failing = new Attempts().run("key", async () => {
      throw failure;
    });

    await expect(failing).rejects.toBe(failure);
  });

  it("reports to the work that no attempt ran before it", async () => {
    expect(await new Attempts().run("key", tellPrevious)).toBe("over");
  });

  it("ends the earlier attempt, and begins when that attempt has ended", async () => {
    const attempts = new Attempts();
    const order: string[] = [];
    const first = await RunningAttempt.begin(attempts);
    void first.result.then((reason) => order.push(reason));

    await attempts.run("key", async (_signal, previous) => {
      order.push(`the second begins, the first is ${previous}`);
    });

    expect(order).toEqual([
      "Another attempt took over key",
      "the second begins, the first is over",
    ]);
  });

  it("leaves attempts with other keys alone", async () => {
    const attempts = new Attempts();
    const other = await RunningAttempt.begin(attempts, { key: "other key" });

    await attempts.run("key", async () => undefined);
    other.end();

    expect(await other.result).toBe("ended by the test");
  });

  it("never runs two of three attempts that come at once", async () => {
    const attempts = new Attempts();
    const first = await RunningAttempt.begin(attempts, { isDeaf: true });
    const order: string[] = [];
    const run = async (name: string): Promise<void> =>
      attempts.run("key", async () => {
        order.push(`${name} begins`);
      });
    const second = run("second");
    const third = run("third");
    void first.result.then(() => order.push("first ends"));

    first.end();

    await expect(second).rejects.toThrow("Another attempt took over key");
    await third;
    expect(order).toEqual(["first ends", "third begins"]);
  });

  it("begins although the earlier attempt hangs, and reports that to the work", async () => {
    const attempts = new Attempts({ patienceMs: 50 });
    const hanging = await RunningAttempt.begin(attempts, { isDeaf: true });

    const previous = await attempts.run("key", tellPrevious);

    expect(previous).toBe("hanging");
    hanging.end();
  });

  it("still knows an attempt that hangs when the next attempt has ended", async () => {
    const attempts = new Attempts({ patienceMs: 50 });
    const hanging = await RunningAttempt.begin(attempts, { isDeaf: true });
    await attempts.run("key", async () => undefined);

    const previous = await attempts.run("key", tellPrevious);

    expect(previous).toBe("hanging");
    hanging.end();
  });

  it("forgets an attempt that has ended after all", async () => {
    const attempts = new Attempts({ patienceMs: 50 });
    const hanging = await RunningAttempt.begin(attempts, { isDeaf: true });
    await attempts.run("key", async () => undefined);
    hanging.end();
    await hanging.result;

    expect(await attempts.run("key", tellPrevious)).toBe("over");
  });
});

describe("Attempts.end()", () => {
  it("has nothing to do when no attempt runs", async () => {
    expect(await new Attempts().end("key")).toBe("over");
  });

  it("ends the attempt that runs, and waits for its end", async () => {
    const attempts = new Attempts();
    const running = await RunningAttempt.begin(attempts);
    const order: string[] = [];
    void running.result.then((reason) => order.push(reason));

    order.push(await attempts.end("key"));

    expect(order).toEqual(["Another attempt took over key", "over"]);
  });

  it("counts an attempt that fails as ended", async () => {
    const attempts = new Attempts();
    let begun: () => void = () => undefined;
    const hasBegun = new Promise<void>((resolve) => {
      begun = resolve;
    });
    const failing = attempts.run("key", async (signal) => {
      begun();
      await new Promise((_resolve, reject) => {
        signal.addEventListener("abort", () => {
          reject(new Error("disk broke"));
        });
      });
    });
    const failed = expect(failing).rejects.toThrow("disk broke");
    await hasBegun;

    expect(await attempts.end("key")).toBe("over");
    await failed;
  });

  it("stops waiting for an attempt that hangs", async () => {
    const attempts = new Attempts({ patienceMs: 50 });
    const hanging = await RunningAttempt.begin(attempts, { isDeaf: true });

    expect(await attempts.end("key")).toBe("hanging");
    hanging.end();
  });
});
