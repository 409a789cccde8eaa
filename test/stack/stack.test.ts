import { spawn, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { text } from "node:stream/consumers";
import { fileURLToPath } from "node:url";
import postgres from "postgres";
import { describe, expect, inject, it, onTestFinished, vi } from "vitest";
import { readStackFile, STACK_PROGRAMS, type StackFile } from "../../src/config/stack-file.ts";
import { openDataDirectory } from "../../src/stack/data-directory.ts";
import { stopOrphans } from "../../src/stack/orphans.ts";
import { findProcess } from "../../src/processes/process-table.ts";
import { useOrStartStack } from "../../src/stack/use-or-start-stack.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { PATIENCE } from "../support/patience.ts";

const COMMAND_LINE = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

interface StackProcess {
  readonly child: ChildProcess;
  readonly stdout: Promise<string>;
  readonly stderr: Promise<string>;
  /** Exit code and signal. */
  readonly ended: Promise<unknown[]>;
}

/** Runs what `npm start` runs. */
function runStack(dataDir: string): StackProcess {
  const child = spawn(process.execPath, [COMMAND_LINE, "dev", "--data-dir", dataDir], {
    env: { ...process.env, TEMPORAL_CLI: inject("temporalCli") },
    stdio: ["ignore", "pipe", "pipe"],
  });
  onTestFinished(async () => {
    child.kill("SIGKILL");
    if (existsSync(dataDir)) await stopOrphans(openDataDirectory(dataDir));
  });
  const ended = once(child, "exit");
  return { child, stdout: text(child.stdout), stderr: text(child.stderr), ended };
}

async function waitUntilReady(dataDir: string, { child }: StackProcess): Promise<StackFile> {
  return vi.waitFor(
    () => {
      const file = readStackFile(dataDir);
      if (file?.state !== "ready" || file.supervisor.pid !== child.pid)
        throw new Error("not ready");
      return file;
    },
    { timeout: 50_000, interval: 100 },
  );
}

/** A data directory whose stack is ended before it is removed. */
function makeDataDirectory(): string {
  return join(makeTemporaryDirectory(), "data");
}

async function workerOtherThan(dataDir: string, pid: number | null): Promise<number> {
  return vi.waitFor(
    () => {
      const now = readStackFile(dataDir)?.pids.worker ?? null;
      if (now === null || now === pid) throw new Error("The worker is the same");
      return now;
    },
    { timeout: 50_000, interval: 100 },
  );
}

describe("npm start, when its configuration changes", () => {
  it("starts the worker again, also on SIGHUP, and keeps the old one when the new file is wrong", async () => {
    const dataDir = makeDataDirectory();
    const stack = runStack(dataDir);
    const { config, pids } = await waitUntilReady(dataDir, stack);
    let said = "";
    stack.child.stdout?.on("data", (chunk: Buffer) => (said += chunk.toString()));

    writeFileSync(config, `${readFileSync(config, "utf8")}verify_on_publish: true\n`);
    const second = await workerOtherThan(dataDir, pids.worker);
    stack.child.kill("SIGHUP");
    const third = await workerOtherThan(dataDir, second);
    await vi.waitFor(() => {
      expect(findProcess(second)).toBeUndefined();
    }, 40_000);
    writeFileSync(config, "stores: 7");
    await vi.waitFor(() => {
      expect(said).toContain("The worker keeps its configuration: Cannot use the configuration");
    }, 20_000);

    expect(readStackFile(dataDir)?.pids.worker).toBe(third);
    stack.child.kill("SIGTERM");
    expect(await stack.ended).toEqual([0, null]);
  });

  it("checks its configuration before it starts anything, and reports the mistake once", async () => {
    const dataDir = makeDataDirectory();
    mkdirSync(dataDir);
    writeFileSync(join(dataDir, "image-import.yaml"), "stores:\n  local: { type: file, pth: x }\n");
    const stack = runStack(dataDir);

    expect(await stack.ended).toEqual([2, null]);

    const lines = (await stack.stderr).trimEnd().split("\n");
    expect(lines).toEqual([
      expect.stringMatching(
        /^error: Cannot use the configuration .*: stores\.local\.path \(line 2\): .*; stores\.local \(line 2\): Unrecognized key: "pth"$/,
      ),
      "hint: Correct the configuration file or the environment.",
    ]);
    expect(readdirSync(join(dataDir, "logs"))).toEqual([]);
    expect(readStackFile(dataDir)).toBeUndefined();
  });
});

function pidsOf({ pids }: StackFile): number[] {
  return Object.values(pids).map((pid) => pid ?? 0);
}

function running(pids: readonly number[]): number[] {
  return pids.filter((pid) => findProcess(pid) !== undefined);
}

describe("npm start", () => {
  it("runs all programs until it is asked to end, and leaves none", async () => {
    const dataDir = makeDataDirectory();
    const stack = runStack(dataDir);
    const file = await waitUntilReady(dataDir, stack);
    expect(running(pidsOf(file))).toHaveLength(STACK_PROGRAMS.length);
    const webUi = await fetch(file.web_ui);
    expect(webUi.status).toBe(200);
    const sql = postgres(file.database_url, { max: 1 });
    expect(await sql`SELECT current_database() AS name`).toEqual([{ name: "image_import" }]);
    await sql.end();

    stack.child.kill("SIGTERM");

    expect(await stack.ended).toEqual([0, null]);
    expect(running(pidsOf(file))).toEqual([]);
    expect(readStackFile(dataDir)).toBeUndefined();
    const printed = await stack.stdout;
    expect(printed).toContain(file.web_ui);
    expect(printed).toContain(file.temporal_address);
    expect(printed).toContain(`IMAGE_IMPORT_DATA_DIR=${dataDir} npx image-import import FILE`);
    expect(printed).toContain(`eval "$(IMAGE_IMPORT_DATA_DIR=${dataDir} npx image-import env)"`);
    expect(printed).not.toContain(new URL(file.database_url).password);
  });

  it("refuses a data directory on which a stack runs, and names it", async () => {
    const dataDir = makeDataDirectory();
    const first = runStack(dataDir);
    await waitUntilReady(dataDir, first);

    const second = runStack(dataDir);

    expect(await second.ended).toEqual([4, null]);
    expect(await second.stderr).toContain(
      `a stack already runs on it (process ${String(first.child.pid)})`,
    );
  });

  it("restarts each killed program, and records the new process in the stack file", async () => {
    const dataDir = makeDataDirectory();
    const stack = runStack(dataDir);
    const before = await waitUntilReady(dataDir, stack);

    for (const pid of pidsOf(before)) process.kill(pid, "SIGKILL");

    await vi.waitFor(() => {
      const after = readStackFile(dataDir);
      expect(running(after ? pidsOf(after) : [])).toHaveLength(STACK_PROGRAMS.length);
      expect(pidsOf(before).filter((pid) => after && pidsOf(after).includes(pid))).toEqual([]);
    }, PATIENCE);
    expect(readStackFile(dataDir)?.database_url).toBe(before.database_url);
  });

  it("leaves everything running when it is killed; the next start takes over at the same addresses", async () => {
    const dataDir = makeDataDirectory();
    const killed = runStack(dataDir);
    const before = await waitUntilReady(dataDir, killed);
    killed.child.kill("SIGKILL");
    await killed.ended;
    await sleep(500);
    expect(running(pidsOf(before))).toHaveLength(STACK_PROGRAMS.length);

    const next = runStack(dataDir);
    const after = await waitUntilReady(dataDir, next);

    expect(running(pidsOf(before))).toEqual([]);
    expect(running(pidsOf(after))).toHaveLength(STACK_PROGRAMS.length);
    expect(after).toMatchObject({
      database_url: before.database_url,
      temporal_address: before.temporal_address,
      web_ui: before.web_ui,
    });
  });

  it("ends what it has started when it is interrupted while starting", async () => {
    const dataDir = makeDataDirectory();
    const stack = runStack(dataDir);
    const pids = await vi.waitFor(() => {
      const file = readStackFile(dataDir);
      const found = running(file ? pidsOf(file) : []);
      expect(found.length).toBeGreaterThan(0);
      return found;
    }, PATIENCE);

    stack.child.kill("SIGINT");

    expect(await stack.ended).toEqual([0, null]);
    expect(running(pids)).toEqual([]);
    expect(readStackFile(dataDir)).toBeUndefined();
  });
});

describe("useOrStartStack()", () => {
  it("uses the stack that runs, and leaves it running", async () => {
    const dataDir = makeDataDirectory();
    const stack = runStack(dataDir);
    const file = await waitUntilReady(dataDir, stack);

    const used = await useOrStartStack({ dataDir, temporalCli: inject("temporalCli") });
    await used.stop();

    expect(used.isOurs).toBe(false);
    expect(used.addresses.temporal_address).toBe(file.temporal_address);
    expect(running(pidsOf(file))).toHaveLength(STACK_PROGRAMS.length);
  });

  it("starts a stack when none runs, and stops it", async () => {
    const dataDir = makeDataDirectory();
    openDataDirectory(dataDir);

    const started = await useOrStartStack({ dataDir, temporalCli: inject("temporalCli") });
    const file = readStackFile(dataDir);
    await started.stop();

    expect(started.isOurs).toBe(true);
    expect(file?.state).toBe("ready");
    expect(file && running(pidsOf(file))).toEqual([]);
  });
});
