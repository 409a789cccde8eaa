import { createHash, randomBytes } from "node:crypto";
import { open, readFile, stat, writeFile } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { BandwidthLimit } from "../../src/bytes/bandwidth-limit.ts";
import { processBlocks } from "../../src/bytes/block-pool.ts";
import { BLOCK_BYTES } from "../../src/bytes/block-size.ts";
import type { Digests } from "../../src/domain/digests.ts";
import type { ByteSource } from "../../src/staging/byte-source.ts";
import { writeStaged } from "../../src/staging/write-staged.ts";
import { PATIENCE } from "../support/patience.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const RANDOM = randomBytes(BLOCK_BYTES);

let targetPath: string;
beforeEach(() => {
  targetPath = join(makeTemporaryDirectory(), "part");
});

/** However a write ends, its blocks go back to all the streams of the process. */
afterEach(async () => {
  await expect.poll(freeBlocks, PATIENCE).toBe(24);
});

async function freeBlocks(): Promise<number> {
  const blocks = [0, 1, 2].flatMap(() => {
    const share = processBlocks.share();
    const lent: ReturnType<typeof share.acquire>[] = [];
    while (share.isAnyFree) lent.push(share.acquire());
    return lent;
  });
  for (const block of blocks) (await block).release();
  return blocks.length;
}

/** An empty part. */
async function openTarget(): Promise<FileHandle> {
  const handle = await open(targetPath, "w+");
  onTestFinished(() => handle.close());
  return handle;
}

/** The digests of these bytes, by node:crypto and node:zlib. */
function digestsOf(bytes: Buffer, osHashAlgo = "sha512"): Digests {
  return {
    checksum: createHash("md5").update(bytes).digest("hex"),
    osHashAlgo,
    osHashValue: createHash(osHashAlgo).update(bytes).digest("hex"),
    crc32: crc32(bytes),
    sizeBytes: bytes.length,
  };
}

/** A source that hands the bytes out in pieces of these lengths, over and over. */
function inPieces(bytes: Buffer, pieceLengths: readonly number[]): ByteSource {
  let position = 0;
  let reads = 0;
  return {
    read: async (buffer) => {
      const pieceBytes = pieceLengths[reads % pieceLengths.length] ?? buffer.length;
      reads += 1;
      const copiedBytes = bytes.copy(buffer, 0, position, position + pieceBytes);
      position += copiedBytes;
      return copiedBytes;
    },
  };
}

/**
 * Up to five blocks, each all zero, all random, or zero but for one byte at either end; less a few
 * bytes at the end.
 */
const someContent = fc.record({
  blocks: fc.array(fc.constantFrom("zero", "random", "first byte", "last byte"), { maxLength: 5 }),
  cutBytes: fc.oneof(fc.constantFrom(0, 1, BLOCK_BYTES - 1, BLOCK_BYTES), fc.nat(BLOCK_BYTES)),
});

function bytesOf({ blocks, cutBytes }: { blocks: string[]; cutBytes: number }): Buffer {
  const bytes = Buffer.concat(blocks.map(blockOf));
  return bytes.subarray(0, Math.max(0, bytes.length - cutBytes));
}

function blockOf(kind: string): Buffer {
  if (kind === "random") return RANDOM;
  const block = Buffer.alloc(BLOCK_BYTES);
  if (kind === "first byte") block[0] = 1;
  if (kind === "last byte") block[BLOCK_BYTES - 1] = 1;
  return block;
}

const somePieces = fc.array(fc.integer({ min: 50_000, max: 2 * BLOCK_BYTES }), {
  minLength: 1,
  maxLength: 4,
});

describe("writeStaged()", () => {
  it("writes any bytes as they are, and digests them, whatever pieces they come in", async () => {
    await fc.assert(
      fc.asyncProperty(someContent, somePieces, async (content, pieces) => {
        await using target = await open(targetPath, "w+");
        const bytes = bytesOf(content);

        const digests = await writeStaged(inPieces(bytes, pieces), target, { hashAlgo: "sha512" });

        expect((await readFile(targetPath)).equals(bytes)).toBe(true);
        expect(digests).toEqual(digestsOf(bytes));
      }),
      { numRuns: 40 },
    );
  });

  it("stops at any moment for the reason given, and writes nothing more", async () => {
    await fc.assert(
      fc.asyncProperty(someContent, somePieces, fc.nat(20), async (content, pieces, reads) => {
        await using target = await open(targetPath, "w+");
        const bytes = bytesOf(content);
        const controller = new AbortController();
        const reason = new Error("Enough");
        const source = inPieces(bytes, pieces);
        let readsLeft = reads;
        const stopping: ByteSource = {
          read: async (buffer) => {
            if (readsLeft === 0) controller.abort(reason);
            readsLeft -= 1;
            return source.read(buffer);
          },
        };

        const outcome = await writeStaged(stopping, target, {
          hashAlgo: "sha512",
          signal: controller.signal,
        }).then(
          (digests) => ({ digests }),
          (error: unknown) => ({ error }),
        );

        const written = await readFile(targetPath);
        if (controller.signal.aborted) expect(outcome).toEqual({ error: reason });
        else expect(outcome).toEqual({ digests: digestsOf(bytes) });
        // Skipped zeros at the end of what was written are not there yet.
        expect(written.equals(bytes.subarray(0, written.length))).toBe(true);
      }),
      { numRuns: 40 },
    );
  });

  it.each(["sha256", "sha384"])("computes %s where that is the multihash", async (hashAlgo) => {
    const bytes = Buffer.concat([RANDOM, RANDOM.subarray(0, 7)]);

    const digests = await writeStaged(inPieces(bytes, [BLOCK_BYTES]), await openTarget(), {
      hashAlgo,
    });

    expect(digests).toEqual(digestsOf(bytes, hashAlgo));
  });

  it("writes nothing, and digests nothing, when the source has nothing", async () => {
    const digests = await writeStaged(inPieces(Buffer.alloc(0), [1]), await openTarget(), {
      hashAlgo: "sha512",
    });

    expect(digests).toEqual(digestsOf(Buffer.alloc(0)));
    expect((await stat(targetPath)).size).toBe(0);
  });

  it("keeps zero blocks as holes, also at the end", async () => {
    const bytes = Buffer.concat([
      Buffer.alloc(16 * BLOCK_BYTES),
      RANDOM,
      Buffer.alloc(16 * BLOCK_BYTES),
    ]);
    const target = await openTarget();

    await writeStaged(inPieces(bytes, [BLOCK_BYTES]), target, { hashAlgo: "sha512" });
    await target.sync();

    const { size, blocks } = await stat(targetPath);
    expect(size).toBe(bytes.length);
    expect(blocks * 512).toBeLessThan(2 * BLOCK_BYTES);
  });

  it("reports its progress after every block", async () => {
    const bytes = Buffer.concat([RANDOM, RANDOM, RANDOM.subarray(0, 5)]);
    const progress: number[] = [];

    await writeStaged(inPieces(bytes, [300_000]), await openTarget(), {
      hashAlgo: "sha512",
      report: (doneBytes) => progress.push(doneBytes),
    });

    expect(progress).toEqual([BLOCK_BYTES, 2 * BLOCK_BYTES, 2 * BLOCK_BYTES + 5]);
  });

  it("takes from the bandwidth what it writes, and nothing for zero blocks", async () => {
    const bytes = Buffer.concat([RANDOM, Buffer.alloc(4 * BLOCK_BYTES), RANDOM.subarray(0, 5)]);
    const limiter = new CountingLimit(1024 ** 3);

    await writeStaged(inPieces(bytes, [BLOCK_BYTES]), await openTarget(), {
      hashAlgo: "sha512",
      limiter,
    });

    expect(limiter.taken).toEqual([BLOCK_BYTES, 5]);
  });

  it("reads nothing when it is aborted already", async () => {
    const source: ByteSource = {
      read: async () => {
        throw new Error("It was read");
      },
    };
    const reason = new Error("Enough");

    const writing = writeStaged(source, await openTarget(), {
      hashAlgo: "sha512",
      signal: AbortSignal.abort(reason),
    });

    await expect(writing).rejects.toBe(reason);
  });

  it("stops while the source is silent", async () => {
    const controller = new AbortController();
    const reason = new Error("Enough");
    let speak: (readBytes: number) => void = () => undefined;
    const silent: ByteSource = {
      read: async () => {
        controller.abort(reason);
        return new Promise((resolve) => {
          speak = resolve;
        });
      },
    };

    const writing = writeStaged(silent, await openTarget(), {
      hashAlgo: "sha512",
      signal: controller.signal,
    });

    await expect(writing).rejects.toBe(reason);
    speak(0);
  });

  it("lets a read that it left behind put its bytes into no other stream", async () => {
    const controller = new AbortController();
    let arrive: () => void = () => undefined;
    const late: ByteSource = {
      read: (buffer) =>
        new Promise((resolve) => {
          arrive = () => {
            arrive = () => undefined;
            resolve(RANDOM.copy(buffer));
          };
          controller.abort(new Error("Enough"));
        }),
    };
    const left = writeStaged(late, await openTarget(), {
      hashAlgo: "sha512",
      signal: controller.signal,
    });
    await expect(left).rejects.toThrow("Enough");
    const bytes = Buffer.alloc(3 * BLOCK_BYTES, "x");
    const source = inPieces(bytes, [BLOCK_BYTES]);
    const disturbed: ByteSource = {
      read: async (buffer) => {
        const readBytes = await source.read(buffer);
        arrive();
        await Promise.resolve();
        return readBytes;
      },
    };

    const digests = await writeStaged(disturbed, await openTarget(), { hashAlgo: "sha512" });

    expect(digests).toEqual(digestsOf(bytes));
  });

  it("holds no block before its source has sent a byte", async () => {
    const controllers: AbortController[] = [];
    const silent: ByteSource = {
      ready: () => new Promise(() => undefined),
      read: () => Promise.reject(new Error("It was read")),
    };
    const writings = Array.from({ length: 70 }, async () => {
      const controller = new AbortController();
      controllers.push(controller);
      await writeStaged(silent, await openTarget(), {
        hashAlgo: "sha512",
        signal: controller.signal,
      });
    });
    const ended = Promise.allSettled(writings);
    const share = processBlocks.share();

    const blocks = Array.from({ length: 8 }, () => {
      expect(share.isAnyFree).toBe(true);
      return share.acquire();
    });
    for (const block of blocks) (await block).release();
    for (const controller of controllers) controller.abort(new Error("Enough"));
    for (const { status } of await ended) expect(status).toBe("rejected");
  });

  it("stops while it waits for the bandwidth", async () => {
    const controller = new AbortController();
    const reason = new Error("Enough");
    const limiter = new BandwidthLimit(1);
    await limiter.take(BLOCK_BYTES);
    const bytes = Buffer.concat([RANDOM, RANDOM]);

    const writing = writeStaged(inPieces(bytes, [BLOCK_BYTES]), await openTarget(), {
      hashAlgo: "sha512",
      limiter,
      signal: controller.signal,
      report: () => {
        controller.abort(reason);
      },
    });

    await expect(writing).rejects.toBe(reason);
  });

  it("passes on the failure of the source", async () => {
    const reason = new Error("The tape tore");
    const source: ByteSource = {
      read: async () => {
        throw reason;
      },
    };

    const writing = writeStaged(source, await openTarget(), { hashAlgo: "sha512" });

    await expect(writing).rejects.toBe(reason);
  });

  it("passes on the failure of the disk, and reads no further", async () => {
    const target = await openTarget();
    let reads = 0;
    const broken = Object.assign(Object.create(target) as FileHandle, {
      write: async () => {
        throw Object.assign(new Error("disk broke"), { code: "EIO" });
      },
    });
    const endless: ByteSource = {
      read: async (buffer) => {
        reads += 1;
        return RANDOM.copy(buffer);
      },
    };

    const writing = writeStaged(endless, broken, { hashAlgo: "sha512" });

    await expect(writing).rejects.toHaveProperty("code", "EIO");
    expect(reads).toBeLessThan(4);
  });

  it("refuses a hash that does not exist", async () => {
    const writing = writeStaged(inPieces(RANDOM, [1]), await openTarget(), { hashAlgo: "sha0" });

    await expect(writing).rejects.toThrow('"sha0"');
  });
});

/** A limit that never waits, and records the requests. */
class CountingLimit extends BandwidthLimit {
  readonly taken: number[] = [];

  override async take(bytes: number): Promise<void> {
    this.taken.push(bytes);
  }
}

describe("writeStaged() of a part that may be resumed", () => {
  it("resumes at any byte as if it had never stopped", async () => {
    await fc.assert(
      fc.asyncProperty(
        someContent,
        somePieces,
        fc.double({ min: 0, max: 1, noNaN: true }),
        async (content, pieces, share) => {
          const bytes = bytesOf(content);
          const resumeAt = Math.floor(bytes.length * share);
          await writeFile(targetPath, bytes.subarray(0, resumeAt));
          await using target = await open(targetPath, "r+");

          const digests = await writeStaged(inPieces(bytes.subarray(resumeAt), pieces), target, {
            hashAlgo: "sha512",
            resumeAt,
          });

          expect(digests).toEqual(digestsOf(bytes));
          expect((await readFile(targetPath)).equals(bytes)).toBe(true);
        },
      ),
      { numRuns: 20 },
    );
  });

  it.each([
    ["zeros", Buffer.alloc(2 * BLOCK_BYTES + 7)],
    ["other bytes", randomBytes(2 * BLOCK_BYTES + 7)],
  ])("keeps all %s that came before its source failed", async (_, bytes) => {
    const target = await openTarget();
    const rest = inPieces(bytes, [100_000]);
    const failing: ByteSource = {
      read: async (buffer) => {
        const readBytes = await rest.read(buffer);
        if (readBytes === 0) throw new Error("gone");
        return readBytes;
      },
    };

    const writing = writeStaged(failing, target, { hashAlgo: "sha512", resumeAt: 0 });

    await expect(writing).rejects.toThrow("gone");
    expect((await readFile(targetPath)).equals(bytes)).toBe(true);
  });
});
