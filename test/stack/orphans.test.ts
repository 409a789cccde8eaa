import { spawn } from "node:child_process";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { describe, expect, it, onTestFinished } from "vitest";
import { stackFilePath, writeStackFile } from "../../src/config/stack-file.ts";
import { openDataDirectory, type DataDirectory } from "../../src/stack/data-directory.ts";
import { STACK_MARK, stopOrphans } from "../../src/stack/orphans.ts";
import { findFreePort } from "../../src/stack/ports.ts";
import { PostgresServer } from "../../src/stack/postgres-server.ts";
import {
  findProcess,
  isRunning,
  readBootId,
  type LocalProcess,
} from "../../src/processes/process-table.ts";
import { waitUntilReady } from "../../src/stack/program.ts";
import { StackError } from "../../src/stack/stack-error.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

async function startSleeper(env: NodeJS.ProcessEnv = {}): Promise<LocalProcess> {
  const child = spawn("sleep", ["60"], { stdio: "ignore", env: { ...process.env, ...env } });
  onTestFinished(() => void child.kill("SIGKILL"));
  await once(child, "spawn");
  const identity = findProcess(child.pid ?? 0);
  if (identity === undefined) throw new Error("sleep did not start");
  return identity;
}

function writeStackFileNaming(
  directory: DataDirectory,
  worker: LocalProcess,
  bootId = readBootId(),
): void {
  writeStackFile({
    state: "ready",
    boot_id: bootId,
    supervisor: { pid: 1, start_time: 0 },
    pids: { postgres: null, temporal: null, worker: worker.pid, api: null },
    start_times: { postgres: null, temporal: null, worker: worker.startTicks, api: null },
    database_url: "postgresql://127.0.0.1:1/image_import",
    temporal_address: "127.0.0.1:1",
    temporal_namespace: "default",
    api_url: "http://127.0.0.1:20004",
    web_ui: "http://127.0.0.1:1",
    health_url: "http://127.0.0.1:20004",
    metrics_url: "http://127.0.0.1:20005/metrics",
    config: directory.config,
    data_dir: directory.path,
  });
}

describe("stopOrphans()", () => {
  it("names a damaged stack file, and the way out", async () => {
    const directory = openDataDirectory(makeTemporaryDirectory());
    writeFileSync(stackFilePath(directory.path), "{");

    const stopped = stopOrphans(directory);

    await expect(stopped).rejects.toThrow(StackError);
    await expect(stopped).rejects.toThrow(`Cannot read "${stackFilePath(directory.path)}"`);
    await expect(stopped).rejects.toThrow("delete the file");
  });

  it("ends a process that the stack file names", async () => {
    const directory = openDataDirectory(makeTemporaryDirectory());
    const orphan = await startSleeper();
    writeStackFileNaming(directory, orphan);

    const count = await stopOrphans(directory);

    expect(count).toBe(1);
    expect(isRunning(orphan)).toBe(false);
  });

  it("leaves a process alone that got an orphan's id after its end", async () => {
    const directory = openDataDirectory(makeTemporaryDirectory());
    const stranger = await startSleeper();
    writeStackFileNaming(directory, { ...stranger, startTicks: stranger.startTicks - 1 });

    const count = await stopOrphans(directory);

    expect(count).toBe(0);
    expect(isRunning(stranger)).toBe(true);
  });

  it("leaves processes alone when the file is of an earlier boot", async () => {
    const directory = openDataDirectory(makeTemporaryDirectory());
    const stranger = await startSleeper();
    writeStackFileNaming(directory, stranger, "00000000-0000-4000-8000-000000000000");

    await stopOrphans(directory);

    expect(isRunning(stranger)).toBe(true);
  });

  it("ends a process of the stack that no file names", async () => {
    const directory = openDataDirectory(makeTemporaryDirectory());
    const orphan = await startSleeper({ [STACK_MARK]: directory.path });
    const ofAnotherStack = await startSleeper({ [STACK_MARK]: makeTemporaryDirectory() });

    await stopOrphans(directory);

    expect(isRunning(orphan)).toBe(false);
    expect(isRunning(ofAnotherStack)).toBe(true);
  });

  it("shuts a Postgres down that no file names, so that it can start again at once", async () => {
    const directory = openDataDirectory(makeTemporaryDirectory());
    const options = { directory: directory.postgres, logFile: `${directory.logs}/postgres.log` };
    const abandoned = new PostgresServer({ ...options, port: await findFreePort() });
    await abandoned.prepare();
    const orphan = abandoned.start();
    onTestFinished(async () => orphan.stop());
    await waitUntilReady(orphan, async () => abandoned.isReady());

    await stopOrphans(directory);

    expect(await orphan.ended).toBe("exit code 0");
    const next = new PostgresServer({ ...options, port: await findFreePort() });
    await next.prepare();
    const program = next.start();
    onTestFinished(async () => program.stop());
    await waitUntilReady(program, async () => next.isReady());
  });
});
