import { execFileSync } from "node:child_process";
import { chmod, mkdir, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it } from "vitest";
import { openUpload } from "../../src/client/open-upload.ts";
import { runProgram } from "../support/child-program.ts";
import { failureOf } from "../support/failure-of.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

let directory: string;
beforeEach(() => {
  directory = makeTemporaryDirectory();
});

describe("openUpload()", () => {
  it("opens a regular file for reading", async () => {
    const path = join(directory, "disk.raw");
    await writeFile(path, "bytes");

    await using handle = await openUpload(path);

    expect(await handle.readFile("utf8")).toBe("bytes");
  });

  it.each([
    ["there is nothing", "disk.raw"],
    ["a directory on the way is missing", "missing/disk.raw"],
    ["a directory on the way is a file", "file/disk.raw"],
  ])("finds no file when %s", async (_, name) => {
    await writeFile(join(directory, "file"), "");
    const path = join(directory, name);

    expect(await failureOf(openUpload(path))).toMatchObject({
      code: "FileNotFound",
      message: `There is no file "${path}"`,
    });
  });

  it("names the command that takes a URL when the path is a URL", async () => {
    expect(await failureOf(openUpload("https://example.org/disk.raw"))).toMatchObject({
      code: "FileNotFound",
      hint: expect.stringContaining("`image-import import URL` downloads an image") as unknown,
    });
  });

  it.each([
    ["directory", async (path: string) => mkdir(path)],
    ["FIFO", async (path: string) => execFileSync("mkfifo", [path])],
    ["symbolic link", async (path: string) => symlink("/etc/hostname", path)],
  ])("refuses a %s", async (kind, make) => {
    const path = join(directory, "disk.raw");
    await make(path);

    expect(await failureOf(openUpload(path))).toMatchObject({
      code: "UnusableFile",
      message: `Cannot open "${path}": it is a ${kind}, not a regular file`,
    });
  });

  it.each([
    ["a name", "x".repeat(300)],
    ["a path", "x/".repeat(3000)],
  ])("finds no file under %s that is too long", async (_, name) => {
    expect(await failureOf(openUpload(join(directory, name)))).toMatchObject({
      code: "FileNotFound",
      message: expect.stringMatching(/^Cannot open ".*": the path is too long/) as unknown,
    });
  });

  it("finds no file behind links that lead in a circle", async () => {
    await symlink("circle", join(directory, "circle"));

    expect(await failureOf(openUpload(join(directory, "circle", "disk.raw")))).toMatchObject({
      code: "FileNotFound",
      message: expect.stringContaining("too many symbolic links") as unknown,
    });
  });
});

describe("openUpload() as an ordinary user", () => {
  const isRoot = process.getuid?.() === 0;
  const needsRoot = isRoot ? "" : " (skipped: only root becomes another user)";

  it.skipIf(!isRoot)(`fails when it may not read the file${needsRoot}`, async () => {
    const path = join(directory, "disk.raw");
    await writeFile(path, "secret");
    await chmod(path, 0o600);
    await chmod(directory, 0o755);

    const { stdout } = await runProgram("open-upload-unprivileged.mjs", { arguments: [path] });

    expect(JSON.parse(stdout)).toEqual({
      code: "UnusableFile",
      message: `Cannot read "${path}": permission denied`,
    });
  });
});
