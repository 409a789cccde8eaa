import { open, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { describe, expect, it } from "vitest";
import { fileSource, streamSource, type ByteSource } from "../../src/staging/byte-source.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

describe("fileSource()", () => {
  it("reads a file from its current position to its end", async () => {
    const path = join(makeTemporaryDirectory(), "file");
    await writeFile(path, "0123456789");
    await using handle = await open(path);
    await handle.read(Buffer.alloc(3), 0, 3, null);

    expect(await readAll(fileSource(handle), 4)).toBe("3456789");
  });
});

describe("streamSource()", () => {
  it.each([
    ["buffers", [Buffer.from("01"), Buffer.from("23456789")]],
    ["plain bytes", [new Uint8Array([0x30, 0x31]), new Uint8Array([0x32])]],
    ["a view of some bytes", [new Uint8Array(Buffer.from("x0123x").subarray(1, 5))]],
    ["text", ["01", "2é"]],
    ["empty chunks", [Buffer.alloc(0), Buffer.from("0"), Buffer.alloc(0), Buffer.from("1")]],
    ["nothing", []],
  ])("reads a stream of %s to its end", async (_, chunks) => {
    const expected = Buffer.concat(chunks.map((chunk) => Buffer.from(chunk as Uint8Array)));

    expect(await readAll(streamSource(Readable.from(chunks)), 3)).toBe(expected.toString());
  });

  it("waits for bytes that are not there yet", async () => {
    const stream = new PassThrough();
    const source = streamSource(stream);

    const reading = readAll(source, 16);
    stream.write("0123");
    stream.end("4567");

    expect(await reading).toBe("01234567");
  });

  it("is ready when its first bytes are there, or its end", async () => {
    const stream = new PassThrough();
    const source = streamSource(stream);
    let isReady = false;
    const ready = source.ready?.().then(() => {
      isReady = true;
    });

    await new Promise(setImmediate);
    expect(isReady).toBe(false);
    stream.write("0123");
    await ready;
    expect(await source.read(Buffer.alloc(4))).toBe(4);

    stream.end();
    await source.ready?.();
    expect(await source.read(Buffer.alloc(4))).toBe(0);
  });

  it("takes no more than a little ahead of its reader, and everything in the end", async () => {
    const MIB = 1024 * 1024;
    let takenBytes = 0;
    const stream = Readable.from(
      (function* () {
        for (let i = 0; i < 160; i += 1) {
          takenBytes += MIB / 16;
          yield Buffer.alloc(MIB / 16, i);
        }
      })(),
      { objectMode: false, highWaterMark: MIB / 16 },
    );
    const source = streamSource(stream);
    const buffer = Buffer.alloc(MIB);
    let readBytes = 0;

    for (let length = await source.read(buffer); length > 0; length = await source.read(buffer)) {
      readBytes += length;
      await new Promise(setImmediate);
      expect(takenBytes - readBytes).toBeLessThanOrEqual(MIB + MIB / 2);
    }

    expect(readBytes).toBe(10 * MIB);
  });

  it("gives what came before the failure of the stream", async () => {
    const stream = new PassThrough();
    const source = streamSource(stream);
    const ready = source.ready?.();
    stream.write("0123");
    await ready;
    stream.destroy(new Error("The pipe broke"));
    await new Promise(setImmediate);

    expect(await source.read(Buffer.alloc(8))).toBe(4);
    await expect(source.read(Buffer.alloc(8))).rejects.toThrow("The pipe broke");
  });

  it("leaves the rest to the owner of the stream when it is closed", async () => {
    const stream = new PassThrough();
    const source = streamSource(stream);
    const ready = source.ready?.();
    stream.write("0123");
    await ready;

    source.close?.();
    stream.end("4567");

    expect(stream.isPaused()).toBe(true);
    expect((await stream.toArray()).join("")).toBe("4567");
  });

  it("passes on the failure of the stream", async () => {
    const stream = new PassThrough();
    const reason = new Error("The pipe broke");
    stream.destroy(reason);

    await expect(readAll(streamSource(stream), 4)).rejects.toBe(reason);
  });
});

/** All bytes of a source, read in buffers of some length. */
async function readAll(source: ByteSource, bufferBytes: number): Promise<string> {
  const pieces: Buffer[] = [];
  for (;;) {
    const buffer = Buffer.alloc(bufferBytes);
    const readBytes = await source.read(buffer);
    if (readBytes === 0) return Buffer.concat(pieces).toString();
    pieces.push(buffer.subarray(0, readBytes));
  }
}
