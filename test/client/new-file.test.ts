import * as fs from "node:fs/promises";
import { mkdir, readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { writeNewFile } from "../../src/client/new-file.ts";
import { failureOf } from "../support/failure-of.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

vi.mock("node:fs/promises", { spy: true });

let directory: string;
beforeEach(() => {
  vi.mocked(fs.link).mockReset();
  directory = makeTemporaryDirectory();
});

/** A file system without second names of a file. */
function refuseLinks(code: string): void {
  vi.mocked(fs.link).mockRejectedValue(Object.assign(new Error(code), { code }));
}

describe("writeNewFile()", () => {
  it.each([
    ["exists", "disk.raw", "it exists already"],
    ["is a directory", "sub", "it is a directory"],
    ["is a directory, with a slash", "sub/", "it is a directory"],
    ["has no name", "none/", "it does not name a file"],
    ["has too long a name", "x".repeat(250), "the path is too long"],
  ])("refuses a target that %s before the work", async (_, name, reason) => {
    await writeFile(join(directory, "disk.raw"), "");
    await mkdir(join(directory, "sub"));
    const work = vi.fn();

    const failure = await failureOf(writeNewFile(`${directory}/${name}`, work));

    expect(failure).toMatchObject({ code: "UnusableFile" });
    expect(failure.message).toContain(reason);
    expect(work).not.toHaveBeenCalled();
    expect((await readdir(directory)).toSorted()).toEqual(["disk.raw", "sub"]);
  });

  it.each(["EPERM", "ENOTSUP", "ENOSYS"])(
    "renames the complete file where links fail with %s, and replaces none",
    async (code) => {
      refuseLinks(code);
      const path = join(directory, "disk.raw");

      await writeNewFile(path, (target) => target.writeFile("bytes"));
      const meanwhile = join(directory, "other.raw");
      const failure = await failureOf(
        writeNewFile(meanwhile, () => writeFile(meanwhile, "of another")),
      );

      expect(await readFile(path, "utf8")).toBe("bytes");
      expect(failure.message).toContain("it exists already");
      expect(await readFile(meanwhile, "utf8")).toBe("of another");
      expect((await readdir(directory)).toSorted()).toEqual(["disk.raw", "other.raw"]);
    },
  );
});
