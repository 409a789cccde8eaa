import { randomBytes } from "node:crypto";
import { once } from "node:events";
import { Readable } from "node:stream";
import { expect, test, vi } from "vitest";
import { PATIENCE } from "../support/patience.ts";
import { SharedStack } from "../support/shared-stack.ts";
import { ApiProcess } from "./api-process.ts";
import { open, statusIn } from "./raw-socket.ts";
import { WireClient } from "./wire-client.ts";

// Uploads whose API is killed: the worker of the staging volume continues with them.

const stack = new SharedStack();
const others = new WireClient(stack.file.api_url ?? "");

function put(id: string, sizeBytes: number, more = ""): string {
  return `PUT /v2/images/${id}/file HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/octet-stream\r\ncontent-length: ${String(sizeBytes)}\r\n${more}\r\n`;
}

async function reaches(id: string, status: string): Promise<void> {
  await vi.waitUntil(
    async () => (await others.send("GET", `/v2/images/${id}`)).body.status === status,
    PATIENCE,
  );
}

test("an API that dies in the middle of an upload leaves the image queued, and nothing staged", async () => {
  const api = await ApiProcess.start(stack);
  const { id } = await others.create();
  const socket = await open(api.url);
  socket.write(put(id, 8_000_000));
  socket.write(randomBytes(4_000_000));
  await reaches(id, "saving");

  await api.stop("SIGKILL");

  await reaches(id, "queued");
  expect(await stack.traces(id)).toMatchObject({ staging: [], leases: [] });
  expect(
    (await others.send("PUT", `/v2/images/${id}/file`, { bytes: randomBytes(4096) })).status,
  ).toBe(204);
});

test("an upload that is complete is imported although its API dies", async () => {
  const api = await ApiProcess.start(stack);
  const { id } = await others.create();
  stack.holds.hold("slow", id);
  const socket = await open(api.url);
  socket.write(put(id, 4_000_000, "x-image-meta-store: slow\r\n"));
  socket.write(randomBytes(4_000_000));
  await vi.waitUntil(
    async () => (await others.send("GET", `/v1/imports/${id}`)).body.status === "importing",
    PATIENCE,
  );

  await api.stop("SIGKILL");
  stack.release(id);

  await reaches(id, "active");
  expect((await others.send("GET", `/v2/images/${id}`)).body).toMatchObject({ size: 4_000_000 });
});

test("an upload is imported although its process dies before it starts the import", async () => {
  const client = await stack.connect();
  const { id } = await client.images.create({ diskFormat: "raw", containerFormat: "bare" });
  await client.files.stage(id, Readable.from([randomBytes(4096)]), {
    importAfter: { request_id: `req-${id}`, stores: ["local"] },
  });

  await reaches(id, "active");
});

test("an upload whose import fails is removed although its process dies before that", async () => {
  const client = await stack.connect();
  const { id } = await client.images.create({ diskFormat: "qcow2", containerFormat: "bare" });
  await client.files.stage(id, Readable.from([randomBytes(4096)]), {
    importAfter: { request_id: `req-${id}` },
  });

  await reaches(id, "queued");
  expect(await stack.traces(id)).toMatchObject({ staging: [], leases: [] });
});

test("after SIGTERM an API ends its uploads when they have had their time", async () => {
  const api = await ApiProcess.start(stack, { drain: "1s" });
  const { id } = await others.create();
  const socket = await open(api.url);
  socket.write(put(id, 8_000_000));
  socket.write(randomBytes(4_000_000));
  await reaches(id, "saving");

  const answered = once(socket, "data") as Promise<[Buffer]>;
  expect(await api.stop("SIGTERM")).toBe(0);

  expect(statusIn((await answered)[0].toString())).toBe(503);
  await reaches(id, "queued");
});

test("after SIGTERM an upload that needs less time ends as usual", async () => {
  const api = await ApiProcess.start(stack);
  const { id } = await others.create();
  const socket = await open(api.url);
  socket.write(put(id, 8_000_000));
  socket.write(randomBytes(4_000_000));
  await reaches(id, "saving");

  const ended = api.stop("SIGTERM");
  await vi.waitUntil(() => api.log.includes("takes no new requests"), PATIENCE);
  socket.write(randomBytes(4_000_000));
  const [answer] = (await once(socket, "data")) as [Buffer];

  expect(statusIn(answer.toString())).toBe(204);
  expect(await ended).toBe(0);
});
