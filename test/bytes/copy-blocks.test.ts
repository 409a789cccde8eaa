import { randomBytes } from "node:crypto";
import { open, readFile, stat, writeFile } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import fc from "fast-check";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { BandwidthLimit } from "../../src/bytes/bandwidth-limit.ts";
import { BLOCK_BYTES } from "../../src/bytes/block-size.ts";
import { copyBlocks, rebuildCrc } from "../../src/bytes/copy-blocks.ts";
import type { CopyTarget } from "../../src/bytes/copy-blocks.ts";
import type { PositionalReader } from "../../src/bytes/positional-io.ts";
import { ZeroBlocks } from "../../src/bytes/zero-blocks.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import { PATIENCE } from "../support/patience.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const RANDOM = randomBytes(BLOCK_BYTES);

let directory: string;
beforeEach(async () => {
  directory = makeTemporaryDirectory();
});

/**
 * A file of up to five blocks, the last one cut short, each all zero, all random, or zero but for
 * one byte at either end.
 */
const aFile = fc
  .record({
    blocks: fc.array(fc.constantFrom("zero", "random", "first byte", "last byte"), {
      minLength: 1,
      maxLength: 5,
    }),
    cutBytes: fc.oneof(fc.constantFrom(0, 1, BLOCK_BYTES - 1, BLOCK_BYTES), fc.nat(BLOCK_BYTES)),
  })
  .map(({ blocks, cutBytes }) => {
    const bytes = Buffer.concat(blocks.map(blockOf));
    return bytes.subarray(0, bytes.length - cutBytes);
  });

function blockOf(kind: string): Buffer {
  if (kind === "random") return RANDOM;
  const block = Buffer.alloc(BLOCK_BYTES);
  if (kind === "first byte") block[0] = 1;
  if (kind === "last byte") block[BLOCK_BYTES - 1] = 1;
  return block;
}

/** Counts reads and writes, cuts them short, and fails at the chosen one. */
class FlakyFiles {
  #operationsLeft: number;
  readonly #pieceBytes: number;

  constructor(failAfter: number, pieceBytes: number) {
    this.#operationsLeft = failAfter;
    this.#pieceBytes = pieceBytes;
  }

  source(handle: FileHandle): PositionalReader {
    return {
      read: (buffer, offset, length, position) => {
        this.#countDown();
        return handle.read(buffer, offset, Math.min(length, this.#pieceBytes), position);
      },
    };
  }

  target(handle: FileHandle): CopyTarget {
    return {
      stat: () => handle.stat(),
      truncate: (lengthBytes) => handle.truncate(lengthBytes),
      write: (buffer, offset, length, position) => {
        this.#countDown();
        return handle.write(buffer, offset, Math.min(length, this.#pieceBytes), position);
      },
    };
  }

  #countDown(): void {
    if (this.#operationsLeft === 0) throw Object.assign(new Error("disk broke"), { code: "EIO" });
    this.#operationsLeft -= 1;
  }
}

async function openPair(bytes: Buffer): Promise<{ source: FileHandle; target: FileHandle }> {
  const sourcePath = join(directory, "source");
  await writeFile(sourcePath, bytes);
  return { source: await open(sourcePath), target: await open(join(directory, "target"), "w+") };
}

describe("copyBlocks()", () => {
  it("copies any file, byte for byte, and computes its crc32, through short reads and writes", async () => {
    const pieceBytes = fc.integer({ min: 100_000, max: 2 * BLOCK_BYTES });

    await fc.assert(
      fc.asyncProperty(aFile, pieceBytes, async (bytes, piece) => {
        const pair = await openPair(bytes);
        await using source = pair.source;
        await using target = pair.target;
        const files = new FlakyFiles(Infinity, piece);

        const { crc32: crc } = await copyBlocks({
          source: files.source(source),
          target: files.target(target),
          sizeBytes: bytes.length,
          startAt: 0,
          crcSoFar: 0,
        });

        expect((await readFile(join(directory, "target"))).equals(bytes)).toBe(true);
        expect(crc).toBe(crc32(bytes));
      }),
      { numRuns: 60 },
    );
  });

  it("gives the same bytes and crc when it fails anywhere and is resumed from what is there", async () => {
    await fc.assert(
      fc.asyncProperty(aFile, fc.nat(12), async (bytes, failAfter) => {
        const pair = await openPair(bytes);
        await using source = pair.source;
        await using target = pair.target;
        const copy = { source, target, sizeBytes: bytes.length };
        const files = new FlakyFiles(failAfter, 700_000);
        await copyBlocks({
          ...copy,
          source: files.source(source),
          target: files.target(target),
          startAt: 0,
          crcSoFar: 0,
        }).catch((error: unknown) => {
          expect(error).toHaveProperty("code", "EIO");
        });

        const { size } = await target.stat();
        const startAt = size - (size % BLOCK_BYTES);
        const crcSoFar = await rebuildCrc(target, startAt);
        const { crc32: crc } = await copyBlocks({ ...copy, startAt, crcSoFar });

        expect((await readFile(join(directory, "target"))).equals(bytes)).toBe(true);
        expect(crc).toBe(crc32(bytes));
      }),
      { numRuns: 60 },
    );
  });

  it("waits for a running read before it fails with the failure of a write", async () => {
    const bytes = Buffer.concat([RANDOM, RANDOM]);
    const pair = await openPair(bytes);
    await using source = pair.source;
    await using target = pair.target;
    let isReading = false;
    const copying = copyBlocks({
      source: {
        read: async (buffer, offset, length, position) => {
          isReading = true;
          await new Promise((resolve) => setTimeout(resolve, 20));
          const result = await source.read(buffer, offset, length, position);
          isReading = false;
          return result;
        },
      },
      target: new FlakyFiles(0, BLOCK_BYTES).target(target),
      sizeBytes: bytes.length,
      startAt: 0,
      crcSoFar: 0,
    });

    await expect(copying).rejects.toThrow("disk broke");
    expect(isReading).toBe(false);
  });

  it("keeps zero blocks as holes, and counts only what it wrote", async () => {
    const bytes = Buffer.concat([
      Buffer.alloc(16 * BLOCK_BYTES),
      RANDOM,
      Buffer.alloc(16 * BLOCK_BYTES),
    ]);
    const pair = await openPair(bytes);
    await using source = pair.source;
    await using target = pair.target;

    const { writtenBytes } = await copyBlocks({
      source,
      target,
      sizeBytes: bytes.length,
      startAt: 0,
      crcSoFar: 0,
    });
    await target.sync();

    const { size, blocks } = await stat(join(directory, "target"));
    expect(writtenBytes).toBe(BLOCK_BYTES);
    expect(size).toBe(bytes.length);
    expect(blocks * 512).toBeLessThan(2 * BLOCK_BYTES);
  });

  it("does not read blocks that are known to be zero, and copies any file as if it had", async () => {
    await fc.assert(
      fc.asyncProperty(aFile, async (bytes) => {
        const path = join(directory, "source");
        await writeFile(path, bytes);
        await using source = await open(path);
        await using target = await open(join(directory, "target"), "w+");
        const zeroBlocks = new ZeroBlocks();
        const zeros = [0, 1, 2, 3, 4].filter((block) => {
          const content = bytes.subarray(block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES);
          return content.length > 0 && content.every((byte) => byte === 0);
        });
        for (const block of zeros) zeroBlocks.add(block);
        const read: number[] = [];
        const watched: PositionalReader = {
          read: (buffer, offset, length, position) => {
            read.push(Math.floor(position / BLOCK_BYTES));
            return source.read(buffer, offset, length, position);
          },
        };

        const { crc32: crc } = await copyBlocks({
          source: watched,
          target,
          sizeBytes: bytes.length,
          startAt: 0,
          crcSoFar: 0,
          zeroBlocks,
        });

        expect(crc).toBe(crc32(bytes));
        expect((await readFile(join(directory, "target"))).equals(bytes)).toBe(true);
        expect(
          read.filter((block) => zeros.includes(block) && block * BLOCK_BYTES < bytes.length),
        ).toEqual([]);
      }),
      { numRuns: 50 },
    );
  });

  it("leaves nothing of an earlier attempt where it skips a zero block", async () => {
    const bytes = Buffer.concat([RANDOM, Buffer.alloc(2 * BLOCK_BYTES)]);
    const pair = await openPair(bytes);
    await using source = pair.source;
    await using target = pair.target;
    await target.write(Buffer.alloc(3 * BLOCK_BYTES + 9, 7), 0, undefined, 0);
    await target.write(RANDOM, 0, BLOCK_BYTES, 0);

    await copyBlocks({
      source,
      target,
      sizeBytes: bytes.length,
      startAt: BLOCK_BYTES,
      crcSoFar: crc32(RANDOM),
    });

    expect((await readFile(join(directory, "target"))).equals(bytes)).toBe(true);
  });

  it("reports its progress after every block, from where it started", async () => {
    const bytes = Buffer.concat([RANDOM, RANDOM, RANDOM.subarray(0, 5)]);
    const pair = await openPair(bytes);
    await using source = pair.source;
    await using target = pair.target;
    await target.write(RANDOM, 0, BLOCK_BYTES, 0);
    const progress: number[] = [];

    await copyBlocks({
      source,
      target,
      sizeBytes: bytes.length,
      startAt: BLOCK_BYTES,
      crcSoFar: crc32(RANDOM),
      report: (doneBytes) => progress.push(doneBytes),
    });

    expect(progress).toEqual([2 * BLOCK_BYTES, 2 * BLOCK_BYTES + 5]);
  });

  it("fails as changed data when the source is shorter than it must be, naming both sizes", async () => {
    const pair = await openPair(Buffer.concat([RANDOM, RANDOM.subarray(0, 3)]));
    await using source = pair.source;
    await using target = pair.target;

    const copying = copyBlocks({
      source,
      target,
      sizeBytes: 4 * BLOCK_BYTES,
      startAt: 0,
      crcSoFar: 0,
    });

    await expect(copying).rejects.toThrow(
      new ImportError(
        "StagedDataChanged",
        "Cannot copy the staged data: it has 1048579 of 4194304 bytes",
      ),
    );
  });

  it("refuses to resume behind the end of the part file, and leaves it alone", async () => {
    const pair = await openPair(Buffer.concat([RANDOM, RANDOM]));
    await using source = pair.source;
    await using target = pair.target;
    await target.write(Buffer.from("part"), 0, 4, 0);

    const copying = copyBlocks({
      source,
      target,
      sizeBytes: 2 * BLOCK_BYTES,
      startAt: BLOCK_BYTES,
      crcSoFar: 0,
    });

    await expect(copying).rejects.toThrow(
      "Cannot resume at byte 1048576: the part file has only 4 bytes",
    );
    expect((await target.stat()).size).toBe(4);
  });

  it("stops within a block when it is aborted, and keeps what it wrote", async () => {
    const bytes = Buffer.concat([RANDOM, RANDOM, RANDOM, RANDOM]);
    const pair = await openPair(bytes);
    await using source = pair.source;
    await using target = pair.target;
    const stop = new AbortController();

    const copying = copyBlocks({
      source,
      target,
      sizeBytes: bytes.length,
      startAt: 0,
      crcSoFar: 0,
      signal: stop.signal,
      report: () => {
        stop.abort(new Error("paused"));
      },
    });

    await expect(copying).rejects.toThrow("paused");
    expect((await target.stat()).size).toBe(2 * BLOCK_BYTES);
  });

  it("keeps to the limit, and leaves it at once when it is aborted", async () => {
    const bytes = Buffer.concat([RANDOM, RANDOM, RANDOM, RANDOM]);
    const pair = await openPair(bytes);
    await using source = pair.source;
    await using target = pair.target;
    // One block passes at once; the second would have to wait for twelve days.
    const limiter = new BandwidthLimit(1);
    const take = vi.spyOn(limiter, "take");
    const stop = new AbortController();

    const copying = copyBlocks({
      source,
      target,
      sizeBytes: bytes.length,
      startAt: 0,
      crcSoFar: 0,
      limiter,
      signal: stop.signal,
    });
    await vi.waitUntil(() => take.mock.calls.length === 2, PATIENCE);
    stop.abort(new Error("paused"));

    await expect(copying).rejects.toThrow("paused");
    expect((await target.stat()).size).toBe(BLOCK_BYTES);
  });
});

describe("rebuildCrc()", () => {
  it("computes the crc32 of the first bytes of a file, with progress", async () => {
    const bytes = Buffer.concat([RANDOM, RANDOM]);
    const { source } = await openPair(bytes);
    await using handle = source;
    const progress: number[] = [];

    const crc = await rebuildCrc(handle, BLOCK_BYTES + 9, undefined, (doneBytes) =>
      progress.push(doneBytes),
    );

    expect(crc).toBe(crc32(bytes.subarray(0, BLOCK_BYTES + 9)));
    expect(progress).toEqual([BLOCK_BYTES, BLOCK_BYTES + 9]);
  });

  it("is 0 for nothing", async () => {
    const { source } = await openPair(Buffer.alloc(0));
    await using handle = source;

    expect(await rebuildCrc(handle, 0)).toBe(0);
  });

  it("refuses a file that is shorter", async () => {
    const { source } = await openPair(Buffer.from("part"));
    await using handle = source;

    await expect(rebuildCrc(handle, 9)).rejects.toThrow(
      "Cannot resume at byte 9: the part file has only 4 bytes",
    );
  });
});
