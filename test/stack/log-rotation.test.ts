import * as fs from "node:fs";
import {
  appendFileSync,
  closeSync,
  openSync,
  readFileSync,
  readdirSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { LogRotation, rotateIfLong } from "../../src/stack/log-rotation.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

vi.mock("node:fs", { spy: true });

describe("rotateIfLong()", () => {
  it("keeps the requested number of logs, newest first, and the file that programs have open", () => {
    const directory = makeTemporaryDirectory();
    const log = join(directory, "worker.log");
    const program = openSync(log, "a");

    for (const line of ["one\n", "two\n", "three\n", "four\n"]) {
      writeSync(program, line);
      rotateIfLong(log, { maxSizeBytes: 3, keep: 2 });
    }
    writeSync(program, "5\n");
    closeSync(program);

    expect(readdirSync(directory).sort()).toEqual(["worker.log", "worker.log.1", "worker.log.2"]);
    expect(readFileSync(log, "utf8")).toBe("5\n");
    expect(readFileSync(`${log}.1`, "utf8")).toBe("four\n");
    expect(readFileSync(`${log}.2`, "utf8")).toBe("three\n");
  });

  it("does nothing when the log is short or does not exist", () => {
    const log = join(makeTemporaryDirectory(), "worker.log");
    rotateIfLong(log, { maxSizeBytes: 3, keep: 2 });
    writeFileSync(log, "one");
    appendFileSync(log, "");

    rotateIfLong(log, { maxSizeBytes: 3, keep: 2 });

    expect(readFileSync(log, "utf8")).toBe("one");
  });

  it("keeps every byte that came while it copied, also where the system writes some at a time", () => {
    const log = join(makeTemporaryDirectory(), "worker.log");
    writeFileSync(log, "one\n");
    const line = "two, which is longer\n";
    vi.mocked(fs.copyFileSync).mockImplementationOnce((from, to) => {
      writeFileSync(to, readFileSync(from));
      appendFileSync(log, line);
      vi.mocked(fs.writeSync).mockImplementationOnce((fd, bytes) =>
        writeSync(fd, bytes.slice(0, 3)),
      );
    });

    rotateIfLong(log, { maxSizeBytes: 3, keep: 1 });

    expect(readFileSync(`${log}.1`, "utf8")).toBe(`one\n${line}`);
  });
});

describe("LogRotation", () => {
  it("prints a failure once, leaves no part of a copy, and rotates as soon as it can", () => {
    const directory = makeTemporaryDirectory();
    const log = join(directory, "worker.log");
    writeFileSync(log, "one\n");
    const said: string[] = [];
    const rotation = new LogRotation((line) => said.push(line));
    const fail = (_from: unknown, to: fs.PathLike): void => {
      writeFileSync(to, "o");
      throw new Error("ENOSPC: no space left on device");
    };
    vi.mocked(fs.copyFileSync).mockImplementationOnce(fail).mockImplementationOnce(fail);

    rotation.rotate(log, { maxSizeBytes: 3, keep: 1 });
    rotation.rotate(log, { maxSizeBytes: 3, keep: 1 });
    expect(readdirSync(directory)).toEqual(["worker.log"]);
    rotation.rotate(log, { maxSizeBytes: 3, keep: 1 });

    expect(said).toEqual([expect.stringContaining(`"${log}": ENOSPC`)]);
    expect(readFileSync(`${log}.1`, "utf8")).toBe("one\n");
  });
});
