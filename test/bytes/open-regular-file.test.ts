import { execFile } from "node:child_process";
import { mkdir, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:net";
import { join } from "node:path";
import { promisify } from "node:util";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import {
  NotARegularFileError,
  openRegularFile,
  OutsideRootError,
  pathUnder,
} from "../../src/bytes/open-regular-file.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

let directory: string;
beforeEach(async () => {
  directory = makeTemporaryDirectory();
});

describe("openRegularFile()", () => {
  it("opens a regular file for reading only", async () => {
    const path = join(directory, "file");
    await writeFile(path, "bytes");

    await using handle = await openRegularFile(path);

    expect(await handle.readFile("utf8")).toBe("bytes");
    await expect(handle.write("x")).rejects.toHaveProperty("code", "EBADF");
  });

  it("refuses a symbolic link, also to a regular file", async () => {
    const path = join(directory, "link");
    await writeFile(join(directory, "file"), "");
    await symlink(join(directory, "file"), path);

    await expect(openRegularFile(path)).rejects.toThrow(
      new NotARegularFileError("symbolic link", path),
    );
  });

  it("refuses a directory", async () => {
    await expect(openRegularFile(directory)).rejects.toThrow(
      `Cannot open "${directory}": it is a directory, not a regular file`,
    );
  });

  it("refuses a FIFO, and does not wait for its writer", async () => {
    const path = join(directory, "fifo");
    await promisify(execFile)("mkfifo", [path]);

    await expect(openRegularFile(path)).rejects.toThrow(new NotARegularFileError("FIFO", path));
  });

  it("refuses a device", async () => {
    await expect(openRegularFile("/dev/null")).rejects.toThrow(
      new NotARegularFileError("character device", "/dev/null"),
    );
  });

  it("refuses a socket", async () => {
    const path = join(directory, "socket");
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(path, resolve));
    onTestFinished(() => {
      server.close();
    });

    await expect(openRegularFile(path)).rejects.toThrow(new NotARegularFileError("socket", path));
  });

  it("passes on the system's error when nothing is there", async () => {
    await expect(openRegularFile(join(directory, "nothing"))).rejects.toHaveProperty(
      "code",
      "ENOENT",
    );
  });
});

describe("pathUnder()", () => {
  let root: string;
  beforeEach(async () => {
    root = join(directory, "root");
    await mkdir(join(root, "inner"), { recursive: true });
    await mkdir(join(directory, "root-of-others"));
  });

  it("accepts a path below the root, whether it exists or not", async () => {
    expect(await pathUnder(root, join(root, "file"))).toBe(join(root, "file"));
    expect(await pathUnder(root, join(root, "inner", "file"))).toBe(join(root, "inner", "file"));
    expect(await pathUnder(root, "file")).toBe(join(root, "file"));
    expect(await pathUnder(root, join(root, "..file"))).toBe(join(root, "..file"));
  });

  it("returns the real path when the root is reached through a symbolic link", async () => {
    const alias = join(directory, "alias");
    await symlink(root, alias);

    expect(await pathUnder(alias, join(alias, "file"))).toBe(join(root, "file"));
    expect(await pathUnder(root, join(alias, "file"))).toBe(join(root, "file"));
  });

  it("follows a parent that is a symbolic link and stays inside", async () => {
    await symlink(join(root, "inner"), join(root, "same"));

    expect(await pathUnder(root, join(root, "same", "file"))).toBe(join(root, "inner", "file"));
  });

  it.each([
    ["the root itself", "."],
    ["the root's parent", ".."],
    ["a file beside the root", "../file"],
    ["a directory whose name starts like the root's", "../root-of-others/file"],
    ["a way out and far away", "../../../../etc/passwd"],
    ["a way out through a directory inside", "inner/../../file"],
    ["a directory elsewhere that does not exist", "../missing/file"],
  ])("refuses %s", async (_, path) => {
    await expect(pathUnder(root, join(root, path))).rejects.toBeInstanceOf(OutsideRootError);
  });

  it("refuses a parent that is a symbolic link out of the root, naming path and root", async () => {
    const path = join(root, "exit", "file");
    await symlink(directory, join(root, "exit"));

    await expect(pathUnder(root, path)).rejects.toThrow(
      `Cannot use "${path}": it does not lie below "${root}"`,
    );
  });

  it("passes on the system's error when a parent inside the root is missing", async () => {
    await expect(pathUnder(root, "missing/file")).rejects.toHaveProperty("code", "ENOENT");
  });
});
