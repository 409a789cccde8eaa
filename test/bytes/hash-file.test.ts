import { createHash, randomBytes } from "node:crypto";
import { open, writeFile } from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { describe, expect, it, onTestFinished } from "vitest";
import { BLOCK_BYTES } from "../../src/bytes/block-size.ts";
import { hashFile } from "../../src/bytes/hash-file.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

async function openFile(bytes: Buffer): Promise<FileHandle> {
  const path = join(makeTemporaryDirectory(), "file");
  await writeFile(path, bytes);
  const handle = await open(path);
  onTestFinished(() => handle.close());
  return handle;
}

describe("hashFile()", () => {
  it.each([0, 1, BLOCK_BYTES, BLOCK_BYTES + 1, 12 * BLOCK_BYTES - 7])(
    "computes all digests of a file of %i bytes",
    async (sizeBytes) => {
      const bytes = randomBytes(sizeBytes);

      const digests = await hashFile(await openFile(bytes), { sizeBytes, hashAlgo: "sha256" });

      expect(digests).toEqual({
        checksum: createHash("md5").update(bytes).digest("hex"),
        osHashAlgo: "sha256",
        osHashValue: createHash("sha256").update(bytes).digest("hex"),
        crc32: crc32(bytes),
        sizeBytes,
      });
    },
  );

  it("uses sha512 when no algorithm is named", async () => {
    const { osHashAlgo } = await hashFile(await openFile(Buffer.from("x")), { sizeBytes: 1 });

    expect(osHashAlgo).toBe("sha512");
  });

  it("reports its progress after every block", async () => {
    const sizeBytes = 2 * BLOCK_BYTES + 5;
    const progress: number[] = [];

    await hashFile(await openFile(Buffer.alloc(sizeBytes)), {
      sizeBytes,
      report: (doneBytes) => progress.push(doneBytes),
    });

    expect(progress).toEqual([BLOCK_BYTES, 2 * BLOCK_BYTES, sizeBytes]);
  });

  it("fails as changed data when the file is shorter than it must be", async () => {
    const hashing = hashFile(await openFile(Buffer.alloc(BLOCK_BYTES + 3)), {
      sizeBytes: 4 * BLOCK_BYTES,
    });

    await expect(hashing).rejects.toThrow(
      new ImportError(
        "StagedDataChanged",
        "Cannot read the staged data to its end: it has 1048579 of 4194304 bytes",
      ),
    );
  });

  it("stops within a block when it is aborted, with the signal's reason", async () => {
    const stop = new AbortController();
    const progress: number[] = [];

    const hashing = hashFile(await openFile(Buffer.alloc(4 * BLOCK_BYTES)), {
      sizeBytes: 4 * BLOCK_BYTES,
      signal: stop.signal,
      report: (doneBytes) => {
        progress.push(doneBytes);
        stop.abort(new Error("paused"));
      },
    });

    await expect(hashing).rejects.toThrow("paused");
    expect(progress).toEqual([BLOCK_BYTES]);
  });
});
