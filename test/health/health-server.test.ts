import { subscribe, unsubscribe } from "node:diagnostics_channel";
import { once } from "node:events";
import type { Server } from "node:http";
import { createServer } from "node:net";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { Health, type LifeStage } from "../../src/health/health.ts";
import { HealthServer } from "../../src/health/health-server.ts";
import { findFreePort } from "../../src/stack/ports.ts";
import { failureOf } from "../support/failure-of.ts";
import { PATIENCE } from "../support/patience.ts";

interface Served {
  readonly health: Health;
  readonly url: string;
}

/** A health server, which ends with the running test. */
async function serve(): Promise<Served> {
  const health = new Health("1@host");
  const server = await HealthServer.open(health, { host: "127.0.0.1", port: 0 });
  onTestFinished(async () => {
    health.stop();
    await server[Symbol.asyncDispose]();
  });
  return { health, url: server.url };
}

async function answerOf(url: string): Promise<{ code: number; body: unknown }> {
  const response = await fetch(url);
  return { code: response.status, body: await response.json() };
}

describe("HealthServer", () => {
  it("answers /readyz with 200 only while the program runs and every check passes", async () => {
    const { health, url } = await serve();
    let stage: LifeStage = "starting";
    let isAway = false;
    health.follow(() => stage);
    health.watch("disk", {
      work: () => (isAway ? Promise.reject(new Error("It is unreachable")) : Promise.resolve()),
      everyMs: 5,
    });
    const codes = [];
    for (stage of ["starting", "running", "stopping", "failed"] as const) {
      await vi.waitUntil(() => health.readiness.checks["disk"]?.ok, PATIENCE);
      const { code, body } = await answerOf(`${url}/readyz`);
      codes.push([stage, code, (body as { status: string }).status]);
    }
    stage = "running";
    isAway = true;
    await vi.waitUntil(() => health.readiness.checks["disk"]?.ok === false, PATIENCE);

    expect(codes).toEqual([
      ["starting", 503, "starting"],
      ["running", 200, "ready"],
      ["stopping", 503, "stopping"],
      ["failed", 503, "failed"],
    ]);
    expect(await answerOf(`${url}/readyz`)).toEqual({
      code: 503,
      body: {
        status: "not ready",
        identity: "1@host",
        checks: {
          disk: { ok: false, since: expect.any(String) as unknown, reason: "It is unreachable" },
        },
      },
    });
  });

  it("answers /livez with 503 only when a restart is needed", async () => {
    const { health, url } = await serve();
    health.watch("disk", { work: () => Promise.reject(new Error("It is unreachable")) });
    const codes = [];
    for (const stage of ["starting", "running", "stopping", "failed"] as const) {
      health.follow(() => stage);
      codes.push((await answerOf(`${url}/livez`)).code);
    }

    expect(codes).toEqual([200, 200, 200, 503]);
  });

  it("answers HEAD without a body, no other method, and no other path", async () => {
    const { url } = await serve();

    const head = await fetch(`${url}/livez?verbose`, { method: "HEAD" });
    const post = await fetch(`${url}/livez`, { method: "POST" });
    const other = await fetch(`${url}/`);

    expect([head.status, await head.text()]).toEqual([200, ""]);
    expect([post.status, post.headers.get("allow")]).toEqual([405, "GET, HEAD"]);
    expect(other.status).toBe(404);
  });

  it("answers on after a connection that it could not take", async () => {
    const { url } = await serve();
    const servers: Server[] = [];
    const onRequest = (message: unknown): void => {
      servers.push((message as { readonly server: Server }).server);
    };
    subscribe("http.server.request.start", onRequest);
    onTestFinished(() => {
      unsubscribe("http.server.request.start", onRequest);
    });
    await answerOf(`${url}/livez`);

    servers[0]?.emit("error", new Error("accept EMFILE"));

    expect(servers).toHaveLength(1);
    expect((await answerOf(`${url}/livez`)).code).toBe(200);
  });

  it("names the port that another program uses, and the way out", async () => {
    const port = await findFreePort();
    const other = createServer().listen(port, "127.0.0.1");
    await once(other, "listening");
    onTestFinished(() => {
      other.close();
    });

    const opening = HealthServer.open(new Health("1@host"), { host: "127.0.0.1", port });

    expect(await failureOf(opening)).toMatchObject({
      code: "BadConfiguration",
      message: `Cannot listen on 127.0.0.1:${port} (health.host, health.port): another program uses this port`,
      hint: "Choose another port with health.port or --health-port; 0 takes any free one.",
    });
  });
});
