import { symlinkSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { lockDataDirectory } from "../../src/stack/data-directory-lock.ts";
import { StackBusyError } from "../../src/stack/stack-error.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

describe("lockDataDirectory()", () => {
  it("refuses a second taker and names the process that holds the lock", async () => {
    const dataDir = makeTemporaryDirectory();
    const lock = await lockDataDirectory(dataDir);

    const second = lockDataDirectory(dataDir);

    await expect(second).rejects.toThrow(StackBusyError);
    await expect(second).rejects.toThrow(
      `Cannot use the data directory "${dataDir}": a stack already runs on it (process ${process.pid})`,
    );
    await lock.release();
  });

  it("recognizes the same directory under another path", async () => {
    const dataDir = makeTemporaryDirectory();
    const alias = `${makeTemporaryDirectory()}/alias`;
    symlinkSync(dataDir, alias);
    const lock = await lockDataDirectory(dataDir);

    await expect(lockDataDirectory(alias)).rejects.toThrow(StackBusyError);
    await lock.release();
  });

  it("locks again after a release", async () => {
    const dataDir = makeTemporaryDirectory();
    const first = await lockDataDirectory(dataDir);
    await first.release();

    const second = await lockDataDirectory(dataDir);

    await second.release();
  });
});
