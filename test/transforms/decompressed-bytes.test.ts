import { randomBytes } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { deflateRawSync, gzipSync, crc32 } from "node:zlib";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Compression } from "../../src/domain/compression.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import { decompressedBytes, type Decompression } from "../../src/transforms/decompressed-bytes.ts";
import { compress, DECOMPRESSORS, MISSING_COMPRESSOR } from "../support/compressed-files.ts";
import { failureOf } from "../support/failure-of.ts";
import { MIB } from "../support/mib.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

// zstd reads and writes files.
const STREAMS = ["gzip", "xz", "zip"] as const;

async function* chunksOf(bytes: Buffer, chunkBytes: number): AsyncGenerator<Buffer> {
  for (let at = 0; at < bytes.length; at += chunkBytes) {
    yield bytes.subarray(at, at + chunkBytes);
  }
}

async function decompressAll(
  compressed: AsyncIterable<Buffer>,
  compression: Decompression["compression"],
  settings: Partial<Decompression> = {},
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const options = {
    ...{ compression, maxBytes: 1024 * MIB, maxRatio: 64, ratioFreeBytes: 64 * MIB },
    ...{ memoryBytes: 256 * MIB, cpuSeconds: 60, programs: DECOMPRESSORS },
    ...{ signal: new AbortController().signal, ...settings },
  };
  for await (const chunk of decompressedBytes(compressed, options)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function compressed(tool: Compression, bytes: Buffer): Promise<Buffer> {
  const path = join(makeTemporaryDirectory(), "bytes");
  writeFileSync(path, bytes);
  return readFileSync(await compress(tool, path));
}

describe.skipIf(MISSING_COMPRESSOR !== undefined)(
  `decompressedBytes()${MISSING_COMPRESSOR === undefined ? "" : `, skipped without ${MISSING_COMPRESSOR}`}`,
  () => {
    it.each(STREAMS)("decompresses %s that comes in chunks of any size", async (format) => {
      const bytes = Buffer.concat([randomBytes(5000), Buffer.alloc(5000), randomBytes(7)]);
      const whole = await compressed(format, bytes);

      for (const chunkBytes of [1, 7, 1000, whole.length]) {
        const result = await decompressAll(chunksOf(whole, chunkBytes), format);
        expect(result.equals(bytes)).toBe(true);
      }
    });

    it.each(["gzip", "xz"] as const)(
      "decompresses %s of several members, cut anywhere",
      async (format) => {
        const member = await compressed(format, Buffer.from("member "));
        const whole = Buffer.concat([member, member, member]);

        for (const chunkBytes of [1, member.length - 1, member.length, member.length + 1]) {
          const result = await decompressAll(chunksOf(whole, chunkBytes), format);
          expect(result.toString()).toBe("member member member ");
        }
      },
    );

    it.each(STREAMS)("finds bytes after %s in a chunk of their own", async (format) => {
      const whole = await compressed(format, Buffer.from("bytes"));
      for (const rest of [Buffer.alloc(1), Buffer.from("garbage "), Buffer.alloc(3)]) {
        const chunks = async function* (): AsyncGenerator<Buffer> {
          yield whole;
          yield rest;
        };
        expect(await failureOf(decompressAll(chunks(), format))).toMatchObject({
          code: "DecompressionFailed",
        });
      }
    });

    it.each(STREAMS)("compares the bytes of %s with the compressed ones so far", async (format) => {
      const zeros = await compressed(format, Buffer.alloc(4 * MIB));
      const settings = { ratioFreeBytes: MIB };

      expect(await failureOf(decompressAll(chunksOf(zeros, 1000), format, settings))).toMatchObject(
        { code: "ProductTooLarge" },
      );
      const known = { ...settings, compressedBytes: 4 * MIB };
      expect(await decompressAll(chunksOf(zeros, 1000), format, known)).toHaveLength(4 * MIB);
    });

    it.each(STREAMS)("fails with the error of the source of %s", async (format) => {
      const whole = await compressed(format, randomBytes(3 * MIB));
      const reason = new Error("the source is gone");
      const chunks = async function* (): AsyncGenerator<Buffer> {
        yield whole.subarray(0, 2 * MIB);
        throw reason;
      };

      await expect(decompressAll(chunks(), format)).rejects.toBe(reason);
    });

    it.each(STREAMS)("closes the source of %s when the reader stops", async (format) => {
      const whole = await compressed(format, randomBytes(8 * MIB));
      let takenBytes = 0;
      let isOver = false;
      const chunks = async function* (): AsyncGenerator<Buffer> {
        try {
          for await (const chunk of chunksOf(whole, 64 * 1024)) {
            takenBytes += chunk.length;
            yield chunk;
          }
        } finally {
          isOver = true;
        }
      };

      await failureOf(decompressAll(chunks(), format, { maxBytes: MIB }));

      expect(isOver).toBe(true);
      expect(takenBytes).toBeLessThan(whole.length);
    });

    it.each(STREAMS)("stops %s when it is cancelled while its source waits", async (format) => {
      const whole = await compressed(format, randomBytes(3 * MIB));
      const cancellation = new AbortController();
      const reason = new Error("cancelled");
      const chunks = async function* (): AsyncGenerator<Buffer> {
        yield whole.subarray(0, MIB);
        setImmediate(() => {
          cancellation.abort(reason);
        });
        await new Promise((_, reject) => {
          cancellation.signal.addEventListener("abort", () => {
            reject(reason);
          });
        });
      };

      await expect(decompressAll(chunks(), format, { signal: cancellation.signal })).rejects.toBe(
        reason,
      );
    });

    it.each(["gzip", "zip"] as const)(
      "returns the right bytes of %s, or fails, whichever byte is changed",
      async (format) => {
        const bytes = Buffer.from("The bytes of a disk. ".repeat(20));
        const whole = format === "gzip" ? gzipSync(bytes) : archiveOf(bytes);
        const changes = fc.tuple(fc.nat(whole.length - 1), fc.integer({ min: 1, max: 255 }));

        await fc.assert(
          fc.asyncProperty(changes, fc.integer({ min: 1, max: 64 }), async ([at, mask], size) => {
            const changed = Buffer.from(whole);
            changed.writeUInt8(changed.readUInt8(at) ^ mask, at);
            const outcome = await decompressAll(chunksOf(changed, size), format).catch(
              (error: unknown) => error,
            );
            if (Buffer.isBuffer(outcome)) expect(outcome.equals(bytes)).toBe(true);
            else expect(outcome instanceof ImportError && outcome.code).toBe("DecompressionFailed");
          }),
          { numRuns: 500 },
        );
      },
    );

    it.each(["gzip", "zip"] as const)(
      "fails with its own error when random bytes begin like %s",
      async (format) => {
        const mark = Buffer.from(format === "gzip" ? "1f8b08" : "504b0304", "hex");

        await fc.assert(
          fc.asyncProperty(fc.uint8Array({ maxLength: 300 }), async (rest) => {
            const failure = await failureOf(
              decompressAll(chunksOf(Buffer.concat([mark, rest]), 50), format),
            );
            expect(failure.code).toBe("DecompressionFailed");
          }),
          { numRuns: 500 },
        );
      },
    );
  },
);

/** A zip archive as written by a program that does not know the size before. */
function archiveOf(bytes: Buffer): Buffer {
  const data = deflateRawSync(bytes);
  const name = Buffer.from("disk.raw");
  const [local, descriptor, entry, end] = [30, 16, 46, 22].map((size) => Buffer.alloc(size));
  if (!local || !descriptor || !entry || !end) throw new Error("Not reached");
  local.writeUInt32LE(0x04034b50, 0);
  local.writeUInt16LE(8, 6);
  local.writeUInt16LE(8, 8);
  local.writeUInt16LE(name.length, 26);
  for (const [at, value] of [0x08074b50, crc32(bytes), data.length, bytes.length].entries()) {
    descriptor.writeUInt32LE(value, at * 4);
  }
  entry.writeUInt32LE(0x02014b50, 0);
  entry.writeUInt16LE(8, 8);
  entry.writeUInt16LE(8, 10);
  descriptor.copy(entry, 16, 4);
  entry.writeUInt16LE(name.length, 28);
  end.writeUInt32LE(0x06054b50, 0);
  end.writeUInt16LE(1, 8);
  end.writeUInt16LE(1, 10);
  end.writeUInt32LE(entry.length + name.length, 12);
  end.writeUInt32LE(local.length + name.length + data.length + descriptor.length, 16);
  return Buffer.concat([local, name, data, descriptor, entry, name, end]);
}
