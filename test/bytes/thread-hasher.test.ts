import { createHash } from "node:crypto";
import { describe, expect, it } from "vitest";
import { ThreadHasher } from "../../src/bytes/thread-hasher.ts";

function sharedBytes(text: string): SharedArrayBuffer {
  const memory = new SharedArrayBuffer(text.length);
  Buffer.from(memory).write(text, "latin1");
  return memory;
}

describe("ThreadHasher", () => {
  it("hashes ranges in the order in which they are given", async () => {
    const hasher = ThreadHasher.start(
      { algorithm: "sha256", memory: sharedBytes("two one ") },
      (reason) => {
        throw reason;
      },
    );
    const hashed: string[] = [];

    hasher.hash({ offsetBytes: 4, lengthBytes: 4 }, () => hashed.push("one"));
    hasher.hash({ offsetBytes: 0, lengthBytes: 3 }, () => hashed.push("two"));
    const digest = await hasher.finish();
    await hasher.stop();

    expect(digest).toBe(createHash("sha256").update("one two").digest("hex"));
    expect(hashed).toEqual(["one", "two"]);
  });

  it("reports that its thread died, and why", async () => {
    const reason = await new Promise<Error>((resolve) => {
      ThreadHasher.start({ algorithm: "no-such-hash", memory: sharedBytes("x") }, resolve);
    });

    expect(reason.message).toBe("Cannot compute digests: the no-such-hash thread failed");
    expect(reason.cause).toBeInstanceOf(Error);
  });

  it("reports no death when it is stopped", async () => {
    const deaths: Error[] = [];
    const hasher = ThreadHasher.start({ algorithm: "md5", memory: sharedBytes("x") }, (reason) =>
      deaths.push(reason),
    );

    await hasher.stop();
    await hasher.stop();

    expect(deaths).toEqual([]);
  });
});
