import { spawn } from "node:child_process";
import { once } from "node:events";
import { symlinkSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { lockDataDirectory } from "../../src/stack/data-directory-lock.ts";
import { StackBusyError } from "../../src/stack/stack-error.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const BUILT_LOCK = fileURLToPath(
  new URL("../../dist/stack/data-directory-lock.js", import.meta.url),
);

const HOLD_LOCK = `
  const { lockDataDirectory } = await import(process.argv[1]);
  await lockDataDirectory(process.argv[2]);
  process.stdout.write("locked");
  setInterval(() => undefined, 1000);`;

describe("lockDataDirectory()", () => {
  it("refuses a second taker and names the process that holds it", async () => {
    const dataDir = makeTemporaryDirectory();
    const lock = await lockDataDirectory(dataDir);

    const second = lockDataDirectory(dataDir);

    await expect(second).rejects.toThrow(StackBusyError);
    await expect(second).rejects.toThrow(
      `Cannot use the data directory "${dataDir}": a stack already runs on it (process ${process.pid})`,
    );
    await lock.release();
  });

  it("sees through another path to the same directory", async () => {
    const dataDir = makeTemporaryDirectory();
    const alias = `${makeTemporaryDirectory()}/alias`;
    symlinkSync(dataDir, alias);
    const lock = await lockDataDirectory(dataDir);

    await expect(lockDataDirectory(alias)).rejects.toThrow(StackBusyError);
    await lock.release();
  });

  it("lets the next one in after a release", async () => {
    const dataDir = makeTemporaryDirectory();
    const first = await lockDataDirectory(dataDir);
    await first.release();

    const second = await lockDataDirectory(dataDir);

    await second.release();
  });

  it("lets the next one in when the holder was killed", async () => {
    const dataDir = makeTemporaryDirectory();
    const args = ["--input-type=module", "--eval", HOLD_LOCK, BUILT_LOCK, dataDir];
    const holder = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
    await once(holder.stdout, "data");
    await expect(lockDataDirectory(dataDir)).rejects.toThrow(`(process ${String(holder.pid)})`);

    holder.kill("SIGKILL");
    await once(holder, "exit");

    const lock = await lockDataDirectory(dataDir);
    await lock.release();
  });

  it("locks directories independently of each other", async () => {
    const one = await lockDataDirectory(makeTemporaryDirectory());

    const other = await lockDataDirectory(makeTemporaryDirectory());

    await one.release();
    await other.release();
  });
});
