import { spawn } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { describe, expect, it } from "vitest";
import { readNameHolder, tryToLockName } from "../../src/processes/name-lock.ts";
import { programPath } from "../support/child-program.ts";

function newName(): string {
  return `image-import-test-${randomUUID()}`;
}

describe("tryToLockName()", () => {
  it("returns undefined for a second taker until the first releases the name", async () => {
    const name = newName();
    const first = await tryToLockName(name);

    expect(await tryToLockName(name)).toBeUndefined();
    expect(await readNameHolder(name)).toBe(process.pid);

    await first?.release();
    const second = await tryToLockName(name);
    expect(second).toBeDefined();
    await second?.release();
  });

  it("takes the name of a process that was killed", async () => {
    const name = newName();
    const program = programPath("hold-name.mjs");
    const holder = spawn(process.execPath, [program, name], {
      stdio: ["ignore", "pipe", "inherit"],
    });
    await once(holder.stdout, "data");
    expect(await tryToLockName(name)).toBeUndefined();
    expect(await readNameHolder(name)).toBe(holder.pid);

    holder.kill("SIGKILL");
    await once(holder, "exit");

    const lock = await tryToLockName(name);
    expect(lock).toBeDefined();
    await lock?.release();
  });

  it("takes two names independently of each other", async () => {
    const one = await tryToLockName(newName());
    const other = await tryToLockName(newName());

    expect([one, other]).not.toContain(undefined);
    await one?.release();
    await other?.release();
  });
});

describe("readNameHolder()", () => {
  it("returns undefined for a name that no process holds", async () => {
    expect(await readNameHolder(newName())).toBeUndefined();
  });
});
