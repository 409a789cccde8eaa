import { randomUUID } from "node:crypto";
import { createServer, type Server } from "node:net";
import { Client, Connection, WorkflowNotFoundError } from "@temporalio/client";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { temporalFailure } from "../../src/temporal/temporal-failure.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import { connectTestClient } from "../support/temporal.ts";

async function failureOf(work: Promise<unknown>): Promise<unknown> {
  return work.then(
    () => {
      throw new Error("It did not fail");
    },
    (error: unknown) => error,
  );
}

/** A port on which no server listens any more. */
async function closedPort(): Promise<number> {
  const server = await listen();
  const port = portOf(server);
  await new Promise((resolve) => server.close(resolve));
  return port;
}

async function listen(): Promise<Server> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  return server;
}

function portOf(server: Server): number {
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("It does not listen");
  return address.port;
}

describe("temporalFailure()", () => {
  it("is TemporalUnavailable when no server listens", async () => {
    const address = `127.0.0.1:${String(await closedPort())}`;
    const error = await failureOf(Connection.connect({ address, connectTimeout: 2000 }));

    const failure = temporalFailure(error);

    expect(failure).toBeInstanceOf(ImportError);
    expect(failure).toMatchObject({
      code: "TemporalUnavailable",
      message: expect.stringMatching(/^The Temporal server does not answer: ./) as string,
      cause: error,
    });
  });

  it("names the proxy on the way to the server, and its variable", async () => {
    const proxy = `http://me:s3cret@127.0.0.1:${String(await closedPort())}`;
    vi.stubEnv("http_proxy", proxy);
    for (const name of ["grpc_proxy", "https_proxy", "no_grpc_proxy", "no_proxy"]) {
      vi.stubEnv(name, undefined);
    }
    onTestFinished(() => {
      vi.unstubAllEnvs();
    });
    const address = "temporal.example:7233";
    const error = await failureOf(Connection.connect({ address, connectTimeout: 500 }));

    const failure = temporalFailure(error, address) as ImportError;

    expect(failure).toMatchObject({ code: "TemporalUnavailable" });
    expect(failure.message).toMatch(
      /\(through the proxy 127\.0\.0\.1:\d+ of the variable http_proxy\)$/,
    );
    expect(failure.hint).toContain("no_proxy");
    expect(failure.message).not.toContain("s3cret");
  });

  it("is TemporalUnavailable when a server does not answer", async () => {
    const server = await listen();
    onTestFinished(() => {
      server.close();
    });
    const address = `127.0.0.1:${String(portOf(server))}`;
    const connection = Connection.lazy({ address });
    onTestFinished(() => connection.close());
    const client = new Client({ connection });
    const asking = connection.withDeadline(Date.now() + 300, () =>
      client.workflow.getHandle("image-import/x").describe(),
    );

    const failure = temporalFailure(await failureOf(asking));

    expect(failure).toMatchObject({ code: "TemporalUnavailable" });
  });

  it("distinguishes a server that refuses from one that is unreachable", async () => {
    const { connection } = await connectTestClient();
    const client = new Client({ connection, namespace: "never-registered" });
    const error = await failureOf(client.workflow.start("x", { workflowId: "x", taskQueue: "x" }));

    expect(temporalFailure(error)).toMatchObject({
      code: "BadConfiguration",
      message: expect.stringContaining("never-registered") as string,
    });
  });

  it("returns the error unchanged when a workflow does not exist", async () => {
    const client = await connectTestClient();
    const error = await failureOf(client.workflow.getHandle(randomUUID()).describe());

    expect(error).toBeInstanceOf(WorkflowNotFoundError);
    expect(temporalFailure(error)).toBe(error);
  });

  it.each([
    ["an ImportError", new ImportError("ImageBusy", "busy")],
    ["an unexpected error", new TypeError("x is not a function")],
    ["a value that is not an error", "a text"],
  ])("returns %s unchanged", (_, error) => {
    expect(temporalFailure(error)).toBe(error);
  });
});
