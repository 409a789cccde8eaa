import { execFileSync } from "node:child_process";
import { linkSync, mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { CommandLine } from "../../support/command-line.ts";
import {
  be,
  craftedQcow2,
  craftedSnapshot,
  craftedVmdk,
  patched,
} from "../../support/crafted-images.ts";
import { MIB } from "../../support/mib.ts";
import { makeTemporaryDirectory } from "../../support/temporary-directory.ts";

let directory: string;
let path: string;
// No stack lies there: nothing is asked of a server.
let commandLine: CommandLine;
beforeEach(() => {
  directory = makeTemporaryDirectory();
  path = join(directory, "image");
  commandLine = new CommandLine({ dataDir: join(directory, "nothing") });
});

describe("inspect", () => {
  it("returns the verdict with exit code 0 when there is no server and no configuration", async () => {
    writeFileSync(path, craftedVmdk());

    expect(await commandLine.json("inspect", path)).toEqual({
      exitCode: 0,
      answer: {
        format: "vmdk",
        virtual_size: 10 * MIB,
        size: 128 * 1024,
        safe: true,
        checks: {
          one_format: "pass",
          content: "pass",
          importable: "pass",
          disk_format: "pass",
          version: "pass",
          line_ends: "pass",
          descriptor: "pass",
          create_type: "pass",
          parent: "pass",
          other_files: "pass",
          extent: "pass",
          protocols: "pass",
          grain_tables: "pass",
          footer: "pass",
          complete: "pass",
          dirty: "pass",
          virtual_size: "pass",
          virtual_ratio: "pass",
        },
        tolerated: [],
      },
      failure: undefined,
    });
  });

  it("returns the reasons with exit code 1 when the image is unsafe", async () => {
    writeFileSync(path, patched(craftedQcow2(), [8, be(8, 4096)]));
    const reason = "it is a qcow2 overlay that refers to a backing file";

    expect(await commandLine.json("inspect", path)).toMatchObject({
      exitCode: 1,
      answer: {
        format: "qcow2",
        virtual_size: 5 * MIB,
        size: 256 * 1024,
        safe: false,
        checks: { backing_file: reason, data_file: "pass", corrupt: "pass" },
      },
      failure: {
        code: "UnsafeImage",
        message: `Cannot accept the image: ${reason}`,
        hint: expect.stringContaining("qemu-img convert") as string,
      },
    });
  });

  it("accepts an unusual image and reports what it tolerates, or names the setting that would", async () => {
    writeFileSync(path, craftedSnapshot());
    const config = join(directory, "image-import.yaml");
    writeFileSync(
      config,
      "stores: { local: { type: file, path: local } }\nformats: { allow_snapshots: false }",
    );

    expect(await commandLine.json("inspect", path)).toMatchObject({
      exitCode: 0,
      answer: { safe: true, tolerated: ["snapshots"] },
    });
    expect(await commandLine.json("inspect", path, "--config", config)).toMatchObject({
      exitCode: 1,
      answer: { safe: false, tolerated: [] },
      failure: {
        code: "UnsafeImage",
        message: expect.stringContaining("(`formats.allow_snapshots`)") as string,
        hint: expect.stringContaining("set `formats.allow_snapshots: true`") as string,
      },
    });
  });

  it("shows people a table", async () => {
    writeFileSync(path, Buffer.alloc(4096, 1));

    expect(await commandLine.run("inspect", path)).toEqual({
      exitCode: 0,
      stderr: "",
      stdout: [
        "format        raw",
        "virtual_size  4 KiB (4096 bytes)",
        "size          4 KiB (4096 bytes)",
        "safe          yes",
        "",
        "CHECK          RESULT",
        "one_format     pass",
        "content        pass",
        "importable     pass",
        "disk_format    pass",
        "mbr            pass",
        "complete       pass",
        "virtual_size   pass",
        "virtual_ratio  pass",
        "",
      ].join("\n"),
    });
  });

  it("judges by the policy of the configuration, where there is one", async () => {
    const config = join(directory, "image-import.yaml");
    writeFileSync(path, craftedQcow2());
    writeFileSync(
      config,
      "stores: { local: { type: file, path: local } }\nformats: { disk_formats: [raw] }",
    );

    expect(await commandLine.json("inspect", path, "--config", config)).toMatchObject({
      exitCode: 1,
      failure: { code: "FormatNotAllowed" },
    });
  });

  it("follows symbolic links, also to links", async () => {
    writeFileSync(join(directory, "disk"), craftedQcow2());
    symlinkSync("disk", join(directory, "link"));
    symlinkSync(join(directory, "link"), path);

    expect(await commandLine.json("inspect", path)).toMatchObject({
      exitCode: 0,
      answer: { format: "qcow2", size: 256 * 1024 },
    });
  });

  it("finds no file", async () => {
    expect(await commandLine.json("inspect", path)).toMatchObject({
      exitCode: 3,
      answer: undefined,
      failure: { code: "FileNotFound" },
    });
  });

  it("names the rule of a file whose name is not UTF-8, and a way out", async () => {
    const name = Buffer.concat([Buffer.from(`${path}-`), Buffer.of(0xe9, 0xff)]);
    writeFileSync(name, craftedQcow2());
    // The shell gives the bytes of the name on; Node can't.
    const byShell = new CommandLine({
      prefix: ["sh", "-c", 'exec "$@" "$(printf "%s-\\351\\377" "$IMAGE")"', "sh"],
      env: { IMAGE: path },
    });

    expect(await byShell.json("inspect")).toMatchObject({
      exitCode: 3,
      answer: undefined,
      failure: {
        code: "FileNotFound",
        message: expect.stringContaining("bytes that are not UTF-8") as string,
        hint: expect.stringContaining("`ln FILE NEW-NAME`") as string,
      },
    });
    linkSync(name, path);
    expect(await commandLine.json("inspect", path)).toMatchObject({ exitCode: 0 });
  });

  it.each([
    [
      "a directory",
      () => {
        mkdirSync(path);
      },
    ],
    ["a FIFO", () => execFileSync("mkfifo", [path])],
    ["a device", () => (path = "/dev/zero")],
  ])("refuses %s, and waits for nothing", async (_, make) => {
    make();

    expect(await commandLine.json("inspect", path)).toMatchObject({
      exitCode: 2,
      answer: undefined,
      failure: { code: "UnusableFile" },
    });
  });

  it("refuses a file that it may not guess", async () => {
    expect(await commandLine.json("inspect")).toMatchObject({
      exitCode: 2,
      failure: { code: "BadUsage" },
    });
  });
});
