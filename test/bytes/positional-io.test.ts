import { open, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readFully, writeFully } from "../../src/bytes/positional-io.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

describe("readFully()", () => {
  it("reads on when the file system returns fewer bytes than requested", async () => {
    const bytes = Buffer.from("0123456789");
    const threeAtATime = {
      read: async (buffer: Buffer, offset: number, length: number, position: number) => ({
        bytesRead: bytes.copy(buffer, offset, position, position + Math.min(3, length)),
      }),
    };
    const buffer = Buffer.alloc(8);

    expect(await readFully(threeAtATime, buffer, 1)).toBe(8);
    expect(buffer.toString()).toBe("12345678");
  });

  it("stops at the end of the file", async () => {
    const path = join(makeTemporaryDirectory(), "five");
    await writeFile(path, "12345");
    await using handle = await open(path);
    const buffer = Buffer.alloc(8);

    expect(await readFully(handle, buffer, 2)).toBe(3);
    expect(buffer.toString("latin1", 0, 3)).toBe("345");
  });
});

describe("writeFully()", () => {
  it("writes on when the file system writes only some of the bytes", async () => {
    const path = join(makeTemporaryDirectory(), "written");
    await using handle = await open(path, "w+");
    const threeAtATime = {
      write: (buffer: Buffer, offset: number, length: number, position: number) =>
        handle.write(buffer, offset, Math.min(3, length), position),
    };

    await writeFully(threeAtATime, Buffer.from("0123456789"), 2);

    expect(await readFile(path, "latin1")).toBe("\0\x000123456789");
  });

  it("fails, and does not hang, when the file system writes no byte", async () => {
    const full = { write: async () => ({ bytesWritten: 0 }) };

    await expect(writeFully(full, Buffer.from("x"), 7)).rejects.toThrow(
      "Cannot write at byte 7: the file system wrote no byte",
    );
  });
});
