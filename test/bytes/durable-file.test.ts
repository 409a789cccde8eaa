import type * as fsPromises from "node:fs/promises";
import {
  link,
  lstat,
  mkdir,
  open,
  readdir,
  readFile,
  stat,
  symlink,
  type FileHandle,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it, vi } from "vitest";
import {
  createPrivateFile,
  publishNoReplace,
  removeDurably,
  syncDirectory,
  syncOrDiscard,
  writeUnlessThere,
} from "../../src/bytes/durable-file.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

// Every file system here has hard links, so the error of link(2) is made up. Everything else is
// real.
vi.mock("node:fs/promises", async (importOriginal) => {
  const actual = await importOriginal<typeof fsPromises>();
  return { ...actual, link: vi.fn(actual.link) };
});

function systemError(code: string): Error {
  return Object.assign(new Error(`${code}: made up`), { code });
}

let directory: string;
let privatePath: string;
let finalPath: string;
beforeEach(async () => {
  directory = makeTemporaryDirectory();
  privatePath = join(directory, "private");
  finalPath = join(directory, "final");
});

describe("syncDirectory()", () => {
  it("syncs a directory", async () => {
    await expect(syncDirectory(directory)).resolves.toBeUndefined();
  });

  it("refuses a file", async () => {
    await writeFile(finalPath, "");

    await expect(syncDirectory(finalPath)).rejects.toHaveProperty("code", "ENOTDIR");
  });
});

describe("createPrivateFile()", () => {
  it("creates a file with the mode asked for, to be written and read back", async () => {
    await using handle = await createPrivateFile(privatePath, 0o600);
    await handle.write("bytes");

    expect((await stat(privatePath)).mode & 0o777).toBe(0o600);
    expect((await handle.read(Buffer.alloc(5), 0, 5, 0)).bytesRead).toBe(5);
  });

  it("leaves a file alone that is there already", async () => {
    await writeFile(privatePath, "theirs");

    await expect(createPrivateFile(privatePath, 0o600)).rejects.toHaveProperty("code", "EEXIST");
    expect(await readFile(privatePath, "utf8")).toBe("theirs");
  });

  it("does not write through a dangling symbolic link", async () => {
    await symlink(finalPath, privatePath);

    await expect(createPrivateFile(privatePath, 0o600)).rejects.toHaveProperty("code", "EEXIST");
    expect(await readdir(directory)).toEqual(["private"]);
  });
});

describe("syncOrDiscard()", () => {
  it("keeps a file that was synced", async () => {
    await using handle = await open(privatePath, "w");

    await syncOrDiscard(handle, privatePath);

    expect(await readdir(directory)).toEqual(["private"]);
  });

  it("removes the file and passes the error on when fsync fails, and does not try again", async () => {
    await writeFile(privatePath, "");
    const sync = vi.fn().mockRejectedValue(systemError("EIO"));

    await expect(syncOrDiscard({ sync }, privatePath)).rejects.toHaveProperty("code", "EIO");

    expect(sync).toHaveBeenCalledTimes(1);
    expect(await readdir(directory)).toEqual([]);
  });
});

describe.each([
  { fileSystem: "with hard links", linkError: undefined },
  { fileSystem: "without hard links", linkError: "EPERM" },
  { fileSystem: "without hard links (its other answer)", linkError: "EOPNOTSUPP" },
])("publishNoReplace() on a file system $fileSystem", ({ linkError }) => {
  beforeEach(() => {
    vi.mocked(link).mockClear();
    if (linkError === undefined) return;
    vi.mocked(link).mockRejectedValueOnce(systemError(linkError));
  });

  it("gives the file its final name and removes the private one", async () => {
    await writeFile(privatePath, "bytes");

    expect(await publishNoReplace(privatePath, finalPath)).toBe("published");

    expect(await readdir(directory)).toEqual(["final"]);
    expect(await readFile(finalPath, "utf8")).toBe("bytes");
  });

  it("replaces nothing", async () => {
    await writeFile(privatePath, "ours");
    await writeFile(finalPath, "theirs");

    expect(await publishNoReplace(privatePath, finalPath)).toBe("exists");

    expect(await readFile(finalPath, "utf8")).toBe("theirs");
    expect(await readFile(privatePath, "utf8")).toBe("ours");
  });

  it("treats a dangling symbolic link as a taken name", async () => {
    await writeFile(privatePath, "ours");
    await symlink(join(directory, "nowhere"), finalPath);

    expect(await publishNoReplace(privatePath, finalPath)).toBe("exists");

    expect((await lstat(finalPath)).isSymbolicLink()).toBe(true);
  });
});

describe("publishNoReplace()", () => {
  it("completes a publish that was cut short between the link and the unlink", async () => {
    await writeFile(privatePath, "bytes");
    await link(privatePath, finalPath);

    expect(await publishNoReplace(privatePath, finalPath)).toBe("published");

    expect(await readdir(directory)).toEqual(["final"]);
  });

  it("lets one of many win", async () => {
    const privatePaths = Array.from({ length: 20 }, (_, index) => `${privatePath}-${index}`);
    await Promise.all(privatePaths.map((path) => writeFile(path, path)));

    const outcomes = await Promise.all(
      privatePaths.map((path) => publishNoReplace(path, finalPath)),
    );

    const winner = privatePaths[outcomes.indexOf("published")];
    expect(outcomes.filter((outcome) => outcome === "published")).toHaveLength(1);
    expect(await readFile(finalPath, "utf8")).toBe(winner);
  });

  it("publishes from one directory into another", async () => {
    const parts = join(directory, "parts");
    await mkdir(parts);
    await writeFile(join(parts, "part"), "bytes");

    await publishNoReplace(join(parts, "part"), finalPath);

    expect(await readdir(parts)).toEqual([]);
    expect(await readFile(finalPath, "utf8")).toBe("bytes");
  });

  it("passes other errors on", async () => {
    await expect(publishNoReplace(privatePath, finalPath)).rejects.toHaveProperty("code", "ENOENT");
  });
});

describe("writeUnlessThere()", () => {
  it("lets one of many win, and leaves no drafts", async () => {
    const path = join(directory, "note");
    const texts = Array.from({ length: 10 }, (_, index) => `text ${String(index)}`);

    const written = await Promise.all(texts.map((text) => writeUnlessThere(path, text, 0o444)));

    const winner = texts[written.indexOf(true)];
    expect(written.filter(Boolean)).toHaveLength(1);
    expect(await readFile(path, "utf8")).toBe(winner);
    expect(await readdir(directory)).toEqual(["note"]);
  });
});

describe("writeUnlessThere(), on a full volume", () => {
  it.each(["writeFile", "sync"] as const)("leaves no draft when %s fails", async (call) => {
    const any = await open(directory);
    vi.spyOn(Object.getPrototypeOf(any) as FileHandle, call).mockRejectedValueOnce(
      systemError("ENOSPC"),
    );
    await any.close();

    await expect(writeUnlessThere(finalPath, "text", 0o444)).rejects.toHaveProperty(
      "code",
      "ENOSPC",
    );
    expect(await readdir(directory)).toEqual([]);
  });
});

describe("removeDurably()", () => {
  it("removes a file, and returns true", async () => {
    await writeFile(finalPath, "");

    expect(await removeDurably(finalPath)).toBe(true);
    expect(await readdir(directory)).toEqual([]);
  });

  it("succeeds when there is nothing to remove", async () => {
    expect(await removeDurably(finalPath)).toBe(false);
    expect(await removeDurably(join(directory, "no", "such", "directory"))).toBe(false);
  });

  it("removes a symbolic link and not its target", async () => {
    await writeFile(finalPath, "");
    await symlink(finalPath, privatePath);

    await removeDurably(privatePath);

    expect(await readdir(directory)).toEqual(["final"]);
  });

  it("passes other errors on", async () => {
    await expect(removeDurably(directory)).rejects.toHaveProperty("code", "EISDIR");
  });
});
