import { renameSync, rmSync, utimesSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { ChangingFile } from "../../src/stack/changing-file.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

let path: string;
beforeEach(() => {
  path = join(makeTemporaryDirectory(), "config.yaml");
  writeFileSync(path, "a: 1");
  // The changes of the file are long ago.
  vi.useFakeTimers({ now: Date.now() + 60_000, toFake: ["Date"] });
  return () => {
    vi.useRealTimers();
  };
});

/** A file that was asked, and that is the same since. */
function askedFile(): ChangingFile {
  const file = new ChangingFile(path);
  expect([file.mayHaveChanged(), file.mayHaveChanged()]).toEqual([true, false]);
  return file;
}

describe("ChangingFile", () => {
  it("notices other bytes, and then nothing", () => {
    const file = askedFile();

    writeFileSync(path, "a: 2");

    expect([file.mayHaveChanged(), file.mayHaveChanged()]).toEqual([true, false]);
  });

  it("notices other bytes whose time was set back", () => {
    const file = askedFile();

    writeFileSync(path, "a: 2");
    utimesSync(path, 0, 0);

    expect(file.mayHaveChanged()).toBe(true);
  });

  it("notices another file in its place", () => {
    const file = askedFile();

    writeFileSync(`${path}.new`, "a: 1");
    renameSync(`${path}.new`, path);

    expect(file.mayHaveChanged()).toBe(true);
  });

  it("does not rely on the time of a change that was a moment ago", () => {
    const file = askedFile();
    vi.setSystemTime(Date.now() - 60_000);

    writeFileSync(path, "a: 2");

    expect([file.mayHaveChanged(), file.mayHaveChanged()]).toEqual([true, true]);
  });

  it("may have changed as long as it cannot be read", () => {
    const file = askedFile();

    rmSync(path);

    expect([file.mayHaveChanged(), file.mayHaveChanged()]).toEqual([true, true]);
  });
});
