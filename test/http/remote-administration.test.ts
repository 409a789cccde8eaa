import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { writeFileSync } from "node:fs";
import { connect, type AddressInfo } from "node:net";
import { join } from "node:path";
import { createServer } from "node:tls";
import { expect, onTestFinished, test } from "vitest";
import { callerOf } from "../../src/http/caller.ts";
import { RemoteService } from "../../src/remote/remote-service.ts";
import { CommandLine } from "../support/command-line.ts";
import { ORIGIN_CERTIFICATE } from "../support/origin-certificate.ts";
import { SharedStack } from "../support/shared-stack.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { LocalApi } from "./local-api.ts";
import { WireClient } from "./wire-client.ts";

// The commands about members, tasks, usage, stores and copies, from a machine that has nothing but
// the address of the API.

const stack = new SharedStack();

function away(url = stack.file.api_url ?? "", env: NodeJS.ProcessEnv = {}): CommandLine {
  const nowhere = join(makeTemporaryDirectory(), "nowhere");
  return new CommandLine({
    env: { IMAGE_IMPORT_DATA_DIR: nowhere, IMAGE_IMPORT_API: url, ...env },
  });
}

test("members are offered an image, answer and go", async () => {
  const remote = away();
  const id = await stack.queuedImage();
  const added = await remote.answer("image", "member", "add", id, "friend");
  expect(added).toMatchObject({ image_id: id, member_id: "friend", status: "pending" });
  const set = ["image", "member", "set", id, "friend", "--status", "accepted"];
  expect(await remote.answer(...set)).toMatchObject({ status: "accepted" });
  expect(await remote.answer("image", "member", "list", id)).toMatchObject([
    { image_id: id, member_id: "friend", status: "accepted" },
  ]);
  expect(await remote.answer("image", "member", "remove", id, "friend")).toEqual(
    expect.objectContaining({ status: "removed" }),
  );
  expect(await stack.commandLine.answer("image", "member", "list", id)).toEqual([]);
  const unknown = await remote.json("image", "member", "remove", id, "friend");
  expect(unknown).toMatchObject({ exitCode: 3, failure: { code: "MemberNotFound" } });
});

test("tasks and the usage of quotas are shown as on the host", async () => {
  const remote = away();
  const { image_id: id, task_id: taskId } = await stack.failedImport();
  const owner = randomUUID();
  await (await stack.connect()).images.create({ owner });
  for (const command of [
    ["task", "list", "--image", id, "--status", "failure"],
    ["task", "show", taskId],
    ["task", "show", taskId.slice(0, 13)],
    ["usage", "--owner", owner],
  ]) {
    expect(await remote.answer(...command)).toEqual(await stack.commandLine.answer(...command));
  }
  const unknown = await remote.json("task", "show", randomUUID());
  expect(unknown).toMatchObject({ exitCode: 3, failure: { code: "TaskNotFound" } });
});

test("stores are listed, and a copy is removed from one", async () => {
  const remote = away();
  const withoutSpace = (stores: unknown) =>
    (stores as object[]).map((store) => ({ ...store, free_bytes: 0 }));
  expect(withoutSpace(await remote.answer("stores"))).toEqual(
    withoutSpace(await stack.commandLine.answer("stores")),
  );
  const id = await stack.activeImage("local", "slow");
  const removed = await remote.answer("image", "remove-copy", id, "--store", "slow");
  expect(removed).toEqual({ id, store: "slow", status: "pending_delete" });
  expect(await remote.answer("image", "show", id)).toMatchObject({ stores: ["local"] });
  const last = await remote.json("image", "remove-copy", id, "--store", "local");
  expect(last.exitCode).not.toBe(0);
  const waiting = await remote.json("image", "remove-copy", id, "--store", "local", "--wait");
  expect(waiting).toMatchObject({ exitCode: 2, failure: { code: "BadRequest" } });
});

test("a list is chosen by digests, times and ranges, as on the host", async () => {
  const remote = away();
  const id = await stack.activeImage();
  const client = await stack.connect();
  await client.images.change(id, { minRam: 512, minDisk: 7 });
  const { checksum, os_hash_value: digest, created_at: at } = await client.images.show(id);
  const fits = [
    ...["--checksum", (checksum ?? "").toUpperCase(), "--os-hash-value", digest ?? ""],
    ...["--time", `created_at:eq:${at}`, "--time", "updated_at:gt:1h"],
    ...["--min-ram-min", "512", "--min-ram-max", "512", "--min-disk-min", "0"],
  ];
  const listed = await remote.answer("image", "list", ...fits);
  expect(listed).toEqual(await stack.commandLine.answer("image", "list", ...fits));
  expect(listed).toMatchObject([{ id }]);
  for (const other of [
    ["--min-ram-min", "513"],
    ["--min-ram-max", "511"],
    ["--min-disk-min", "8"],
    ["--min-disk-max", "6"],
    ["--time", `created_at:neq:${at}`],
    ["--time", `created_at:lt:${at}`],
    ["--checksum", "0".repeat(32)],
    ["--os-hash-value", "0".repeat(128)],
  ]) {
    for (const host of [remote, stack.commandLine]) {
      const chosen = ["--checksum", checksum ?? "", ...other];
      expect([other, await host.answer("image", "list", ...chosen)]).toEqual([other, []]);
    }
  }
  const wrong = await remote.json("image", "list", "--time", "created_at:after:1h");
  expect(wrong.exitCode).toBe(2);
});

test("concurrent changes of tags and properties are all kept", async () => {
  const id = await stack.queuedImage();
  const client = await stack.connect();
  await client.images.change(id, { tags: ["old"], setProperties: { old: "1" } });
  const service = new RemoteService(
    { url: stack.file.api_url ?? "", token: undefined },
    () => undefined,
  );
  onTestFinished(() => service.close());
  const numbers = Array.from({ length: 16 }, (_, n) => String(n));
  await Promise.all([
    ...numbers.map((n) =>
      service.images.change(id, { addTags: [n], setProperties: { [`p${n}`]: n } }),
    ),
    service.images.change(id, {
      removeTags: ["old", "none", "old"],
      removeProperties: ["old", "none", "old"],
    }),
  ]);
  const { tags, properties } = await client.images.show(id);
  expect([...tags].toSorted()).toEqual(numbers.toSorted());
  expect(properties).toEqual(Object.fromEntries(numbers.map((n) => [`p${n}`, n])));
  const replaced = await service.images.change(id, { tags: ["a"], addTags: ["b"] });
  expect(replaced.tags).toEqual(["a", "b"]);
});

test.each([
  [{ attributes: { status: "active" } }, 400],
  [{ attributes: { min_ram: -1 } }, 400],
  [{ attributes: { visibility: "public" } }, 403],
  [{ attributes: { owner: "theirs" } }, 403],
  [{ set_properties: { checksum: "1" } }, 403],
  [{ set_properties: { name: "1" } }, 400],
  [{ add_tags: Array.from({ length: 129 }, (_, n) => String(n)) }, 413],
  [{ more: 1 }, 400],
])("a member cannot make the change %j", async (json, status) => {
  const client = await stack.connect();
  const { id } = await client.images.create({ owner: "ours" });
  const before = await client.images.show(id);
  const { url } = await LocalApi.open({ stack, client });
  expect((await new WireClient(url).send("PATCH", `/v1/images/${id}`, { json })).status).toBe(
    status,
  );
  expect(await client.images.show(id)).toEqual(before);
});

test("a member reads only the tasks of its own images and its usage", async () => {
  const client = await stack.connect();
  const { image_id: id, task_id: taskId } = await stack.failedImport();
  const { url } = await LocalApi.open({
    ...{ stack, client },
    callerOf: () => callerOf("bob", "ours", ["member"]),
  });
  const wire = new WireClient(url);
  const ofImage = `/v1/tasks?filter=${encodeURIComponent(JSON.stringify({ imageId: id }))}`;
  const statuses = async (paths: readonly string[]) =>
    Promise.all(paths.map(async (path) => (await wire.send("GET", path)).status));
  expect(await statuses([ofImage, `/v1/tasks/${taskId}`, "/v1/tasks/1"])).toEqual([404, 404, 404]);
  expect(await statuses(["/v1/tasks", "/v1/usage?owner=theirs", "/v1/stores"])).toEqual([
    403, 403, 403,
  ]);
  await client.images.change(id, { owner: "ours" });
  expect(await statuses([ofImage, `/v1/tasks/${taskId}`, "/v1/usage"])).toEqual([200, 200, 200]);
  const service = new RemoteService({ url, token: undefined }, () => undefined);
  onTestFinished(() => service.close());
  expect(await service.admin.showUsage(null)).toMatchObject({ owner: "ours" });
  expect((await wire.send("GET", ofImage)).body).toMatchObject({ tasks: [{ id: taskId }] });
  const glance = await wire.send("GET", `/v2/images/${id}/tasks`);
  expect(glance.body).toMatchObject({ tasks: [{ id: taskId }] });
  const { body: history } = await wire.send("GET", `/v1/images/${id}/history`);
  expect(Object.values(history as object).find(Array.isArray)).toBeDefined();
  const ofService = await LocalApi.open({
    ...{ stack, client },
    callerOf: () => callerOf("nova", "ours", ["service"]),
  });
  expect((await new WireClient(ofService.url).send("GET", "/v1/stores")).status).toBe(403);
});

test("a tenant does not read who cancelled an import, and an administrator does", async () => {
  const client = await stack.connect();
  const { image_id: id } = await stack.runningImport();
  await client.imports.cancel(id, { wait: true, by: "ann@desk" });
  await client.images.change(id, { owner: "ours" });
  for (const [role, expected] of [
    ["admin", "ann@desk"],
    ["member", undefined],
  ] as const) {
    const { url } = await LocalApi.open({
      ...{ stack, client },
      callerOf: () => callerOf("bob", "ours", [role]),
    });
    const { body } = await new WireClient(url).send("GET", `/v1/imports/${id}`);
    expect(body).toMatchObject({ state: "failed", failure: { code: "ImportCancelled" } });
    expect((body as { cancelled_by?: string }).cancelled_by).toBe(expected);
  }
});

test("lists are sorted, and continue behind an image whose id no generator makes", async () => {
  const remote = away();
  const client = await stack.connect();
  const owner = randomUUID();
  const marker = randomUUID().replace(/-4(...)-.(...)-/, "-f$1-f$2-");
  await client.images.create({ id: marker, owner });
  const page = encodeURIComponent(JSON.stringify({ owner, marker }));
  const wire = new WireClient(stack.file.api_url ?? "");
  const behind = await wire.send("GET", `/v1/images?filter=${page}`);
  expect(behind).toMatchObject({ status: 200, body: { images: [] } });
  const { image_id: id } = await stack.failedImport();
  const tasks = ["task", "list", "--image", id, "--sort", "status:asc,created_at:desc"];
  expect(await remote.answer(...tasks)).toEqual(await stack.commandLine.answer(...tasks));
});

test("TLS is checked against the authorities of NODE_EXTRA_CA_CERTS", async () => {
  const authorities = join(makeTemporaryDirectory(), "ca.pem");
  writeFileSync(authorities, ORIGIN_CERTIFICATE.cert);
  const { hostname, port } = new URL(stack.file.api_url ?? "");
  const server = createServer(ORIGIN_CERTIFICATE, (socket) => {
    const api = connect(Number(port), hostname);
    socket.on("error", () => api.destroy()).pipe(api);
    api.on("error", () => socket.destroy()).pipe(socket);
  });
  server.on("tlsClientError", () => undefined);
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  onTestFinished(() => {
    server.close();
  });
  const url = `https://localhost:${String((server.address() as AddressInfo).port)}`;
  const trusting = away(url, { NODE_EXTRA_CA_CERTS: authorities });
  const disk = join(makeTemporaryDirectory(), "disk.raw");
  const bytes = Buffer.alloc(70_000, "disk");
  writeFileSync(disk, bytes);
  const imported = await trusting.answer("import", disk);
  expect(imported).toMatchObject({
    status: "active",
    checksum: createHash("md5").update(bytes).digest("hex"),
  });
  const refused = await away(url).json("image", "list");
  expect(refused).toMatchObject({ exitCode: 1, failure: { code: "ApiUnavailable" } });
  expect(JSON.stringify(refused.failure)).toContain("NODE_EXTRA_CA_CERTS");
});
