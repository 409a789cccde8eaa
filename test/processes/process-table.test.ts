import { describe, expect, it } from "vitest";
import {
  findProcess,
  findProcessesWithEnvironment,
  isRunning,
  readWorkingDirectory,
} from "../../src/processes/process-table.ts";
import { stopProcess } from "../../src/processes/stop-process.ts";
import { startShell, startZombie } from "../support/shell-process.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

describe("findProcess()", () => {
  it("finds this process, with the same start time each time", () => {
    expect(findProcess(process.pid)).toEqual(findProcess(process.pid));
    expect(findProcess(process.pid)?.pid).toBe(process.pid);
  });

  it("returns undefined for a zombie", async () => {
    const zombie = await startZombie();

    expect(findProcess(zombie)).toBeUndefined();
  });
});

describe("isRunning()", () => {
  it("returns false for another process with the same id", async () => {
    const { identity } = await startShell("echo started; exec sleep 60");

    expect(isRunning(identity)).toBe(true);
    expect(isRunning({ ...identity, startTicks: identity.startTicks - 1 })).toBe(false);
  });
});

describe("stopProcess()", () => {
  it("lets a process end at its signal", async () => {
    const { identity, ended } = await startShell("echo started; exec sleep 60");

    await stopProcess(identity, { signal: "SIGTERM", withinMs: 5_000 });

    expect(await ended).toEqual([null, "SIGTERM"]);
  });

  it("kills one that does not end in time", async () => {
    const { identity, ended } = await startShell(
      "trap '' TERM; echo started; while :; do sleep 0.1; done",
    );

    await stopProcess(identity, { signal: "SIGTERM", withinMs: 300 });

    expect(await ended).toEqual([null, "SIGKILL"]);
  });

  it("does not stop a later process with the same id", async () => {
    const { identity } = await startShell("echo started; exec sleep 60");
    const earlier = { ...identity, startTicks: identity.startTicks - 1 };

    await stopProcess(earlier, { signal: "SIGKILL", withinMs: 0 });

    expect(isRunning(identity)).toBe(true);
  });
});

describe("findProcessesWithEnvironment()", () => {
  it("finds a process, but not its children", async () => {
    const mark = makeTemporaryDirectory();
    const { identity } = await startShell("sleep 60 & echo started; wait", {
      IMAGE_IMPORT_TEST_MARK: mark,
    });

    expect(findProcessesWithEnvironment("IMAGE_IMPORT_TEST_MARK", mark)).toEqual([identity]);
  });

  it("finds nothing when the value differs", () => {
    expect(findProcessesWithEnvironment("IMAGE_IMPORT_TEST_MARK", "another value")).toEqual([]);
  });
});

describe("readWorkingDirectory()", () => {
  it("returns undefined for a process that is gone", async () => {
    const { identity, ended } = await startShell("echo started; exec sleep 60");
    process.kill(identity.pid, "SIGKILL");
    await ended;

    expect(readWorkingDirectory(identity.pid)).toBeUndefined();
  });
});
