import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { promisify } from "node:util";
import type { Worker } from "node:worker_threads";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it, onTestFinished } from "vitest";
import { BlockPool } from "../../src/bytes/block-pool.ts";
import { BLOCK_BYTES } from "../../src/bytes/block-size.ts";
import { DigestRing } from "../../src/bytes/digest-ring.ts";
import { DigestThreads } from "../../src/bytes/digest-threads.ts";
import type { Digests } from "../../src/domain/digests.ts";
import { programPath } from "../support/child-program.ts";
import { PATIENCE } from "../support/patience.ts";

const RANDOM = randomBytes(BLOCK_BYTES);

function expectedDigests(bytes: Buffer, hashAlgo: string): Digests {
  return {
    checksum: createHash("md5").update(bytes).digest("hex"),
    osHashAlgo: hashAlgo,
    osHashValue: createHash(hashAlgo).update(bytes).digest("hex"),
    crc32: crc32(bytes),
    sizeBytes: bytes.length,
  };
}

async function submitAll(ring: DigestRing, pieces: readonly Buffer[]): Promise<void> {
  for (const piece of pieces) {
    const block = await ring.acquire();
    piece.copy(block.bytes);
    ring.submit(block, piece.length);
    block.release();
  }
}

function startedThreads(): Worker[] {
  const threads: Worker[] = [];
  const remember = (thread: Worker): void => {
    threads.push(thread);
  };
  process.on("worker", remember);
  onTestFinished(() => {
    process.off("worker", remember);
  });
  return threads;
}

describe("DigestRing", () => {
  it("computes what node:crypto computes, whatever the lengths of the blocks", async () => {
    const lengthBytes = fc.oneof(
      fc.constantFrom(0, 1, BLOCK_BYTES - 1, BLOCK_BYTES),
      fc.nat(BLOCK_BYTES),
    );
    const hashAlgo = fc.constantFrom("sha512", "sha256", "sha384", "md5");

    await fc.assert(
      fc.asyncProperty(
        fc.array(lengthBytes, { maxLength: 20 }),
        hashAlgo,
        async (lengths, algo) => {
          const pieces = lengths.map((length, index) =>
            Buffer.concat([RANDOM.subarray(index), RANDOM.subarray(0, index)]).subarray(0, length),
          );
          using ring = DigestRing.open({ hashAlgo: algo });

          await submitAll(ring, pieces);

          expect(await ring.finish()).toEqual(expectedDigests(Buffer.concat(pieces), algo));
        },
      ),
      { numRuns: 15 },
    );
  });

  it("starts no thread for a single block", async () => {
    const threads = startedThreads();
    using ring = DigestRing.open({ threads: new DigestThreads() });

    await submitAll(ring, [RANDOM]);

    expect(await ring.finish()).toEqual(expectedDigests(RANDOM, "sha512"));
    expect(threads).toHaveLength(0);
  });

  it("computes the digests of many streams that have one block each", async () => {
    const blocks = new BlockPool({ budget: 1 });
    const threads = new DigestThreads(2);
    const pieces = [RANDOM, RANDOM.subarray(0, 100), RANDOM];

    const digests = await Promise.all(
      Array.from({ length: 9 }, async (_, stream) => {
        using ring = DigestRing.open({ blocks, threads });
        await submitAll(ring, [...pieces, Buffer.of(stream)]);
        return await ring.finish();
      }),
    );

    expect(digests).toEqual(
      digests.map((_, stream) =>
        expectedDigests(Buffer.concat([...pieces, Buffer.of(stream)]), "sha512"),
      ),
    );
  });

  it("hands a block out again only when threads and user have released it", async () => {
    using ring = DigestRing.open();
    const blocks = await Promise.all(Array.from({ length: 8 }, () => ring.acquire()));
    for (const block of blocks) ring.submit(block, BLOCK_BYTES);
    let hasNinth = false;
    const ninth = ring.acquire().then(() => {
      hasNinth = true;
    });

    await ring.finish();
    expect(hasNinth).toBe(false);
    blocks[3]?.release();

    await ninth;
  });

  it("returns the same digests from a second finish()", async () => {
    using ring = DigestRing.open();
    await submitAll(ring, [RANDOM, RANDOM]);

    expect(await ring.finish()).toBe(await ring.finish());
  });

  it("refuses blocks after finish()", async () => {
    using ring = DigestRing.open();
    const block = await ring.acquire();
    await ring.finish();

    expect(() => {
      ring.submit(block, 1);
    }).toThrow("Cannot submit a block: the ring is finished");
  });

  it("names a hash that node:crypto does not have", () => {
    expect(() => DigestRing.open({ hashAlgo: "sha1024" })).toThrow(
      'Cannot compute digests with "sha1024": node:crypto has no such hash; try sha512 or sha256',
    );
  });

  it("rejects everything pending when a thread dies, and everything afterwards", async () => {
    const threads = startedThreads();
    using ring = DigestRing.open({ threads: new DigestThreads(2) });
    const blocks = await Promise.all(Array.from({ length: 8 }, () => ring.acquire()));
    for (const block of blocks) ring.submit(block, BLOCK_BYTES);
    const pending = Promise.allSettled([ring.acquire(), ring.finish()]);

    // Node announces a new thread in the next tick. No digest can arrive before it.
    await new Promise((resolve) => {
      process.nextTick(resolve);
    });
    await threads[1]?.terminate();

    const died = /^Cannot compute digests: a thread ended with code \d$/;
    const reason = expect.objectContaining({
      message: expect.stringMatching(died) as string,
    }) as Error;
    expect(await pending).toEqual([
      { status: "rejected", reason },
      { status: "rejected", reason },
    ]);
    await expect(ring.acquire()).rejects.toThrow(died);
  });

  it("rejects everything on close(), at any time and twice, and gives its blocks back", async () => {
    const pool = new BlockPool({ budget: 8 });
    const threads = new DigestThreads(2);
    const ring = DigestRing.open({ blocks: pool, threads });
    const blocks = await Promise.all(Array.from({ length: 8 }, () => ring.acquire()));
    for (const block of blocks) ring.submit(block, BLOCK_BYTES);
    const pending = Promise.allSettled([ring.acquire(), ring.finish()]);

    ring.close();
    ring.close();

    const closed = new Error("Cannot compute digests: the ring was closed");
    expect(await pending).toEqual([
      { status: "rejected", reason: closed },
      { status: "rejected", reason: closed },
    ]);
    for (const block of blocks) block.release();
    const next = pool.share();
    await Promise.all(Array.from({ length: 8 }, () => next.acquire()));
  });

  it("lets the process end when it was not closed", async () => {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [programPath("leave-digests.mjs")],
      PATIENCE,
    );

    expect(stdout).toBe("left\n");
  });

  it("keeps the process alive until awaited digests are there", async () => {
    const { stdout } = await promisify(execFile)(
      process.execPath,
      [programPath("await-digests.mjs")],
      PATIENCE,
    );

    expect(stdout).toBe(
      createHash("md5")
        .update(Buffer.alloc(64 * BLOCK_BYTES))
        .digest("hex"),
    );
  });

  it("leaves the event loop free while it hashes", async () => {
    using ring = DigestRing.open();
    const before = performance.eventLoopUtilization();

    await submitAll(
      ring,
      Array.from({ length: 128 }, () => RANDOM),
    );
    await ring.finish();

    // Hashing here would use it up. A share, not a time: a busy machine stretches both alike.
    expect(performance.eventLoopUtilization(before).utilization).toBeLessThan(0.8);
  });
});
