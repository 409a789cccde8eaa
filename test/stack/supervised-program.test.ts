import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { Client, Connection } from "@temporalio/client";
import { describe, expect, inject, it, onTestFinished, vi } from "vitest";
import { findFreePort } from "../../src/stack/ports.ts";
import { PostgresServer } from "../../src/stack/postgres-server.ts";
import { findProcess, isRunning, type LocalProcess } from "../../src/processes/process-table.ts";
import { Program } from "../../src/stack/program.ts";
import { SupervisedProgram, type SupervisionOptions } from "../../src/stack/supervised-program.ts";
import { isTemporalReady, startTemporal } from "../../src/stack/temporal-server.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { PATIENCE } from "../support/patience.ts";

interface Watched {
  readonly supervised: SupervisedProgram;
  readonly log: string[];
  /** The process that runs now. */
  current(): LocalProcess | undefined;
}

async function supervise(how: Pick<SupervisionOptions, "start" | "isReady">): Promise<Watched> {
  let current: LocalProcess | undefined;
  const log: string[] = [];
  const supervised = new SupervisedProgram({
    ...how,
    onProcess: (process) => (current = process),
    log: (line) => log.push(line),
  });
  onTestFinished(async () => supervised.stop());
  await supervised.start(new AbortController().signal);
  return { supervised, log, current: () => current };
}

async function killAndWaitForNext(watched: Watched): Promise<void> {
  const before = watched.current();
  process.kill(before?.pid ?? 0, "SIGKILL");
  await vi.waitFor(() => {
    expect(watched.current()?.pid).toBeTypeOf("number");
    expect(watched.current()?.pid).not.toBe(before?.pid);
  }, PATIENCE);
}

function shell(directory: string, script: string): () => Program {
  return () =>
    new Program({
      name: "example",
      command: ["sh", "-c", script],
      env: process.env,
      logFile: join(directory, "example.log"),
      stop: { signal: "SIGTERM", withinMs: 5_000 },
    });
}

describe("SupervisedProgram.replace()", () => {
  it("ends the first process when the second is ready, and supervises the second", async () => {
    const directory = makeTemporaryDirectory();
    const watched = await supervise({
      start: shell(directory, "exec sleep 60"),
      isReady: () => true,
    });
    const first = watched.current();

    await watched.supervised.replace();
    const second = watched.current();
    await killAndWaitForNext(watched);

    expect(second?.pid).not.toBe(first?.pid);
    expect(findProcess(first?.pid ?? 0)).toBeUndefined();
    expect(watched.log).toHaveLength(1);
  });

  it("ends the restarted process when the first one ended while the second became ready", async () => {
    const directory = makeTemporaryDirectory();
    const started: Program[] = [];
    let isSecondReady = false;
    const watched = await supervise({
      start: () => {
        const program = shell(directory, "exec sleep 60")();
        started.push(program);
        return program;
      },
      isReady: (program) => program !== started[1] || isSecondReady,
    });

    const replaced = watched.supervised.replace();
    const [first, second] = started;
    process.kill(first?.process?.pid ?? 0, "SIGKILL");
    await vi.waitFor(() => {
      expect(started).toHaveLength(3);
    }, PATIENCE);
    isSecondReady = true;
    await replaced;

    expect(watched.current()).toEqual(second?.process);
    expect(started.flatMap(({ process: each }) => (each && isRunning(each) ? [each] : []))).toEqual(
      [second?.process],
    );
    await watched.supervised.stop();
    expect(second?.process && isRunning(second.process)).toBe(false);
  });

  it("keeps the first process when the second does not become ready", async () => {
    const directory = makeTemporaryDirectory();
    let script = "exec sleep 60";
    const watched = await supervise({
      start: () => shell(directory, script)(),
      isReady: (program) => program.process !== undefined && script !== "exit 7",
    });
    const first = watched.current();
    script = "exit 7";

    await expect(watched.supervised.replace()).rejects.toThrow("exit code 7");

    expect(watched.current()).toEqual(first);
    expect(findProcess(first?.pid ?? 0)).toBeDefined();
  });
});

describe("SupervisedProgram", () => {
  it("starts a killed Postgres again, on the same port", async () => {
    const directory = makeTemporaryDirectory();
    const server = new PostgresServer({
      directory: join(directory, "postgres"),
      port: await findFreePort(),
      logFile: join(directory, "postgres.log"),
    });
    await server.prepare();
    const watched = await supervise({
      start: () => server.start(),
      isReady: async () => server.isReady(),
    });

    await killAndWaitForNext(watched);

    await vi.waitFor(async () => {
      expect(await server.isReady()).toBe(true);
    }, PATIENCE);
    expect(watched.log[0]).toContain("postgres ended (signal SIGKILL). Restarting it in 0.1 s");
  });

  it("starts a killed Temporal server again, with its workflows", async () => {
    const directory = makeTemporaryDirectory();
    mkdirSync(join(directory, "temporal"));
    const [port, webUiPort] = [await findFreePort(), await findFreePort()];
    const address = `127.0.0.1:${port}`;
    const watched = await supervise({
      start: () =>
        startTemporal({
          cli: inject("temporalCli"),
          port,
          webUiPort,
          databaseFile: join(directory, "temporal", "temporal.db"),
          logFile: join(directory, "temporal.log"),
        }),
      isReady: async () => isTemporalReady(address),
    });
    await startWorkflow(address, "kept");

    await killAndWaitForNext(watched);

    await vi.waitFor(async () => {
      expect(await statusOf(address, "kept")).toBe("RUNNING");
    }, PATIENCE);
  });

  it("waits longer before each restart when the program keeps ending", async () => {
    const directory = makeTemporaryDirectory();
    let starts = 0;
    const watched = await supervise({
      start: () => {
        starts += 1;
        return shell(directory, starts === 1 ? "sleep 0.3" : "exit 1")();
      },
      isReady: () => true,
    });

    await vi.waitFor(() => {
      expect(watched.log.length).toBeGreaterThanOrEqual(4);
    }, PATIENCE);

    const delays = watched.log
      .slice(0, 4)
      .map((line) => /Restarting it in ([\d.]+) s/.exec(line)?.[1]);
    expect(delays).toEqual(["0.1", "0.2", "0.4", "0.8"]);
  });

  it("tries again when a restart fails before there is a process", async () => {
    const directory = makeTemporaryDirectory();
    let starts = 0;
    const watched = await supervise({
      start: () => {
        starts += 1;
        if (starts === 2) throw new Error("EMFILE: too many open files");
        return shell(directory, "exec sleep 60")();
      },
      isReady: () => true,
    });

    await killAndWaitForNext(watched);

    expect(watched.log).toEqual([
      expect.stringContaining("example ended (signal SIGKILL). Restarting it in 0.1 s"),
      expect.stringContaining(
        "example ended (EMFILE: too many open files). Restarting it in 0.2 s",
      ),
    ]);
  });

  it("fails at its first start after three attempts, with the last lines of the program's log", async () => {
    const directory = makeTemporaryDirectory();
    let starts = 0;

    const watched = supervise({
      start: () => {
        starts += 1;
        return shell(directory, "echo port is taken; exit 1")();
      },
      isReady: () => false,
    });

    await expect(watched).rejects.toThrow("port is taken");
    expect(starts).toBe(3);
  });
});

describe("SupervisedProgram.stop()", () => {
  it("ends the program and does not restart it", async () => {
    const watched = await supervise({
      start: shell(makeTemporaryDirectory(), "exec sleep 60"),
      isReady: () => true,
    });
    const before = watched.current();

    await watched.supervised.stop();

    expect(before && isRunning(before)).toBe(false);
    expect(watched.current()).toBeUndefined();
    expect(watched.log).toEqual([]);
  });

  it("ends a wait for the next start", async () => {
    const watched = await supervise({
      start: shell(makeTemporaryDirectory(), "exit 1"),
      isReady: () => true,
    });
    await vi.waitFor(() => {
      expect(watched.log.length).toBeGreaterThan(4);
    }, PATIENCE);

    await watched.supervised.stop();

    expect(watched.current()).toBeUndefined();
  });
});

async function startWorkflow(address: string, workflowId: string): Promise<void> {
  await withClient(address, async (client) =>
    client.workflow.start("example", { workflowId, taskQueue: "without-workers" }),
  );
}

async function statusOf(address: string, workflowId: string): Promise<string> {
  return withClient(address, async (client) => {
    const { status } = await client.workflow.getHandle(workflowId).describe();
    return status.name;
  });
}

async function withClient<Answer>(
  address: string,
  work: (client: Client) => Promise<Answer>,
): Promise<Answer> {
  const connection = await Connection.connect({ address, connectTimeout: 2_000 });
  try {
    return await work(new Client({ connection }));
  } finally {
    await connection.close();
  }
}
