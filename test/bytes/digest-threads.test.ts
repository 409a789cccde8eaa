import { createHash } from "node:crypto";
import type { Worker } from "node:worker_threads";
import { describe, expect, it, onTestFinished } from "vitest";
import { DigestThreads } from "../../src/bytes/digest-threads.ts";

function sharedBytes(text: string): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(text.length);
  Buffer.from(memory).write(text, "latin1");
  return memory;
}

function startedThreads(): Worker[] {
  const threads: Worker[] = [];
  const remember = (thread: Worker): void => {
    threads.push(thread);
  };
  process.on("worker", remember);
  onTestFinished(async () => {
    process.off("worker", remember);
    for (const thread of threads) await thread.terminate();
  });
  return threads;
}

/** Node announces a new thread in the next tick. */
function announced(): Promise<void> {
  return new Promise((resolve) => {
    process.nextTick(resolve);
  });
}

function mustNotDie(reason: Error): never {
  throw reason;
}

describe("DigestThreads", () => {
  it("hash many streams side by side, each in the order of its bytes", async () => {
    const started = startedThreads();
    const threads = new DigestThreads(2);
    const hashed: string[] = [];
    const one = threads.start("sha256", mustNotDie);
    const other = threads.start("sha256", mustNotDie);
    const third = threads.start("md5", mustNotDie);

    one.update(sharedBytes("one "), 4, () => hashed.push("one"));
    other.update(sharedBytes("other"), 5, () => hashed.push("other"));
    third.update(sharedBytes("third and more"), 5, () => hashed.push("third"));
    one.update(sharedBytes("two"), 3, () => hashed.push("two"));
    const digests = await Promise.all([one.finish(), other.finish(), third.finish()]);

    const digest = (algorithm: string, text: string): string =>
      createHash(algorithm).update(text).digest("hex");
    expect(digests).toEqual([
      digest("sha256", "one two"),
      digest("sha256", "other"),
      digest("md5", "third"),
    ]);
    expect(hashed.toSorted()).toEqual(["one", "other", "third", "two"]);
    expect(started).toHaveLength(2);
  });

  it("take a thread that has no work before they start another", async () => {
    const started = startedThreads();
    const threads = new DigestThreads(4);
    for (let i = 0; i < 3; i += 1) await threads.start("md5", mustNotDie).finish();
    threads.start("md5", mustNotDie).drop();
    await threads.start("md5", mustNotDie).finish();

    expect(started).toHaveLength(1);
  });

  it("report the death of a thread to its hashes, release their blocks, and start another", async () => {
    const started = startedThreads();
    const threads = new DigestThreads(1);
    const released: string[] = [];
    const deaths: Error[] = [];
    const dropped = threads.start("md5", mustNotDie);
    dropped.update(sharedBytes("dropped"), 7, () => released.push("dropped"));
    dropped.drop();
    const reported = new Promise<void>((resolve) => {
      const hash = threads.start("md5", (reason) => {
        deaths.push(reason);
        resolve();
      });
      hash.update(sharedBytes("x"), 1, () => released.push("x"));
    });

    await announced();
    await started[0]?.terminate();
    await reported;

    expect(deaths.map(({ message }) => message)).toEqual([
      expect.stringMatching(/^Cannot compute digests: a thread ended with code \d$/),
    ]);
    await new Promise(setImmediate);
    expect(released).toEqual(["dropped", "x"]);
    const next = threads.start("md5", mustNotDie);
    expect(await next.finish()).toBe(createHash("md5").digest("hex"));
    expect(started).toHaveLength(2);
  });

  it("report a thread that fails, and why", async () => {
    startedThreads();

    const reason = await new Promise<Error>((resolve) => {
      new DigestThreads(1).start("no-such-hash", resolve);
    });

    expect(reason.message).toBe("Cannot compute digests: a thread failed");
    expect(reason.cause).toBeInstanceOf(Error);
  });
});
