import { createHash, randomBytes, randomUUID } from "node:crypto";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Client, Connection } from "@temporalio/client";
import { afterAll, beforeAll, beforeEach, expect, onTestFinished, test, vi } from "vitest";
import { importWorkflowId } from "../../src/workflow/contract.ts";
import { makeServicesDirectory } from "../support/services-directory.ts";
import { PATIENCE } from "../support/patience.ts";
import { SharedStack } from "../support/shared-stack.ts";
import { ApiProcess } from "./api-process.ts";
import { REMOTE_TOKEN, RemoteGlance } from "./remote-glance.ts";
import { WireClient } from "./wire-client.ts";

// A stack of its own: its worker may reach the other service on loopback.

const BYTES = randomBytes(300_000);
const stack = new SharedStack(makeServicesDirectory());
let remote: RemoteGlance;
let server: ApiProcess;
let api: WireClient;

beforeAll(async () => {
  remote = await RemoteGlance.open(BYTES);
  const key = "secrets.key";
  writeFileSync(join(stack.dataDir, key), randomBytes(32).toString("base64"), { mode: 0o600 });
  const web = { ports: remote.ports, allowed_networks: ["127.0.0.0/8"] };
  const settings = {
    default_store: "local",
    stores: { local: { type: "file", path: "stores/local" } },
    secrets: { key_file: key },
    sources: { web },
  };
  // A block and not a document of JSON: the API of a test appends its own section.
  const lines = Object.entries(settings).map(
    ([name, value]) => `${name}: ${JSON.stringify(value)}`,
  );
  writeFileSync(join(stack.dataDir, "image-import.yaml"), `${lines.join("\n")}\n`);
  await stack.start();
});

afterAll(async () => {
  await stack.stop();
  await remote[Symbol.asyncDispose]();
});

beforeEach(async () => {
  server = await ApiProcess.start(stack, { glance_regions: { There: remote.url } });
  api = new WireClient(server.url, { "x-auth-token": REMOTE_TOKEN });
});

function remoteImage(fields: object = {}): string {
  const id = randomUUID();
  remote.images.set(id, {
    status: "active",
    disk_format: "raw",
    container_format: "bare",
    size: BYTES.length,
    os_hash_algo: "sha512",
    os_hash_value: createHash("sha512").update(BYTES).digest("hex"),
    hw_cpu_cores: "5",
    "trait:STORAGE_DISK_SSD": "required",
    os_distro: "rhel",
    speed: "88mph",
    ...fields,
  });
  return id;
}

/** Creates an image, requests its import, and returns its id once the task has ended. */
async function imported(glance_image_id: string, glance_region = "There"): Promise<string> {
  const { id } = await api.create({
    disk_format: "iso",
    container_format: "ovf",
    hw_cpu_cores: "1",
    os_distro: "windows",
  });
  const method = { name: "glance-download", glance_region, glance_image_id };
  const { status } = await api.send("POST", `/v2/images/${id}/import`, { json: { method } });
  expect(status).toBe(202);
  await vi.waitUntil(async () => ["success", "failure"].includes(await taskOf(id)), PATIENCE);
  return id;
}

/** The status of its one task. */
async function taskOf(id: string): Promise<string> {
  const { body } = await api.send("GET", `/v2/images/${id}/tasks`);
  expect(body.tasks).toHaveLength(1);
  return body.tasks[0]?.status ?? "";
}

test("an image of another service is imported with its formats and properties", async () => {
  const id = await imported(remoteImage());
  expect(await taskOf(id)).toBe("success");
  const { body } = await api.send("GET", `/v2/images/${id}`);
  expect(body).toMatchObject({
    status: "active",
    size: BYTES.length,
    disk_format: "raw",
    container_format: "bare",
    hw_cpu_cores: "5",
    "trait:STORAGE_DISK_SSD": "required",
    os_distro: "rhel",
  });
  expect(body).not.toHaveProperty("speed");
});

test("the token is sent to that service alone, and is recorded nowhere", async () => {
  const id = await imported(remoteImage());
  expect(remote.tokens.store.length).toBeGreaterThan(0);
  expect(new Set(remote.tokens.service)).toEqual(new Set([REMOTE_TOKEN]));
  expect(new Set(remote.tokens.store)).toEqual(new Set([undefined]));

  const written = [
    server.log,
    JSON.stringify(await stack.newestTask(id)),
    JSON.stringify(await stack.report(id)),
    JSON.stringify(await historyOf(id)),
  ];
  for (const text of written) {
    expect(text).toContain(id);
    expect(text).not.toContain(REMOTE_TOKEN);
    expect(text).not.toContain(Buffer.from(REMOTE_TOKEN).toString("base64").slice(0, 20));
  }
});

/** Everything that Temporal keeps of the import, its payloads decoded. */
async function historyOf(id: string): Promise<unknown> {
  const connection = await Connection.connect({ address: stack.file.temporal_address });
  onTestFinished(() => connection.close());
  const { workflow } = new Client({ connection });
  const history = await workflow.getHandle(importWorkflowId(id)).fetchHistory();
  return [
    id,
    JSON.parse(JSON.stringify(history), (name, value: unknown) =>
      name === "data" && typeof value === "object" && value !== null
        ? Buffer.from(Object.values(value) as number[]).toString()
        : value,
    ),
  ];
}

test.each([
  ["a region that is not known", "Nowhere", {}],
  ["an image that is not there", "There", undefined],
  ["an image without data", "There", { status: "queued" }],
  ["an image that is deactivated", "There", { status: "deactivated" }],
  ["another digest than that service states", "There", { os_hash_value: "0".repeat(128) }],
  ["a format that is not known here", "There", { disk_format: "floppy" }],
])("%s fails the task, and leaves the image as it was", async (_what, region, fields) => {
  const id = await imported(fields === undefined ? randomUUID() : remoteImage(fields), region);
  expect(await taskOf(id)).toBe("failure");
  const { body } = await api.send("GET", `/v2/images/${id}`);
  expect(body).toMatchObject({
    status: "queued",
    disk_format: "iso",
    container_format: "ovf",
    hw_cpu_cores: "1",
    os_distro: "windows",
  });
});

test("a kind of address that Keystone does not have is refused", async () => {
  const { id } = await api.create();
  const method = {
    name: "glance-download",
    glance_region: "There",
    glance_image_id: remoteImage(),
    glance_service_interface: "outer",
  };
  const { status, body } = await api.send("POST", `/v2/images/${id}/import`, { json: { method } });
  expect([status, body.error.message]).toEqual([
    400,
    "'glance_service_interface' must be public, internal or admin",
  ]);
});

test("the method is offered only where it can work", async () => {
  const methods = async (client: WireClient): Promise<string> =>
    (await client.send("GET", "/v2/info/import")).bytes.toString();
  const alone = new WireClient(stack.file.api_url ?? "");

  expect(await methods(api)).toContain("glance-download");
  expect(await methods(alone)).not.toContain("glance-download");
  const { id } = await alone.create();
  const method = {
    name: "glance-download",
    glance_region: "There",
    glance_image_id: randomUUID(),
  };
  const answer = await alone.send("POST", `/v2/images/${id}/import`, { json: { method } });
  expect([answer.status, answer.body.error.hint]).toEqual([
    400,
    "Set `secrets.key_file`, and `api.glance_regions` unless `api.identity` is keystone.",
  ]);
});
