import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { copyFile, readFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { livenessOf, thisProcess } from "../../src/processes/process-identity.ts";
import type { ProcessIdentity } from "../../src/processes/process-identity.ts";
import { startZombie } from "../support/shell-process.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

/** Starts a program that is killed when the test ends. */
async function start(
  command: string,
  args: readonly string[],
): Promise<ChildProcess & { pid: number }> {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "inherit"] });
  await once(child, "spawn");
  onTestFinished(() => {
    child.kill("SIGKILL");
  });
  // Node leaves it undefined only when the spawn failed, and then there is no "spawn" event.
  return child as ChildProcess & { pid: number };
}

/** The identity of another process, read after the last parenthesis of its stat. */
async function identityOf(pid: number): Promise<ProcessIdentity> {
  const stat = await readFile(`/proc/${pid}/stat`, "latin1");
  const startTicks = Number(stat.split(")").at(-1)?.split(" ")[20]);
  return { ...(await thisProcess()), pid, startTicks };
}

describe("thisProcess()", () => {
  it("names this process, and survives JSON", async () => {
    const identity = await thisProcess();

    expect(identity.pid).toBe(process.pid);
    expect(identity.startTicks).toBeGreaterThan(0);
    expect(JSON.parse(JSON.stringify(identity))).toEqual(identity);
  });
});

describe("livenessOf()", () => {
  it("finds this process running", async () => {
    expect(await livenessOf(await thisProcess())).toBe("running");
  });

  it("finds a child running, also stopped, and dead once it was killed", async () => {
    const child = await start("sleep", ["60"]);
    const identity = await identityOf(child.pid);
    expect(await livenessOf(identity)).toBe("running");

    child.kill("SIGSTOP");
    expect(await livenessOf(identity)).toBe("running");

    child.kill("SIGKILL");
    await once(child, "exit");
    expect(await livenessOf(identity)).toBe("dead");
  });

  it("is not confused by a program's name with spaces and parentheses", async () => {
    const program = join(makeTemporaryDirectory(), "a) Z 1 (b");
    await copyFile("/bin/sleep", program);
    const child = await start(program, ["60"]);

    expect(await livenessOf(await identityOf(child.pid))).toBe("running");
  });

  it("takes a zombie for dead", async () => {
    const zombie = await startZombie();

    expect(await livenessOf(await identityOf(zombie))).toBe("dead");
  });

  it("takes a later process with the same id for another one", async () => {
    const identity = await thisProcess();

    expect(await livenessOf({ ...identity, startTicks: identity.startTicks - 1 })).toBe("dead");
  });

  it("takes every process of another boot for dead", async () => {
    const identity = { ...(await thisProcess()), bootId: "00000000-0000-0000-0000-000000000000" };

    expect(await livenessOf(identity)).toBe("dead");
  });

  it("reports a process of another machine, with another boot, as unknown", async () => {
    const elsewhere = { machine: "@elsewhere", bootId: "00000000-0000-0000-0000-000000000000" };

    expect(await livenessOf({ ...(await thisProcess()), ...elsewhere })).toBe("unknown");
  });

  it("reports a process of another pid namespace as unknown", async () => {
    const identity = { ...(await thisProcess()), pidNamespace: "pid:[1]" };

    expect(await livenessOf(identity)).toBe("unknown");
  });
});
