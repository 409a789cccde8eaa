import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { createServer, type AddressInfo } from "node:net";
import { hostname } from "node:os";
import { Connection } from "@temporalio/client";
import { afterAll, beforeAll, describe, expect, inject, it, onTestFinished, vi } from "vitest";
import { examineWorkers } from "../../src/client/examine-workers.ts";
import { packageVersion } from "../../src/config/package-version.ts";
import { Health } from "../../src/health/health.ts";
import { HealthServer } from "../../src/health/health-server.ts";
import { findFreePort } from "../../src/stack/ports.ts";
import { CONTROL_QUEUE } from "../../src/workflow/contract.ts";
import { failureOf } from "../support/failure-of.ts";
import { PATIENCE } from "../support/patience.ts";

let connection: Connection;
let namespaces: string[] = [];

beforeAll(async () => {
  connection = await Connection.connect({ address: inject("temporalAddress") });
  namespaces = await Promise.all(Array.from({ length: 8 }, makeNamespace));
});

afterAll(() => connection.close());

/** An empty namespace, in which no test has polled. */
async function makeNamespace(): Promise<string> {
  const namespace = `workers-${randomUUID()}`;
  await connection.workflowService.registerNamespace({
    namespace,
    // protobuf.js takes a number where its types want its own 64-bit integer.
    workflowExecutionRetentionPeriod: { seconds: 86_400 as never },
  });
  await vi.waitFor(() => pollersIn(namespace), { ...PATIENCE, interval: 200 });
  return namespace;
}

async function pollersIn(namespace: string): Promise<string[]> {
  const { pollers } = await connection.workflowService.describeTaskQueue({
    namespace,
    taskQueue: { name: CONTROL_QUEUE },
    // eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment
    taskQueueType: 1,
  });
  return pollers.map(({ identity }) => identity ?? "");
}

interface WorkerFacts {
  readonly process?: string;
  readonly config?: string;
  readonly version?: string;
  readonly url: string;
}

function nameOf({
  process: name = `${String(process.pid)}@${hostname()}`,
  config = "0123456789ab",
  version = packageVersion(),
  url,
}: WorkerFacts): string {
  return `${name} config ${config} since 2026-11-30T05:00:00.000Z version ${version} health ${url}`;
}

/** Polls as workers with these names do, until the running test has finished. */
async function pollAs(namespace: string, ...names: readonly string[]): Promise<void> {
  const end = new AbortController();
  onTestFinished(() => {
    end.abort();
  });
  let failure: unknown;
  await vi.waitFor(
    async () => {
      const polling = await pollersIn(namespace);
      if (failure !== undefined && !end.signal.aborted) throw failure as Error;
      const missing = names.filter((name) => !polling.includes(name));
      // A poll reaches one of the queue's partitions, and only the pollers of the first are listed.
      for (const identity of missing) {
        poll(namespace, identity, end.signal).catch((error: unknown) => (failure = error));
      }
      expect(missing).toEqual([]);
    },
    { ...PATIENCE, interval: 100 },
  );
}

async function poll(namespace: string, identity: string, signal: AbortSignal): Promise<void> {
  // The server takes no poll without a deadline.
  await connection.withDeadline(Date.now() + PATIENCE.timeout, () =>
    connection.withAbortSignal(signal, () =>
      connection.workflowService.pollWorkflowTaskQueue({
        namespace,
        taskQueue: { name: CONTROL_QUEUE },
        identity,
      }),
    ),
  );
}

/** Health endpoints that end with the running test, and the name of their worker. */
async function serveHealth(
  facts: Omit<WorkerFacts, "url"> = {},
): Promise<{ readonly health: Health; readonly url: string; readonly name: string }> {
  const health = new Health("");
  const server = await HealthServer.open(health, { host: "127.0.0.1", port: 0 });
  onTestFinished(async () => {
    health.stop();
    await server[Symbol.asyncDispose]();
  });
  const name = nameOf({ ...facts, url: server.url });
  health.nameIt(name);
  health.follow(() => "running");
  return { health, url: server.url, name };
}

const nextNamespace = (): string => namespaces.pop() ?? "";

describe("examineWorkers()", () => {
  it("names the workers that run, with their health and the time of their last poll", async () => {
    const namespace = nextNamespace();
    const { name } = await serveHealth();
    // Nothing here can ask a worker of another host whose endpoints are on its loopback address.
    const elsewhere = nameOf({ process: "7@elsewhere", url: "http://127.0.0.1:1" });
    const withoutUrl = nameOf({ process: "8@elsewhere", url: "http://[fe80::1%eth0]:1" });
    await pollAs(namespace, name, elsewhere, withoutUrl);

    const detail = await examineWorkers(connection, namespace, undefined);

    expect(detail).toMatch(/^3 running: /);
    expect(detail).toMatch(/8@elsewhere \(health unknown, polled \d.* ago\)/);
    expect(detail).toMatch(/\d+@\S+ \(ready, polled \d.* ago\)/);
    expect(detail).toMatch(/7@elsewhere \(health unknown, polled \d.* ago\)/);
  });

  it("does not count a worker whose port is closed, used by another program, or that stops", async () => {
    const namespace = nextNamespace();
    const other = await serveHealth();
    const stopping = await serveHealth();
    stopping.health.follow(() => "stopping");
    await pollAs(
      namespace,
      nameOf({ url: `http://127.0.0.1:${await findFreePort()}` }),
      nameOf({ url: other.url, config: "ba9876543210" }),
      stopping.name,
    );

    expect(await failureOf(examineWorkers(connection, namespace, undefined))).toMatchObject({
      code: "NotConfigured",
      message: 'No worker polls the task queue "image-import"',
    });
  });

  it("counts a worker of another host that something else answers for", async () => {
    const namespace = nextNamespace();
    const page = createHttpServer((_request, response) => {
      response.end("<html>Bad gateway</html>");
    });
    // Another address of this host, as that of another host is.
    page.listen(0, "0.0.0.0");
    await once(page, "listening");
    onTestFinished(() => {
      page.close();
    });
    const there = hostname();
    const paged = `http://${there}:${String((page.address() as AddressInfo).port)}`;
    const refused = `http://${there}:${await findFreePort()}`;
    await pollAs(
      namespace,
      nameOf({ process: "7@elsewhere", url: paged }),
      nameOf({ process: "8@elsewhere", url: refused }),
    );

    const detail = await examineWorkers(connection, namespace, undefined);

    expect(detail).toMatch(/^2 running: /);
    expect(detail).toMatch(/7@elsewhere \(health unknown/);
    expect(detail).toMatch(/8@elsewhere \(health unknown/);
  });

  it("reports what a worker has lost, and since when", async () => {
    const namespace = nextNamespace();
    const { health, name } = await serveHealth();
    health.watch("staging", { work: () => Promise.reject(new Error("its volume has no id")) });
    await vi.waitUntil(() => health.readiness.checks["staging"]?.reason?.includes("id"), PATIENCE);
    await pollAs(namespace, name);

    expect(await failureOf(examineWorkers(connection, namespace, undefined))).toMatchObject({
      code: "StagingUnavailable",
      message: expect.stringMatching(
        /^The worker \d+@\S+ is not ready; staging \(since 2.*Z\): its volume has no id$/,
      ) as unknown,
    });
  });

  it("reports a worker of this host that hangs", async () => {
    const namespace = nextNamespace();
    const hanging = createServer().listen(0, "127.0.0.1");
    await once(hanging, "listening");
    onTestFinished(() => {
      hanging.close();
    });
    const url = `http://127.0.0.1:${String((hanging.address() as AddressInfo).port)}`;
    await pollAs(namespace, nameOf({ url }));

    expect(await failureOf(examineWorkers(connection, namespace, undefined))).toMatchObject({
      code: "TemporalUnavailable",
      message: expect.stringContaining(`does not answer at ${url}; it polled last`) as unknown,
    });
  });

  it("reports a worker of another version", async () => {
    const namespace = nextNamespace();
    const { name } = await serveHealth({ version: "0.0.9" });
    await pollAs(namespace, name);

    expect(await failureOf(examineWorkers(connection, namespace, undefined))).toMatchObject({
      code: "BadConfiguration",
      message: expect.stringMatching(
        /another version than this command, .*: \d+@\S+: 0\.0\.9$/,
      ) as unknown,
      hint: expect.stringContaining("image-import migrate") as unknown,
    });
  });

  it("reports workers that run with different configurations", async () => {
    const namespace = nextNamespace();
    const one = await serveHealth();
    const other = await serveHealth({ config: "ba9876543210" });
    await pollAs(namespace, one.name, other.name);

    expect(await failureOf(examineWorkers(connection, namespace, undefined))).toMatchObject({
      code: "BadConfiguration",
      message: expect.stringContaining("different configurations") as unknown,
    });
  });
});
