import { mkdirSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { findFreePort } from "../../../src/stack/ports.ts";
import { findProcessesWithEnvironment } from "../../../src/processes/process-table.ts";
import { CommandLine } from "../../support/command-line.ts";
import { logLines } from "../../support/log-lines.ts";
import { PATIENCE } from "../../support/patience.ts";
import { makeSeparateService, type SeparateService } from "../../support/separate-service.ts";
import { SharedStack, writeDisk } from "../../support/shared-stack.ts";

const stack = new SharedStack();

/** Asks the worker of a service to end. */
function endWorkerOf({ config }: SeparateService, signal: NodeJS.Signals): void {
  for (const { pid } of findProcessesWithEnvironment("IMAGE_IMPORT_CONFIG", config)) {
    process.kill(pid, signal);
  }
}

async function waitUntilWorking({ commandLine }: SeparateService): Promise<void> {
  await vi.waitFor(
    async () => {
      expect(await commandLine.json("doctor")).toMatchObject({ exitCode: 0 });
    },
    { ...PATIENCE, interval: 200 },
  );
}

describe("worker", () => {
  it("runs the imports of its service until SIGTERM ends it", async () => {
    const service = await makeSeparateService(stack);
    await service.commandLine.answer("migrate");
    const working = service.commandLine.run("worker");
    onTestFinished(() => {
      endWorkerOf(service, "SIGKILL");
    });
    await waitUntilWorking(service);

    const imported = await service.commandLine.json("import", writeDisk());
    endWorkerOf(service, "SIGTERM");
    const ended = await working;

    expect(imported).toMatchObject({ exitCode: 0, answer: { status: "active", stores: ["only"] } });
    expect(ended).toMatchObject({ exitCode: 0, stdout: "" });
  });

  it("logs one JSON object a line on stderr", async () => {
    const service = await makeSeparateService(stack);
    await service.commandLine.answer("migrate");
    const working = service.commandLine.run("worker");
    onTestFinished(() => {
      endWorkerOf(service, "SIGKILL");
    });
    await waitUntilWorking(service);

    endWorkerOf(service, "SIGTERM");
    const { stderr } = await working;

    const lines = logLines(stderr);
    expect(lines.map(({ level, msg }) => [level, msg])).toEqual([
      ["info", "The worker is ready"],
      ["info", "The worker has stopped"],
    ]);
  });

  it("logs its failure as a line, too", async () => {
    const service = await makeSeparateService(stack);
    writeFileSync(service.config, "stores: 7");

    const { exitCode, stderr } = await service.commandLine.run("worker");

    expect(exitCode).toBe(2);
    expect(logLines(stderr)).toMatchObject([
      {
        level: "error",
        msg: "The worker ends",
        error: { code: "BadConfiguration", hint: expect.stringMatching(/./) as string },
      },
    ]);
  });

  it("does not start on the empty mount point of its staging volume, nor does any command use it", async () => {
    const { commandLine, config } = await makeSeparateService(stack);
    await commandLine.answer("migrate");
    const { id } = (await commandLine.answer("image", "create")) as { readonly id: string };
    await commandLine.answer("image", "stage", id, writeDisk());
    const staging = join(dirname(config), "staging");
    renameSync(staging, `${staging}.away`);
    mkdirSync(staging);

    const worker = await commandLine.json("worker");
    const { answer: findings } = await commandLine.json("doctor");
    const { id: next } = (await commandLine.answer("image", "create")) as { readonly id: string };
    const stage = await commandLine.json("image", "stage", next, writeDisk());

    const failure = { code: "StagingUnavailable", hint: expect.stringMatching(/^Mount/) as string };
    expect(worker.failure).toMatchObject(failure);
    expect(worker.exitCode).not.toBe(0);
    expect(findings).toContainEqual(
      expect.objectContaining({
        check: "staging",
        detail: expect.stringContaining("has no id") as string,
      }),
    );
    expect(stage.failure).toMatchObject(failure);
    expect(readdirSync(staging)).toEqual([]);
  });

  it("refuses a log level that does not exist, and names those that do", async () => {
    const service = await makeSeparateService(stack);

    expect(await service.commandLine.json("worker", "--log-level", "loud")).toMatchObject({
      exitCode: 2,
      failure: { code: "BadConfiguration", hint: expect.stringContaining("info") as string },
    });
  });

  it("does not start with a configuration that is wrong", async () => {
    const service = await makeSeparateService(stack);
    writeFileSync(service.config, "stores: 7");

    expect(await service.commandLine.json("worker")).toMatchObject({
      exitCode: 2,
      answer: undefined,
      failure: { code: "BadConfiguration" },
    });
  });

  it("does not start with a transform that can't work, and the doctor reports the same reason", async () => {
    const service = await makeSeparateService(stack);
    const module = service.config.replace(/[^/]+$/, "own.mjs");
    writeFileSync(
      service.config,
      "{stores: {only: {type: file, path: store}}, import: {transforms: [{module: own.mjs}]}}",
    );
    await service.commandLine.answer("migrate");

    const fates = [];
    for (const text of [
      "export default { name: 'own' };",
      "export default { name: 'own', async run() {}, async check() { return 'no tool'; } };",
    ]) {
      writeFileSync(module, text);
      const { failure } = (await service.commandLine.json("worker")) as {
        readonly failure?: { readonly code: string; readonly message: string };
      };
      const { answer } = await service.commandLine.json("doctor");
      const findings = answer as { check: string; detail: string }[];
      const finding = findings.find(({ check }) => check === "transforms");
      fates.push([failure?.code, failure?.message, finding?.detail === failure?.message]);
    }

    expect(fates).toEqual([
      [
        "BadConfiguration",
        `Cannot use the transform "${module}": \`run\` must be a function`,
        true,
      ],
      ["BadConfiguration", "Cannot run transforms on this machine: own: no tool", true],
    ]);
  });

  it("does not start on a port that another program uses, and names the way out", async () => {
    const port = await findFreePort();
    const other = createServer().listen(port, "127.0.0.1");
    onTestFinished(() => {
      other.close();
    });

    expect(await stack.commandLine.json("worker", "--health-port", String(port))).toMatchObject({
      exitCode: 2,
      answer: undefined,
      failure: {
        code: "BadConfiguration",
        message: `Cannot listen on 127.0.0.1:${port} (health.host, health.port): another program uses this port`,
        hint: expect.stringContaining("--health-port") as string,
      },
    });
  });

  it("does not start when Temporal is unreachable, and reports that", async () => {
    const TEMPORAL_ADDRESS = `127.0.0.1:${await findFreePort()}`;
    const away = new CommandLine({ dataDir: stack.dataDir, env: { TEMPORAL_ADDRESS } });

    expect(await away.json("worker")).toMatchObject({
      exitCode: 1,
      answer: undefined,
      failure: { code: "TemporalUnavailable" },
    });
  });
});
