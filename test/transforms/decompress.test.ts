import { randomBytes } from "node:crypto";
import { chmodSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { open } from "node:fs/promises";
import { basename, join } from "node:path";
import { describe, expect, it } from "vitest";
import { decompress } from "../../src/transforms/decompress.ts";
import {
  compress,
  DECOMPRESSORS,
  MISSING_COMPRESSOR,
  zipFiles,
} from "../support/compressed-files.ts";
import { makeRawDisk } from "../support/disk-images.ts";
import { failureOf } from "../support/failure-of.ts";
import { MIB } from "../support/mib.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { workOn } from "../support/transform-work.ts";
import { MAY_MOUNT, mountReadOnlyVolume, mountSmallVolume } from "../support/volume.ts";

const GiB = 1024 * MIB;
const TOOLS = ["gzip", "zstd", "xz", "zip"] as const;
const transform = decompress(DECOMPRESSORS);

/** A file of some bytes in a directory of its own. */
function fileOf(bytes: Buffer | string, name = "disk.raw"): string {
  const path = join(makeTemporaryDirectory(), name);
  writeFileSync(path, bytes);
  return path;
}

/** A file with the changed bytes of another. */
function changed(path: string, change: (bytes: Buffer) => Buffer): string {
  const other = `${path}.changed`;
  writeFileSync(other, change(readFileSync(path)));
  return other;
}

/**
 * Compressed zeros. The tool compresses a small part of them, which is then repeated.
 */
async function bomb(
  tool: "gzip" | "zstd" | "xz",
  partBytes: number,
  sizeBytes: number,
): Promise<string> {
  const directory = makeTemporaryDirectory();
  const zeros = join(directory, "zeros");
  const handle = await open(zeros, "wx");
  await handle.truncate(partBytes);
  await handle.close();
  const part = readFileSync(await compress(tool, zeros, ["-1"]));
  const path = join(directory, "bomb");
  const target = await open(path, "wx");
  for (let made = 0; made < sizeBytes; made += partBytes) await target.write(part);
  await target.close();
  return path;
}

/** The beginning of the names under which the programs report themselves, with their versions. */
const VERSIONS = {
  gzip: /^zlib \d/,
  zip: /^zlib \d/,
  zstd: /^Zstandard CLI .* v\d/,
  xz: /^xz \(XZ Utils\) \d/,
};

describe.skipIf(MISSING_COMPRESSOR !== undefined)(
  `decompress()${MISSING_COMPRESSOR === undefined ? "" : `, skipped without ${MISSING_COMPRESSOR}`}`,
  () => {
    it.each(TOOLS)(
      "makes a sparse, synced product of the bytes that %s compressed",
      async (tool) => {
        const disk = await makeRawDisk(makeTemporaryDirectory());
        const work = await workOn(await compress(tool, disk));

        expect(await transform.run(work)).toEqual({
          hasProduct: true,
          tool: expect.stringMatching(VERSIONS[tool]) as string,
        });
        expect(readFileSync(work.productPath).equals(readFileSync(disk))).toBe(true);
        // Every fourth MiB is a hole.
        expect(statSync(work.productPath).blocks * 512).toBeLessThan(13 * MIB);
        expect(work.reports.at(-1)).toEqual([work.sizeBytes, work.sizeBytes]);
      },
    );

    it.each(TOOLS)("makes an empty product of an empty file that %s compressed", async (tool) => {
      const work = await workOn(await compress(tool, fileOf("")));

      expect(await transform.run(work)).toMatchObject({ hasProduct: true });
      expect(statSync(work.productPath).size).toBe(0);
    });

    it.each([
      ["gzip", "a stored name", ["--name"]],
      ["gzip", "the fastest level", ["-1"]],
      ["zstd", "no checksum", ["--no-check"]],
      ["zstd", "the largest window that is taken", ["--long=27"]],
      ["xz", "several blocks", ["--block-size=1MiB", "-T2"]],
      ["xz", "crc32", ["--check=crc32"]],
      ["xz", "the largest dictionary of its levels", ["-9"]],
      ["zip", "a stored member", undefined],
      ["zip", "a stored member that a descriptor follows", ["-0"]],
    ] as const)("accepts %s with %s", async (tool, _, options) => {
      const disk = fileOf(randomBytes(3 * MIB + 7));
      const file =
        options === undefined
          ? await zipFiles(join(disk, ".."), `${disk}.zip`, ["disk.raw"], ["-0"])
          : await compress(tool, disk, options);
      const work = await workOn(file);

      await transform.run(work);

      expect(readFileSync(work.productPath).equals(readFileSync(disk))).toBe(true);
    });

    it.each(["gzip", "zstd", "xz"] as const)(
      "makes one product of several members of %s",
      async (tool) => {
        const [one, other] = [fileOf(randomBytes(MIB + 1)), fileOf("the end")];
        const members = [await compress(tool, one), await compress(tool, other)];
        const work = await workOn(fileOf(Buffer.concat(members.map((each) => readFileSync(each)))));

        await transform.run(work);

        const whole = Buffer.concat([readFileSync(one), readFileSync(other)]);
        expect(readFileSync(work.productPath).equals(whole)).toBe(true);
      },
    );

    it("accepts a zip archive whose sizes are in zip64 fields", async () => {
      const disk = fileOf(randomBytes(MIB));
      const [piped, named] = [`${disk}.piped.zip`, `${disk}.named.zip`];
      await compress("zip", disk, ["--force-zip64"], piped);
      await zipFiles(join(disk, ".."), named, ["disk.raw"], ["--force-zip64"]);

      for (const archive of [piped, named]) {
        const work = await workOn(archive);
        await transform.run(work);
        expect(readFileSync(work.productPath).equals(readFileSync(disk))).toBe(true);
      }
    });

    it("ignores the name of a zip archive's member", async () => {
      const directory = makeTemporaryDirectory();
      mkdirSync(join(directory, "inner"));
      writeFileSync(join(directory, "other-image"), "safe");
      const archive = fileOf("", "archive.zip.new");
      const disk = join(directory, "../other-image-of-h");
      writeFileSync(join(directory, "inner", "x"), "hostile");
      // `zip` removes ".." from names, so that a name of equal length is replaced afterwards.
      await zipFiles(directory, `${archive}.zip`, ["inner/x"]);
      const hostile = changed(`${archive}.zip`, (bytes) =>
        Buffer.from(bytes.toString("latin1").replaceAll("inner/x", "../../x"), "latin1"),
      );
      const work = await workOn(hostile);

      await transform.run(work);

      expect(readFileSync(work.productPath, "utf8")).toBe("hostile");
      expect(work.left()).toEqual([basename(work.productPath)]);
      expect(() => statSync(disk)).toThrow("ENOENT");
    });

    it.each(["disk.raw.gz", "disk.zst", "disk.xz", "disk.zip"])(
      "does nothing for bytes that are not compressed, whatever their name is: %s",
      async (name) => {
        const work = await workOn(fileOf(randomBytes(1000).fill(7, 0, 8), name));

        expect(await transform.run(work)).toBeUndefined();
        expect(work.left()).toEqual([]);
      },
    );

    it.each([0, 1, 3])("does nothing for a file of %d bytes", async (sizeBytes) => {
      const work = await workOn(fileOf(Buffer.from("1f8b08", "hex").subarray(0, sizeBytes)));

      if (sizeBytes < 3) expect(await transform.run(work)).toBeUndefined();
      else
        expect(await failureOf(transform.run(work))).toMatchObject({ code: "DecompressionFailed" });
      expect(work.left()).toEqual([]);
    });

    it("leaves an image in a compressed container as it is", async () => {
      const file = await compress("gzip", fileOf("bytes"));
      const work = await workOn(file, "raw", { containerFormat: "compressed" });

      expect(await transform.run(work)).toBeUndefined();
      expect(work.left()).toEqual([]);
    });

    it("decompresses only one layer", async () => {
      const once = await compress("gzip", fileOf(randomBytes(1000)));
      const work = await workOn(await compress("xz", once));

      await transform.run(work);

      expect(readFileSync(work.productPath).equals(readFileSync(once))).toBe(true);
    });

    describe.each(TOOLS)("damaged %s", (tool) => {
      it.each([
        ["cut off in the middle", (bytes: Buffer) => bytes.subarray(0, bytes.length / 2)],
        ["cut off before its last byte", (bytes: Buffer) => bytes.subarray(0, -1)],
        ["cut off behind its mark", (bytes: Buffer) => bytes.subarray(0, 7)],
        ["followed by text", (bytes: Buffer) => Buffer.concat([bytes, Buffer.from("and more")])],
        ["followed by one byte", (bytes: Buffer) => Buffer.concat([bytes, Buffer.from("A")])],
        ["followed by a zero", (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(1)])],
        [
          "followed by a zero and text",
          (bytes: Buffer) => Buffer.concat([bytes, Buffer.from("\0hidden!")]),
        ],
        ["with one bit of its data flipped", (bytes: Buffer) => flipBit(bytes, bytes.length / 2)],
      ] as const)("fails permanently when it is %s, and leaves no file", async (_, change) => {
        const file = await compress(tool, fileOf(randomBytes(MIB + 5)));
        const work = await workOn(changed(file, change));

        const failure = await failureOf(transform.run(work));

        expect(failure).toMatchObject({ code: "DecompressionFailed" });
        expect(failure.message).toMatch(/^Cannot decompress the image: /);
        expect(work.left()).toEqual([]);
      });
    });

    it.each([
      ["gzip", -8],
      ["gzip", -4],
      ["zstd", -4],
      ["xz", -40],
    ] as const)("finds a wrong checksum of %s at byte %d", async (tool, at) => {
      const file = await compress(tool, fileOf(Buffer.alloc(1000, "text ")));
      const work = await workOn(changed(file, (bytes) => flipBit(bytes, bytes.length + at)));

      expect(await failureOf(transform.run(work))).toMatchObject({ code: "DecompressionFailed" });
      expect(work.left()).toEqual([]);
    });

    describe("a zip archive", () => {
      it.each([
        ["local header", [0], true],
        ["directory", [1], true],
        ["local header and directory, which agree", [0, 1], true],
        ["descriptor", [0], false],
      ] as const)("fails when the crc32 in its %s is wrong", async (_, which, isNamed) => {
        const disk = fileOf("text text text text");
        const archive = isNamed
          ? await zipFiles(join(disk, ".."), `${disk}.zip`, ["disk.raw"])
          : await compress("zip", disk);
        const mark = isNamed ? undefined : Buffer.from("PK\x07\x08", "latin1");
        const work = await workOn(
          changed(archive, (bytes) => {
            const places =
              mark === undefined
                ? [14, bytes.indexOf(Buffer.from("PK\x01\x02", "latin1")) + 16]
                : [bytes.indexOf(mark) + 4];
            return which.reduce((each, index) => flipBit(each, places[index] ?? 0), bytes);
          }),
        );

        const failure = await failureOf(transform.run(work));

        expect(failure).toMatchObject({ code: "DecompressionFailed" });
        expect(failure.message).toMatch(/crc32|checksum/);
        expect(work.left()).toEqual([]);
      });

      it.each([true, false])("fails when it has two members (streamed: %s)", async (isStreamed) => {
        const directory = makeTemporaryDirectory();
        for (const name of ["one", "two"]) writeFileSync(join(directory, name), `disk ${name}`);
        const options = isStreamed ? ["-fd"] : [];
        const archive = await zipFiles(
          directory,
          join(directory, "a.zip"),
          ["one", "two"],
          options,
        );
        const work = await workOn(archive);

        const failure = await failureOf(transform.run(work));

        expect(failure.code).toBe("DecompressionFailed");
        expect(failure.message).toContain("more than one member");
        expect(work.left()).toEqual([]);
      });

      it("fails when a second member is hidden from a directory of one", async () => {
        const directory = makeTemporaryDirectory();
        for (const name of ["one", "two"]) writeFileSync(join(directory, name), `disk ${name}`);
        const archives = await Promise.all(
          ["one", "two"].map((name) => zipFiles(directory, join(directory, `${name}.zip`), [name])),
        );
        const [one = Buffer.alloc(0), two = Buffer.alloc(0)] = archives.map((each) =>
          readFileSync(each),
        );
        const endOfMember = one.indexOf(Buffer.from("PK\x01\x02", "latin1"));
        const work = await workOn(fileOf(Buffer.concat([one.subarray(0, endOfMember), two])));

        expect((await failureOf(transform.run(work))).message).toContain("more than one member");
      });

      it("fails when it is encrypted", async () => {
        const disk = fileOf("secret");
        const options = ["--password", "open sesame"];
        const archive = await zipFiles(join(disk, ".."), `${disk}.zip`, ["disk.raw"], options);
        const work = await workOn(archive);

        expect((await failureOf(transform.run(work))).message).toContain("encrypted");
        expect(work.left()).toEqual([]);
      });

      it("fails when it begins with a directory", async () => {
        const directory = makeTemporaryDirectory();
        mkdirSync(join(directory, "inner"));
        const archive = await zipFiles(directory, join(directory, "a.zip"), ["inner"], ["-r"]);
        const work = await workOn(archive);

        expect((await failureOf(transform.run(work))).message).toContain("begins with a directory");
      });

      it("fails when it stores a member without its length", async () => {
        const archive = await compress("zip", fileOf(randomBytes(MIB)), ["-0"]);
        // The two sizes in the zip64 field, after a header of 30 bytes, the name "-" and the four
        // bytes of the field's own header.
        const work = await workOn(changed(archive, (bytes) => bytes.fill(0, 35, 51)));

        expect((await failureOf(transform.run(work))).message).toContain("wrong or missing");
      });

      it("fails when its member has an unknown compression", async () => {
        const archive = await compress("zip", fileOf("text"));
        const work = await workOn(
          changed(archive, (bytes) => {
            bytes.writeUInt16LE(12, 8);
            return bytes;
          }),
        );

        expect((await failureOf(transform.run(work))).message).toContain("method 12");
      });
    });

    describe("a bomb", () => {
      it.each([
        ["gzip", 10 * GiB],
        ["zstd", 100 * GiB],
        ["xz", 20 * GiB],
      ] as const)("of %s is found by its ratio, and leaves no file", async (tool, sizeBytes) => {
        const work = await workOn(await bomb(tool, GiB / 4, sizeBytes));
        expect(work.sizeBytes).toBeGreaterThan(2 * MIB);

        const failure = await failureOf(transform.run(work));

        expect(failure.code).toBe("ProductTooLarge");
        expect(failure.message).toContain("at most 64 times larger");
        expect(work.left()).toEqual([]);
      });

      it("of zip is found by its ratio, and leaves no file", async () => {
        const zeros = fileOf("");
        const handle = await open(zeros, "r+");
        await handle.truncate(GiB / 4);
        await handle.close();
        const work = await workOn(await compress("zip", zeros));

        expect(await failureOf(transform.run(work))).toMatchObject({ code: "ProductTooLarge" });
        expect(work.left()).toEqual([]);
      });

      it.each(TOOLS)(
        "of %s is found by the limit of the product, and leaves no file",
        async (tool) => {
          const disk = fileOf(randomBytes(3 * MIB));
          const file = await compress(tool, disk);
          const exact = await workOn(file, "raw", { maxProductBytes: 3 * MIB });
          const over = await workOn(file, "raw", { maxProductBytes: 3 * MIB - 1 });

          expect(await transform.run(exact)).toMatchObject({ hasProduct: true });
          expect(await failureOf(transform.run(over))).toMatchObject({ code: "ProductTooLarge" });
          expect(over.left()).toEqual([]);
        },
      );

      it("is defined by the settings", async () => {
        const zeros = fileOf(Buffer.alloc(2 * MIB));
        const file = await compress("gzip", zeros);
        const strict = decompress({ ...DECOMPRESSORS, ratioFreeBytes: MIB });
        const lenient = decompress({ ...DECOMPRESSORS, ratioFreeBytes: MIB, maxRatio: 2000 });

        expect(await failureOf(strict.run(await workOn(file)))).toMatchObject({
          code: "ProductTooLarge",
        });
        expect(await lenient.run(await workOn(file))).toMatchObject({ hasProduct: true });
      });
    });

    it.each([
      ["zstd", ["--long=28"], /too much memory/],
      ["xz", ["--lzma2=dict=512MiB"], /[Mm]emory usage limit/],
    ] as const)("refuses %s that needs too much memory", async (tool, options, message) => {
      // zstd uses no larger window than its input.
      const disk = fileOf("");
      const handle = await open(disk, "r+");
      await handle.truncate(256 * MIB);
      await handle.close();
      const work = await workOn(await compress(tool, disk, ["-1", ...options]));

      const failure = await failureOf(transform.run(work));

      expect(failure.code).toBe("DecompressionFailed");
      expect(failure.message).toMatch(message);
      expect(work.left()).toEqual([]);
    });

    it.each(["gzip", "xz", "zip"] as const)(
      "stops in the middle of %s when it is cancelled",
      async (tool) => {
        const cancellation = new AbortController();
        const file = await compress(tool, fileOf(randomBytes(16 * MIB)));
        const reason = new Error("cancelled");
        const work = await workOn(file, "raw", {
          signal: cancellation.signal,
          report: (doneBytes) => {
            if (doneBytes >= 4 * MIB) cancellation.abort(reason);
          },
        });

        await expect(transform.run(work)).rejects.toBe(reason);
        expect(work.left()).toEqual([]);
      },
    );

    it.each(TOOLS)("stops %s after its time limit", async (tool) => {
      const file = await compress(tool, fileOf(randomBytes(8 * MIB)));
      const work = await workOn(file);

      const failure = await failureOf(decompress({ ...DECOMPRESSORS, timeLimitMs: 1 }).run(work));

      expect(failure.code).toBe("DecompressionFailed");
      expect(failure.message).toContain("took longer than 1 ms");
      expect(work.left()).toEqual([]);
    });

    it.each([
      ["xz", "kill -TERM $$", "TransformUnavailable"],
      ["xz", "kill -KILL $$", "TransformUnavailable"],
      ["xz", "kill -SEGV $$", "DecompressionFailed"],
      ["zstd", "kill -TERM $$", "TransformUnavailable"],
      ["zstd", "kill -KILL $$", "TransformUnavailable"],
      ["zstd", "echo 'zstd: error 37 : Read error' >&2; exit 37", "StagingUnavailable"],
      ["zstd", "kill -SEGV $$", "DecompressionFailed"],
    ] as const)("distinguishes what ended %s: %s", async (tool, lines, code) => {
      const ended = fileOf(`#!/bin/sh\n${lines}\n`, `ended-${tool}`);
      chmodSync(ended, 0o755);
      const work = await workOn(await compress(tool, fileOf(randomBytes(MIB))));

      const failure = await failureOf(decompress({ ...DECOMPRESSORS, [tool]: ended }).run(work));

      expect(failure.code).toBe(code);
      expect(work.left()).toEqual([]);
    });

    it("stops zstd in the middle when it is cancelled", async () => {
      const slow = fileOf("#!/bin/sh\nhead -c 4194304\nsleep 600\n", "slow-zstd");
      chmodSync(slow, 0o755);
      const cancellation = new AbortController();
      const file = await compress("zstd", fileOf(randomBytes(16 * MIB)));
      const reason = new Error("cancelled");
      const work = await workOn(file, "raw", {
        signal: cancellation.signal,
        report: (doneBytes) => {
          if (doneBytes >= 4 * MIB) cancellation.abort(reason);
        },
      });

      const running = decompress({ ...DECOMPRESSORS, zstd: slow }).run(work);

      await expect(running).rejects.toBe(reason);
      expect(work.left()).toEqual([]);
    });

    it.each(["gzip", "zstd"] as const)("fails when the %s is shorter than it was", async (tool) => {
      const file = await compress(tool, fileOf(randomBytes(1000)));
      const work = await workOn(file);

      expect(
        await failureOf(transform.run({ ...work, sizeBytes: work.sizeBytes + 1 })),
      ).toMatchObject({ code: "StagedDataChanged" });
      expect(work.left()).toEqual([]);
    });

    it.skipIf(!MAY_MOUNT)("ends cleanly when the disk is full", async () => {
      const volume = await mountSmallVolume(2);
      const file = await compress("zstd", fileOf(randomBytes(5 * MIB)));
      const work = await workOn(file, "raw", { productPath: join(volume, "product") });

      expect(await failureOf(transform.run(work))).toMatchObject({ code: "NoSpace" });
      expect(() => statSync(work.productPath)).toThrow("ENOENT");
    });

    it.skipIf(!MAY_MOUNT)("ends cleanly when the disk is read-only", async () => {
      const volume = await mountReadOnlyVolume();
      const file = await compress("zstd", fileOf("text"));
      const work = await workOn(file, "raw", { productPath: join(volume, "product") });

      expect(await failureOf(transform.run(work))).toMatchObject({ code: "PermissionDenied" });
    });

    it("never writes into an existing file", async () => {
      const work = await workOn(await compress("gzip", fileOf("text")));
      writeFileSync(work.productPath, "another's");

      await expect(transform.run(work)).rejects.toThrow("EEXIST");
      expect(readFileSync(work.productPath, "utf8")).toBe("another's");
    });

    it("reports at the start if its programs are missing", async () => {
      expect(await transform.check?.()).toBeUndefined();
      expect(await decompress({ ...DECOMPRESSORS, xz: "no-such-xz" }).check?.()).toMatch(
        /^"no-such-xz" does not run \(.*No such file.*\); the Debian package xz-utils contains it$/,
      );
    });
  },
);

function flipBit(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  const index = Math.floor(at);
  copy.writeUInt8(copy.readUInt8(index) ^ 1, index);
  return copy;
}
