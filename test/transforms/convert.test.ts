import { execFile } from "node:child_process";
import { randomBytes } from "node:crypto";
import {
  chmodSync,
  readdirSync,
  readFileSync,
  statSync,
  truncateSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { describe, expect, it, vi } from "vitest";
import type { ConvertSettings } from "../../src/domain/transform-settings.ts";
import { convert } from "../../src/transforms/convert.ts";
import { DoubtfulFailure } from "../../src/transforms/program-failure.ts";
import { inspectDisk } from "../../src/transforms/qemu-img.ts";
import { ChildProgram, runProgram } from "../support/child-program.ts";
import { makeRawDisk, writeRandomFile } from "../support/disk-images.ts";
import { failureOf } from "../support/failure-of.ts";
import { MIB } from "../support/mib.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { workOn } from "../support/transform-work.ts";
import { MAY_MOUNT, mountReadOnlyVolume, mountSmallVolume } from "../support/volume.ts";
import { PATIENCE } from "../support/patience.ts";

const QEMU_IMG = process.env["QEMU_IMG"] ?? "qemu-img";
const WHY_NOT = await convert({ target: "raw", qemuImg: QEMU_IMG }).check?.();

const TARGETS = ["raw", "qcow2", "vmdk"] as const;
const SOURCES = { raw: "raw", qcow2: "qcow2", vmdk: "vmdk", vdi: "vdi", vhdx: "vhdx", vhd: "vpc" };
const PAIRS = Object.entries(SOURCES).flatMap(([format, driver]) =>
  TARGETS.filter((target) => target !== format).map((target) => [format, driver, target] as const),
);

function transformTo(target: ConvertSettings["target"], settings: Partial<ConvertSettings> = {}) {
  return convert({ target, qemuImg: QEMU_IMG, ...settings });
}

async function qemuImg(...args: readonly string[]): Promise<string> {
  return (await promisify(execFile)(QEMU_IMG, args)).stdout;
}

/** The disk of a raw file in another format. */
async function inFormat(
  raw: string,
  driver: string,
  options: readonly string[] = [],
): Promise<string> {
  const path = `${raw}.${driver}`;
  const settings = options.flatMap((option) => ["-o", option]);
  await qemuImg("convert", "-f", "raw", "-O", driver, ...settings, raw, path);
  return path;
}

/** A program of a few lines that fails in the ways of qemu-img. */
function failingQemuImg(lines: string): string {
  const path = join(makeTemporaryDirectory(), "qemu-img");
  writeFileSync(path, `#!/bin/sh\n[ "$1" = convert ] || exec ${QEMU_IMG} "$@"\n${lines}\n`);
  chmodSync(path, 0o755);
  return path;
}

/** The arguments of the program that converts in a process of its own. */
function conversion(sourcePath: string, productPath: string, uid?: number): readonly string[] {
  return [JSON.stringify({ sourcePath, productPath, qemuImg: QEMU_IMG, uid })];
}

/** The processes that have a file open, by their names. */
function usersOf(path: string): readonly { readonly pid: number; readonly name: string }[] {
  const { ino } = statSync(path);
  const pids = readdirSync("/proc").filter((name) => /^\d+$/.test(name));
  return pids.flatMap((pid) => {
    try {
      const fds = readdirSync(`/proc/${pid}/fd`);
      const hasIt = fds.some((fd) => statSync(`/proc/${pid}/fd/${fd}`).ino === ino);
      const name = readFileSync(`/proc/${pid}/comm`, "utf8").trim();
      return hasIt ? [{ pid: Number(pid), name }] : [];
    } catch {
      return [];
    }
  });
}

describe.skipIf(WHY_NOT !== undefined)(
  `convert()${WHY_NOT === undefined ? "" : `, skipped: ${WHY_NOT}`}`,
  () => {
    it.each(PAIRS)("converts %s (%s) to %s, bit by bit", async (format, driver, target) => {
      const raw = await makeRawDisk(makeTemporaryDirectory());
      const source = format === "raw" ? raw : await inFormat(raw, driver);
      const work = await workOn(source, format);

      const result = await transformTo(target).run(work);

      const tool = expect.stringMatching(/^qemu-img version \d/) as string;
      expect(result).toEqual({ hasProduct: true, diskFormat: target, tool });
      const compared = qemuImg("compare", "-f", driver, "-F", target, source, work.productPath);
      expect(await compared).toContain("Images are identical");
      const back = `${raw}.back`;
      await qemuImg("convert", "-f", target, "-O", "raw", work.productPath, back);
      const bytes = readFileSync(back);
      // vpc rounds a disk up to its geometry, with zeros.
      expect(bytes.subarray(0, 16 * MIB).equals(readFileSync(raw))).toBe(true);
      expect(bytes.subarray(16 * MIB).every((byte) => byte === 0)).toBe(true);
      expect(work.left()).toEqual(["product"]);
    });

    it.each([
      ["qcow2", ["compat=0.10"]],
      ["qcow2", ["cluster_size=2M"]],
      ["qcow2", ["extended_l2=on"]],
      ["qcow2", ["lazy_refcounts=on"]],
      ["vmdk", ["subformat=streamOptimized"]],
      ["vpc", ["subformat=fixed"]],
      ["vhdx", ["subformat=fixed"]],
      ["vdi", ["static=on"]],
    ])("reads the variant %s with %s", async (driver, options) => {
      const raw = await makeRawDisk(makeTemporaryDirectory());
      const source = await inFormat(raw, driver, options);
      const work = await workOn(source, driver === "vpc" ? "vhd" : driver);

      await transformTo("raw").run(work);

      const bytes = readFileSync(work.productPath);
      expect(bytes.subarray(0, 16 * MIB).equals(readFileSync(raw))).toBe(true);
    });

    it.each([1, 511, 512, 513, MIB + 7])("converts a raw disk of %d bytes", async (sizeBytes) => {
      const raw = join(makeTemporaryDirectory(), "disk.raw");
      writeFileSync(raw, randomBytes(sizeBytes));
      for (const target of ["qcow2", "vmdk"] as const) {
        const work = await workOn(raw);
        await transformTo(target).run(work);
        const info = JSON.parse(
          await qemuImg("info", "-f", target, "--output=json", work.productPath),
        ) as { readonly "virtual-size": number };
        expect(info["virtual-size"]).toBe(Math.ceil(sizeBytes / 512) * 512);
      }
    });

    it("writes the configured type of VMDK", async () => {
      const work = await workOn(await makeRawDisk(makeTemporaryDirectory()));

      await transformTo("vmdk", { vmdkType: "streamOptimized" }).run(work);

      expect(readFileSync(work.productPath).subarray(0, 2048).toString("latin1")).toContain(
        'createType="streamOptimized"',
      );
    });

    it("keeps the holes of a disk", async () => {
      const raw = join(makeTemporaryDirectory(), "disk.raw");
      writeFileSync(raw, randomBytes(MIB));
      truncateSync(raw, 1024 * MIB);
      const work = await workOn(await inFormat(raw, "qcow2"), "qcow2");

      await transformTo("raw").run(work);

      const { size, blocks } = statSync(work.productPath);
      expect(size).toBe(1024 * MIB);
      expect(blocks * 512).toBeLessThan(4 * MIB);
    });

    it("reports its progress", async () => {
      const work = await workOn(await makeRawDisk(makeTemporaryDirectory(), 64 * MIB));

      await transformTo("qcow2").run(work);

      expect(work.reports.at(-1)).toEqual([64 * MIB, 64 * MIB]);
    });

    it.each([
      ["raw", "raw"],
      ["gpt", "raw"],
      ["qcow2", "qcow2"],
      ["vmdk", "vmdk"],
      ["iso", "raw"],
      ["ami", "qcow2"],
      ["aki", "qcow2"],
      ["ploop", "vmdk"],
    ] as const)("does nothing for %s when the target is %s", async (format, target) => {
      const work = await workOn(await makeRawDisk(makeTemporaryDirectory()), format);

      expect(await transformTo(target).run(work)).toBeUndefined();
      expect(work.left()).toEqual([]);
    });

    describe("a hostile image that was not judged", () => {
      it.each([
        ["a backing file", ["-b", "SECRET", "-F", "raw"], "backing file"],
        ["a data file", ["-o", "data_file=SECRET,data_file_raw=on"], "data file"],
      ] as const)("is refused when it is a qcow2 with %s", async (_, options, message) => {
        const directory = makeTemporaryDirectory();
        const secret = join(directory, "secret");
        writeFileSync(secret, Buffer.alloc(MIB, "secret "));
        const source = join(directory, "hostile.qcow2");
        const settings = options.map((option) => option.replace("SECRET", secret));
        await qemuImg("create", "-q", "-f", "qcow2", ...settings, source, "1M");
        const work = await workOn(source, "qcow2");

        const failure = await failureOf(transformTo("raw").run(work));

        expect(failure).toMatchObject({ code: "ConversionFailed" });
        expect(failure.message).toContain(message);
        expect(work.left()).toEqual([]);
      });

      it.each([
        ["a protocol", 'json:{"driver":"nbd","host":"127.0.0.1","port":"9"}'],
        ["a missing file", "/nowhere/base.raw"],
      ])("is refused when its backing file is %s", async (_, backing) => {
        const source = join(makeTemporaryDirectory(), "hostile.qcow2");
        await qemuImg(
          "create",
          "-q",
          "-f",
          "qcow2",
          "-u",
          "-b",
          backing,
          "-F",
          "raw",
          source,
          "1M",
        );
        const work = await workOn(source, "qcow2");

        expect(await failureOf(transformTo("raw").run(work))).toMatchObject({
          code: "ConversionFailed",
        });
        expect(work.left()).toEqual([]);
      });

      it("is refused when it is a VMDK whose data is in other files", async () => {
        const directory = makeTemporaryDirectory();
        writeFileSync(join(directory, "secret"), Buffer.alloc(MIB, "secret "));
        const source = join(directory, "flat.vmdk");
        await qemuImg("create", "-q", "-f", "vmdk", "-o", "subformat=monolithicFlat", source, "1M");
        const hostile = readFileSync(source, "latin1").replace(/"[^"]*-flat.vmdk"/, '"secret"');
        writeFileSync(source, hostile);
        const work = await workOn(source, "vmdk");

        expect(await failureOf(transformTo("raw").run(work))).toMatchObject({
          code: "ConversionFailed",
        });
        expect(work.left()).toEqual([]);
      });

      it("is refused when it is a VMDK of a type that is not allowed", async () => {
        const raw = await makeRawDisk(makeTemporaryDirectory());
        const work = await workOn(await inFormat(raw, "vmdk"), "vmdk");
        const transform = transformTo("raw", { vmdkAllowedTypes: ["streamOptimized"] });

        const failure = await failureOf(transform.run(work));

        expect(failure.code).toBe("ConversionFailed");
        expect(failure.message).toContain(
          'of type "monolithicSparse", which is not allowed (allowed: streamOptimized)',
        );
      });

      it.each([
        ["luks", "raw"],
        ["raw", "qcow2"],
      ] as const)("is refused when it is LUKS and declared %s", async (format, target) => {
        const source = join(makeTemporaryDirectory(), "disk.luks");
        // Only the mark and the version: creating a real one takes seconds.
        writeFileSync(
          source,
          Buffer.concat([Buffer.from("LUKS\xba\xbe\0\x01", "latin1"), randomBytes(MIB)]),
        );
        const work = await workOn(source, format);

        expect((await failureOf(transformTo(target).run(work))).message).toContain("LUKS");
        expect(work.left()).toEqual([]);
      });

      it("is refused when it is an encrypted qcow2", async () => {
        const source = join(makeTemporaryDirectory(), "disk.qcow2");
        await qemuImg(
          ...["create", "-q", "--object", "secret,id=key,data=open", "-f", "qcow2"],
          ...["-o", "encrypt.format=aes,encrypt.key-secret=key", source, "1M"],
        );
        const work = await workOn(source, "qcow2");

        const failure = await failureOf(transformTo("raw").run(work));

        expect(failure.code).toBe("ConversionFailed");
        expect(failure.message).toContain("it is encrypted");
        expect(work.left()).toEqual([]);
      });

      it.each(["qcow2", "vmdk", "vdi", "vhdx", "vhd"])(
        "is refused when it is declared %s and has random bytes",
        async (format) => {
          const work = await workOn(await makeRawDisk(makeTemporaryDirectory()), format);

          expect(await failureOf(transformTo("raw").run(work))).toMatchObject({
            code: "ConversionFailed",
          });
          expect(work.left()).toEqual([]);
        },
      );

      it("is read as raw bytes when it is declared raw, and never probed", async () => {
        const directory = makeTemporaryDirectory();
        const secret = join(directory, "secret");
        writeFileSync(secret, Buffer.alloc(MIB, "secret "));
        const source = join(directory, "hostile.raw");
        await qemuImg("create", "-q", "-f", "qcow2", "-b", secret, "-F", "raw", source);
        const work = await workOn(source, "raw");

        await transformTo("qcow2").run(work);

        const back = join(directory, "back");
        await qemuImg("convert", "-f", "qcow2", "-O", "raw", work.productPath, back);
        expect(readFileSync(back).subarray(0, statSync(source).size)).toEqual(readFileSync(source));
      });

      it.each([
        ["qcow2", "qcow2", []],
        ["vmdk", "vmdk", []],
        ["vmdk", "vmdk", ["subformat=streamOptimized"]],
        ["vhdx", "vhdx", []],
        ["vhd", "vpc", []],
      ] as const)(
        "is refused when it is a %s (%s %j) that is cut off",
        async (format, driver, options) => {
          const raw = await makeRawDisk(makeTemporaryDirectory());
          const source = await inFormat(raw, driver, options);
          truncateSync(source, 9 * MIB);
          const work = await workOn(source, format);

          expect(await failureOf(transformTo("raw").run(work))).toMatchObject({
            code: "ConversionFailed",
          });
          expect(work.left()).toEqual([]);
        },
      );
    });

    it("accepts a qcow2 that only wastes space", async () => {
      const source = await inFormat(await makeRawDisk(makeTemporaryDirectory()), "qcow2");
      // A cluster without a reference whose reference count, at the end of the table's block, is 1.
      const bytes = readFileSync(source);
      const tableAt = Number(bytes.readBigUInt64BE(48));
      const countsAt = Number(bytes.readBigUInt64BE(tableAt));
      bytes.writeUInt16BE(1, countsAt + 2 * (bytes.length / 65_536 + 3));
      writeFileSync(source, Buffer.concat([bytes, Buffer.alloc(4 * 65_536)]));
      await expect(qemuImg("check", "-f", "qcow2", source)).rejects.toMatchObject({ code: 3 });
      const work = await workOn(source, "qcow2");

      expect(await transformTo("raw").run(work)).toMatchObject({ hasProduct: true });
    });

    it("reads and writes the open files, even if their names lead to others", async () => {
      const raw = await makeRawDisk(makeTemporaryDirectory());
      const work = await workOn(raw);
      const wanted = readFileSync(raw);
      const other = `${raw}.other`;
      writeFileSync(other, Buffer.alloc(MIB));
      await promisify(execFile)("mv", [other, raw]);

      await transformTo("qcow2").run(work);

      const back = `${raw}.back`;
      await qemuImg("convert", "-f", "qcow2", "-O", "raw", work.productPath, back);
      expect(readFileSync(back).equals(wanted)).toBe(true);
    });

    it.each(TARGETS.filter((target) => target !== "raw"))(
      "fails when the product %s becomes larger than its limit",
      async (target) => {
        const raw = join(makeTemporaryDirectory(), "disk.raw");
        await writeRandomFile(raw, 8 * MIB);
        const work = await workOn(raw, "raw", { maxProductBytes: 4 * MIB });

        expect(await failureOf(transformTo(target).run(work))).toMatchObject({
          code: "ProductTooLarge",
        });
        expect(work.left()).toEqual([]);
      },
    );

    it("fails before it begins when the disk is larger than the limit of a raw product", async () => {
      const source = join(makeTemporaryDirectory(), "huge.qcow2");
      await qemuImg("create", "-q", "-f", "qcow2", source, "100T");
      const work = await workOn(source, "qcow2");

      const failure = await failureOf(transformTo("raw").run(work));

      expect(failure.code).toBe("ProductTooLarge");
      expect(failure.message).toContain(
        "its disk has 100 TiB, more than the 1 TiB that the product may have",
      );
      expect(work.left()).toEqual([]);
    });

    it("fails when it takes too much memory", async () => {
      const raw = await makeRawDisk(makeTemporaryDirectory());
      const work = await workOn(raw);
      const transform = transformTo("qcow2", { memoryBytes: 32 * MIB });

      expect(await failureOf(transform.run(work))).toMatchObject({ code: "ConversionFailed" });
      expect(work.left()).toEqual([]);
    });

    it.each([
      ["hangs", "sleep 600 & sleep 600", "took longer than 1.0 s"],
      ["is killed", "kill -SEGV $$", "was killed by SIGSEGV"],
      ["complains and succeeds", "echo careful >&2", "exited with code 0: careful"],
      ["fails", "echo broken >&2; exit 1", "exited with code 1: broken"],
      ["complains without end", "yes careful >&2", "took longer than 1.0 s"],
      ["has endless output", "yes careful", "took longer than 1.0 s"],
      ["writes nothing", "exit 0", "Cannot convert the image: "],
    ])("fails when qemu-img %s, and leaves no file", async (_, lines, message) => {
      const work = await workOn(await makeRawDisk(makeTemporaryDirectory()));
      const transform = transformTo("qcow2", {
        qemuImg: failingQemuImg(lines),
        timeLimitMs: message === "took longer than 1.0 s" ? 1000 : 60_000,
      });

      const failure = await failureOf(transform.run(work));

      expect(failure.code).toBe("ConversionFailed");
      expect(failure.message).toContain(message);
      expect(work.left()).toEqual([]);
    });

    it.each([
      ["is ended by a stop of its service", "kill -TERM $$", /convert was killed by SIGTERM/],
      ["is killed", "kill -KILL $$", /convert was killed by SIGKILL/],
      ["loses its mount", "echo 'qemu-img: Stale file handle' >&2; exit 1", /Stale file handle/],
      ["cannot read", "echo 'qemu-img: Input/output error' >&2; exit 1", /Input\/output error/],
    ])("is to be tried again when qemu-img %s", async (_, lines, message) => {
      const work = await workOn(await makeRawDisk(makeTemporaryDirectory()));
      const transform = transformTo("qcow2", { qemuImg: failingQemuImg(lines) });

      const failure = await failureOf(transform.run(work));

      expect(failure.code).toBe("TransformUnavailable");
      expect(failure.message).toMatch(message);
      expect(work.left()).toEqual([]);
    });

    it.each([
      ["is killed", "kill -KILL $$", /memory ran out/],
      ["cannot read", "echo 'qemu-img: Input/output error' >&2; exit 1", /Convert the image/],
    ])("blames the image when qemu-img %s in each attempt", async (_, lines, hint) => {
      const work = await workOn(await makeRawDisk(makeTemporaryDirectory()));

      const failure = await failureOf(
        transformTo("qcow2", { qemuImg: failingQemuImg(lines) }).run(work),
      );

      expect(failure).toBeInstanceOf(DoubtfulFailure);
      const { message } = failure;
      const lasting = {
        code: "ConversionFailed",
        message,
        hint: expect.stringMatching(hint) as string,
      };
      expect(failure).toMatchObject({ lasting });
    });

    it("is to be tried again when qemu-img hangs while it reads a header", async () => {
      const { source: handle, signal } = await workOn(await makeRawDisk(makeTemporaryDirectory()));
      const hanging = join(makeTemporaryDirectory(), "qemu-img");
      writeFileSync(hanging, "#!/bin/sh\nexec sleep 600\n", { mode: 0o755 });

      const failure = await failureOf(inspectDisk(hanging, { handle, driver: "raw" }, signal, 100));

      expect(failure.code).toBe("TransformUnavailable");
      expect(failure.message).toContain("qemu-img info did not end within 100 ms");
    });

    it("kills qemu-img, and its children, when it is cancelled", async () => {
      const cancellation = new AbortController();
      const reason = new Error("cancelled");
      const raw = await makeRawDisk(makeTemporaryDirectory());
      const work = await workOn(raw, "raw", { signal: cancellation.signal });
      const transform = transformTo("qcow2", { qemuImg: failingQemuImg("sleep 600 & sleep 600") });
      const running = transform.run(work);
      running.catch(() => undefined);
      const others = () => usersOf(raw).filter(({ pid }) => pid !== process.pid);
      await vi.waitUntil(
        () => others().filter(({ name }) => name === "sleep").length === 2,
        PATIENCE,
      );

      cancellation.abort(reason);

      await expect(running).rejects.toBe(reason);
      await vi.waitUntil(() => others().length === 0, PATIENCE);
      expect(work.left()).toEqual([]);
    });

    it("stops the real qemu-img in the middle when it is cancelled", async () => {
      const cancellation = new AbortController();
      const reason = new Error("cancelled");
      const raw = join(makeTemporaryDirectory(), "disk.raw");
      await writeRandomFile(raw, 64 * MIB);
      const work = await workOn(raw, "raw", {
        signal: cancellation.signal,
        report: (doneBytes) => {
          if (doneBytes > 0) cancellation.abort(reason);
        },
      });

      const running = transformTo("vmdk", { vmdkType: "streamOptimized" }).run(work);

      await expect(running).rejects.toBe(reason);
      expect(work.left()).toEqual([]);
      expect(usersOf(raw).map(({ pid }) => pid)).toEqual([process.pid]);
    });

    it("does not outlive a worker that is killed", async () => {
      const directory = makeTemporaryDirectory();
      const raw = join(directory, "disk.raw");
      await writeRandomFile(raw, 256 * MIB);
      const worker = ChildProgram.start("convert-image.mjs", {
        arguments: conversion(raw, join(directory, "product")),
      });
      // `qemu-img info` reads the disk before there is a product.
      const product = () => statSync(join(directory, "product"), { throwIfNoEntry: false });
      const isConverting = (): boolean =>
        usersOf(raw).some(({ name }) => name === "qemu-img") && (product()?.size ?? 0) > MIB;
      await vi.waitUntil(isConverting, PATIENCE);

      await worker.kill();

      await vi.waitUntil(() => usersOf(raw).length === 0, PATIENCE);
    });

    it.skipIf(process.getuid?.() !== 0)("works for an ordinary user", async () => {
      const directory = makeTemporaryDirectory();
      const raw = await makeRawDisk(directory);
      chmodSync(raw, 0o444);
      chmodSync(directory, 0o777);

      const { exitCode, stderr } = await runProgram("convert-image.mjs", {
        arguments: conversion(raw, join(directory, "product"), 65_534),
      });

      expect([exitCode, stderr]).toEqual([0, ""]);
      expect(readFileSync(join(directory, "product")).subarray(0, 4).toString()).toBe("KDMV");
    });

    it.skipIf(!MAY_MOUNT)("ends cleanly when the disk is full", async () => {
      const volume = await mountSmallVolume(2);
      const raw = await makeRawDisk(makeTemporaryDirectory());
      const work = await workOn(raw, "raw", { productPath: join(volume, "product") });

      expect(await failureOf(transformTo("qcow2").run(work))).toMatchObject({ code: "NoSpace" });
      expect(readdirSync(volume)).toEqual([]);
    });

    it.skipIf(!MAY_MOUNT)("ends cleanly when the disk is read-only", async () => {
      const volume = await mountReadOnlyVolume();
      const raw = await makeRawDisk(makeTemporaryDirectory());
      const work = await workOn(raw, "raw", { productPath: join(volume, "product") });

      expect(await failureOf(transformTo("qcow2").run(work))).toMatchObject({
        code: "PermissionDenied",
      });
    });

    it("reports at the start that qemu-img is missing", async () => {
      expect(await transformTo("raw", { qemuImg: "no-such-qemu-img" }).check?.()).toMatch(
        /^"no-such-qemu-img" does not run \(.*\); the Debian package qemu-utils contains it$/,
      );
    });
  },
);
