import { existsSync, mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import type { LivenessDocument, ReadinessDocument } from "../../src/health/health-document.ts";
import { MIB } from "../support/mib.ts";
import { PATIENCE } from "../support/patience.ts";
import { continueAll, stopTree } from "../support/process-tree.ts";
import { useRunningStack, type RunningStack } from "../support/running-stack.ts";
import { waitForPart } from "../support/growing-part.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { writeRandomFile } from "../support/disk-images.ts";

// More than the endpoints need, and less than a monitoring system waits.
const BOUND_MS = 5_000;

const stack = useRunningStack({
  config: { stores: { local: { zero_copy: false } } },
  mayHold: true,
});

interface Answer<Document> {
  readonly code: number;
  readonly body: Document;
}

async function ask<Document>(url: string, path: string): Promise<Answer<Document>> {
  const response = await fetch(`${url}${path}`, { signal: AbortSignal.timeout(BOUND_MS) });
  return { code: response.status, body: (await response.json()) as Document };
}

const readiness = (url: string) => ask<ReadinessDocument>(url, "/readyz");
const liveness = (url: string) => ask<LivenessDocument>(url, "/livez");

/** The URL of the worker that runs now. */
async function healthUrl({ file }: RunningStack = stack): Promise<string> {
  const first = file.health_url;
  return first ?? (await vi.waitFor(() => required(stack.file.health_url), PATIENCE));
}

function required(url: string | null): string {
  if (url === null) throw new Error("The worker is not ready yet");
  return url;
}

async function untilReady(url: string): Promise<ReadinessDocument> {
  return vi.waitFor(async () => {
    const { code, body } = await readiness(url);
    if (code !== 200) throw new Error(`Not ready: ${JSON.stringify(body)}`);
    return body;
  }, PATIENCE);
}

/** Waits until these checks fail, and no other. */
async function untilFailing(url: string, ...names: readonly string[]): Promise<ReadinessDocument> {
  return vi.waitFor(async () => {
    const { code, body } = await readiness(url);
    const failing = Object.entries(body.checks).flatMap(([name, { ok }]) => (ok ? [] : [name]));
    expect({ code, failing: failing.sort() }).toEqual({ code: 503, failing: [...names].sort() });
    return body;
  }, PATIENCE);
}

describe("the health endpoints of a worker", () => {
  it("report a hanging Postgres, and that it answers again", async () => {
    const url = await healthUrl();
    const before = await untilReady(url);
    const startedAt = new Date().toISOString();

    const stopped = await stopTree(stack.pidOf("postgres"));
    onTestFinished(() => {
      continueAll(stopped);
    });
    const failing = await untilFailing(url, "postgres");
    const live = await liveness(url);
    continueAll(stopped);
    const after = await untilReady(url);

    expect(before).toMatchObject({
      status: "ready",
      identity: expect.stringContaining(url) as unknown,
    });
    expect(failing).toMatchObject({ status: "not ready" });
    expect(failing.checks["postgres"]?.reason).toMatch(/did not (answer|respond) within|timeout/);
    expect(failing.checks["postgres"]?.since.localeCompare(startedAt)).toBe(1);
    expect(live).toMatchObject({ code: 200, body: { status: "live" } });
    expect(after.checks["temporal"]).toEqual(before.checks["temporal"]);
  });

  it("report a hanging Temporal server, and that it answers again", async () => {
    const url = await healthUrl();
    await untilReady(url);

    const stopped = await stopTree(stack.pidOf("temporal"));
    onTestFinished(() => {
      continueAll(stopped);
    });
    const failing = await untilFailing(url, "temporal");
    const live = await liveness(url);
    continueAll(stopped);
    await untilReady(url);

    expect(failing.checks["temporal"]?.reason).toMatch(/answer/);
    expect(live.code).toBe(200);
  });

  it("report a staging volume that is not mounted, or is another one, until it is back", async () => {
    const url = await healthUrl();
    await untilReady(url);
    const elsewhere = join(stack.dataDir, "elsewhere");
    const back = (): void => {
      if (!existsSync(elsewhere)) return;
      rmSync(stack.staging, { recursive: true, force: true });
      renameSync(elsewhere, stack.staging);
    };
    onTestFinished(back);

    renameSync(stack.staging, elsewhere);
    const missing = await untilFailing(url, "staging");
    mkdirSync(stack.staging);
    const unmounted = await untilReason(url, "it has no id");
    writeFileSync(join(stack.staging, ".image-import-node"), "0123456789ab\n");
    const another = await untilReason(url, "has the id 0123456789ab");
    back();
    await untilReady(url);

    const since = missing.checks["staging"]?.since;
    expect(since).toBeDefined();
    expect([unmounted, another].map(({ checks }) => checks["staging"]?.since)).toEqual([
      since,
      since,
    ]);
  });

  it("report a worker that drains as stopping, and as live", async () => {
    const url = await healthUrl();
    const imageId = "8a0b0c5e-93ff-4b4b-8a7e-0d5c3c6a1f10";
    const file = join(makeTemporaryDirectory(), "disk.raw");
    await writeRandomFile(file, 4 * MIB);
    stack.holds.hold("local", imageId);
    const args = ["import", file, "--id", imageId, "--detach"];
    expect(await stack.commandLine.json(...args)).toMatchObject({ exitCode: 0 });
    await waitForPart(stack.store("local"), imageId, 1);
    const pid = stack.pidOf("worker");

    process.kill(pid, "SIGTERM");
    const stopping = await vi.waitFor(async () => {
      const answer = await readiness(url);
      expect(answer.code).toBe(503);
      return answer;
    }, PATIENCE);
    const live = await liveness(url);
    stack.holds.release("local", imageId);

    expect(stopping.body).toMatchObject({ status: "stopping", checks: { staging: { ok: true } } });
    expect(live.code).toBe(200);
    await vi.waitUntil(() => ![null, pid].includes(stack.file.pids.worker), PATIENCE);
    const next = await vi.waitFor(() => required(stack.file.health_url), PATIENCE);
    expect(next).not.toBe(url);
    await untilReady(next);
  });

  it("report servers that are gone", async () => {
    const url = await healthUrl();
    await untilReady(url);

    await stack.killSupervisor("temporal", "postgres");
    const { checks } = await untilFailing(url, "postgres", "temporal");

    expect(checks["postgres"]?.reason).toContain("ECONNREFUSED");
    expect(checks["temporal"]?.reason).toMatch(/not answer/);
    await stack.start();
    const next = await healthUrl();
    expect(next).not.toBe(url);
    await untilReady(next);
  });
});

async function untilReason(url: string, text: string): Promise<ReadinessDocument> {
  return vi.waitFor(async () => {
    const { body } = await readiness(url);
    expect(body.checks["staging"]?.reason).toContain(text);
    return body;
  }, PATIENCE);
}
