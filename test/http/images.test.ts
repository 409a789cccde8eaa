import { createHash, randomBytes } from "node:crypto";
import { beforeEach, describe, expect, test, vi } from "vitest";
import { PATIENCE } from "../support/patience.ts";
import { SharedStack } from "../support/shared-stack.ts";
import { WireClient } from "./wire-client.ts";

// The API of a stack, as it serves it: without identification, so that every caller is the
// administrator.

const PATCH = { "content-type": "application/openstack-images-v2.1-json-patch" };
const stack = new SharedStack();
let api: WireClient;

beforeEach(() => {
  api = new WireClient(stack.file.api_url ?? "");
});

test("the root names the versions, in every spelling", async () => {
  for (const path of ["/", "/v2", "/v2/", "/nowhere", "/images.html"]) {
    const { status, body } = await api.send("GET", path);
    expect([path, status]).toEqual([path, 300]);
    expect(body.versions[0]).toMatchObject({ id: "v2.15", status: "CURRENT" });
  }
  expect((await api.send("GET", "/versions")).status).toBe(200);
});

test("an image is created, uploaded, read in parts and deleted", async () => {
  const bytes = randomBytes(3_000_001);
  const created = await api.create({ os_distro: "debian", tags: ["a", "b"], min_ram: 64 });
  const { id } = created;
  expect(created).toMatchObject({
    status: "queued",
    visibility: "shared",
    size: null,
    os_distro: "debian",
    self: `/v2/images/${id}`,
  });
  expect((await api.send("GET", `/v2/images/${id}/file`)).status).toBe(204);
  expect((await api.send("PUT", `/v2/images/${id}/file`, { bytes })).status).toBe(204);

  const shown = (await api.send("GET", `/v2/images/${id}`)).body;
  expect(shown).toMatchObject({
    status: "active",
    size: bytes.length,
    checksum: createHash("md5").update(bytes).digest("hex"),
    os_hash_value: createHash("sha512").update(bytes).digest("hex"),
    stores: "local",
  });
  const whole = await api.send("GET", `/v2/images/${id}/file`);
  expect(whole.bytes.equals(bytes)).toBe(true);
  expect(whole.headers.get("content-md5")).toBe(shown.checksum);
  expect(whole.headers.get("content-length")).toBe(String(bytes.length));

  const part = await api.send("GET", `/v2/images/${id}/file`, { headers: { range: "bytes=5-9" } });
  expect([part.status, part.headers.get("content-range")]).toEqual([206, "bytes 5-9/3000001"]);
  expect(part.bytes.equals(bytes.subarray(5, 10))).toBe(true);

  expect((await api.send("DELETE", `/v2/images/${id}`)).status).toBe(204);
  expect((await api.send("GET", `/v2/images/${id}`)).status).toBe(404);
  expect((await api.send("DELETE", `/v2/images/${id}`)).status).toBe(404);
});

test("an upload without bytes makes an empty image, as clients of Glance expect", async () => {
  const id = await api.active(Buffer.alloc(0));
  const { body } = await api.send("GET", `/v2/images/${id}`);
  expect(body).toMatchObject({
    status: "active",
    size: 0,
    checksum: "d41d8cd98f00b204e9800998ecf8427e",
  });
  const { status, bytes } = await api.send("GET", `/v2/images/${id}/file`);
  expect([status, bytes.length]).toEqual([200, 0]);
});

test("an upload that is refused leaves the image queued, and nothing staged", async () => {
  const { id } = await api.create({ disk_format: "qcow2" });
  const answer = await api.send("PUT", `/v2/images/${id}/file`, { bytes: randomBytes(70_000) });
  expect(answer.status).toBe(415);
  expect(answer.body.error).toMatchObject({
    failure: "FormatMismatch",
    title: "Unsupported Media Type",
  });
  expect((await api.send("GET", `/v2/images/${id}`)).body).toMatchObject({
    status: "queued",
    size: null,
  });
  expect(await stack.traces(id)).toMatchObject({ staging: [], leases: [] });
});

test.each([
  ["another size than announced", 400, { "x-openstack-image-size": "5" }, {}],
  ["no size but a word", 400, { "x-openstack-image-size": "many" }, {}],
  ["an unknown store", 400, { "x-image-meta-store": "nope" }, {}],
  ["another content type", 415, { "content-type": "text/plain" }, {}],
  ["an image without formats", 400, {}, { disk_format: null }],
])("%s is refused with %i", async (_what, status, headers, fields) => {
  const { id } = await api.create(fields);
  const answer = await api.send("PUT", `/v2/images/${id}/file`, {
    bytes: randomBytes(4096),
    headers,
  });
  expect([answer.status, typeof answer.body.error.message]).toEqual([status, "string"]);
  expect((await api.send("GET", `/v2/images/${id}`)).body.status).toBe("queued");
});

test("a patch changes an image, all or nothing", async () => {
  const { id } = await api.create({ kind: "lab" });
  const changed = await api.send("PATCH", `/v2/images/${id}`, {
    json: [
      { op: "replace", path: "/name", value: "grün ☃" },
      { op: "remove", path: "/kind" },
      { op: "add", path: "/empty", value: "" },
    ],
    headers: PATCH,
  });
  expect(changed.status).toBe(200);
  expect(changed.body).toMatchObject({ name: "grün ☃", empty: "" });
  expect(changed.body).not.toHaveProperty("kind");

  const refused = await api.send("PATCH", `/v2/images/${id}`, {
    json: [
      { op: "replace", path: "/name", value: "lost" },
      { op: "remove", path: "/absent" },
    ],
    headers: PATCH,
  });
  expect(refused.status).toBe(409);
  expect((await api.send("GET", `/v2/images/${id}`)).body.name).toBe("grün ☃");

  const unknown = await api.send("PATCH", `/v2/images/${id}`, { json: [] });
  expect(unknown.status).toBe(415);
  expect(unknown.headers.get("accept-patch")).toContain("v2.1-json-patch");
});

test("staged data is imported, and its task names the request", async () => {
  const { id } = await api.create();
  const bytes = randomBytes(8192);
  expect((await api.send("PUT", `/v2/images/${id}/stage`, { bytes })).status).toBe(204);
  expect((await api.send("GET", `/v2/images/${id}`)).body).toMatchObject({
    status: "uploading",
    size: 8192,
  });
  expect((await api.send("PUT", `/v2/images/${id}/stage`, { bytes })).status).toBe(409);
  const body = { method: { name: "glance-direct", uri: "" }, all_stores_must_succeed: true };
  const accepted = await api.send("POST", `/v2/images/${id}/import`, { json: body });
  expect([accepted.status, accepted.bytes.length]).toEqual([202, 0]);
  await vi.waitUntil(
    async () => (await api.send("GET", `/v2/images/${id}`)).body.status === "active",
    PATIENCE,
  );
  const { body: list } = await api.send("GET", `/v2/images/${id}/tasks`);
  expect(list.tasks).toHaveLength(1);
  expect(list.tasks[0]).toMatchObject({
    type: "api_image_import",
    status: "success",
    image_id: id,
    request_id: accepted.headers.get("x-openstack-request-id"),
    input: { image_id: id, import_req: body, backend: ["local"] },
  });
});

test("staged data whose content is refused is removed, so that the format can be corrected", async () => {
  const { id } = await api.create({ disk_format: "qcow2" });
  const bytes = randomBytes(8192);
  expect((await api.send("PUT", `/v2/images/${id}/stage`, { bytes })).status).toBe(204);
  const json = { method: { name: "glance-direct" } };
  expect((await api.send("POST", `/v2/images/${id}/import`, { json })).status).toBe(202);
  await vi.waitUntil(
    async () => (await api.send("GET", `/v2/images/${id}`)).body.status === "queued",
    PATIENCE,
  );
  const { body } = await api.send("GET", `/v2/images/${id}/tasks`);
  expect(body.tasks).toMatchObject([{ status: "failure" }]);
  expect(await stack.traces(id)).toMatchObject({ staging: [], leases: [] });
});

test("an upload by PUT has no task", async () => {
  const id = await api.active(randomBytes(4096));
  expect((await api.send("GET", `/v2/images/${id}/tasks`)).body).toEqual({ tasks: [] });
});

test.each([
  [undefined, 400, "Body expected"],
  [{}, 400, "Name of import method required"],
  [{ method: {} }, 400, "Name of import method required"],
  [{ method: { name: "magic" } }, 400, "Unknown import method name 'magic'."],
  [{ method: { name: "glance-direct" }, all_stores: "yes" }, 400, "boolean"],
  [{ method: { name: "web-download" } }, 400, "URI is required"],
  [{ method: { name: "web-download", uri: "file:///etc/passwd" } }, 400, "does not pass filtering"],
  [{ method: { name: "web-download", uri: "http://127.0.0.1/x" } }, 400, "does not pass filtering"],
  [{ method: { name: "glance-direct" } }, 409, "uploading"],
  [{ method: { name: "copy-image" } }, 409, "active"],
  [
    { method: { name: "glance-download", glance_region: "R", glance_image_id: "x" } },
    400,
    "does not look like a UUID",
  ],
  [
    { method: { name: "web-download", uri: "https://example.org/x" }, stores: ["nope"] },
    409,
    "nope",
  ],
])("the import %j of a queued image is refused with %i", async (json, status, message) => {
  const { id } = await api.create();
  const answer = await api.send("POST", `/v2/images/${id}/import`, { json });
  expect([answer.status, answer.body.error.message]).toEqual([
    status,
    expect.stringContaining(message),
  ]);
});

test("tags are added and removed one by one", async () => {
  const { id } = await api.create();
  expect((await api.send("PUT", `/v2/images/${id}/tags/a%20b`)).status).toBe(204);
  expect((await api.send("PUT", `/v2/images/${id}/tags/a%20b`)).status).toBe(204);
  expect((await api.send("GET", `/v2/images/${id}`)).body.tags).toEqual(["a b"]);
  expect((await api.send("PUT", `/v2/images/${id}/tags/${"x".repeat(256)}`)).status).toBe(400);
  expect((await api.send("DELETE", `/v2/images/${id}/tags/a%20b`)).status).toBe(204);
  expect((await api.send("DELETE", `/v2/images/${id}/tags/a%20b`)).status).toBe(404);
});

test("a protected image is not deleted", async () => {
  const { id } = await api.create({ protected: true });
  const { status, body } = await api.send("DELETE", `/v2/images/${id}`);
  expect([status, body.error.failure]).toEqual([403, "ImageProtected"]);
});

test("a deactivated image is read by the administrator, and repeats are harmless", async () => {
  const id = await api.active(randomBytes(4096));
  const deactivate = `/v2/images/${id}/actions/deactivate`;
  expect((await api.send("POST", deactivate)).status).toBe(204);
  expect((await api.send("POST", deactivate)).status).toBe(204);
  expect((await api.send("GET", `/v2/images/${id}/file`)).status).toBe(200);
  expect((await api.send("POST", `/v2/images/${id}/actions/reactivate`)).status).toBe(204);
  const { id: queued } = await api.create();
  expect((await api.send("POST", `/v2/images/${queued}/actions/deactivate`)).status).toBe(403);
});

test("members come and go", async () => {
  const { id } = await api.create();
  const path = `/v2/images/${id}/members`;
  expect((await api.send("POST", path, { json: { member: "" } })).status).toBe(400);
  const added = await api.send("POST", path, { json: { member: "theirs" } });
  expect([added.status, added.body.status]).toEqual([200, "pending"]);
  expect((await api.send("POST", path, { json: { member: "theirs" } })).status).toBe(409);
  const accepted = await api.send("PUT", `${path}/theirs`, { json: { status: "accepted" } });
  expect([accepted.status, accepted.body.status]).toEqual([200, "accepted"]);
  expect((await api.send("PUT", `${path}/theirs`, { json: { status: "maybe" } })).status).toBe(400);
  expect((await api.send("GET", path)).body.members).toHaveLength(1);
  expect((await api.send("DELETE", `${path}/theirs`)).status).toBe(204);
  expect((await api.send("GET", `${path}/theirs`)).status).toBe(404);
});

test("a member that a full image has already is a conflict, and one more is too many", async () => {
  const { id } = await api.create();
  const path = `/v2/images/${id}/members`;
  const client = await stack.connect();
  for (let count = 0; count < 128; count += 1) await client.members.add(id, `project-${count}`);

  expect((await api.send("POST", path, { json: { member: "project-7" } })).status).toBe(409);
  expect((await api.send("POST", path, { json: { member: "another" } })).status).toBe(413);
});

test.each([
  [{ uri: "https://example.org/disk.raw" }, "Only web-download takes a uri."],
  [{ checksum: `sha256:${"0".repeat(64)}` }, "copy-image does not take checksum."],
  [{ size: 5 }, "copy-image does not take size."],
  [{ detect_format: true }, "copy-image does not take detect_format."],
  [{ transforms: ["convert"] }, "copy-image does not take transforms."],
])("a further copy with %j is refused", async (field, message) => {
  const { id } = await api.create();
  const json = { method: "copy-image", stores: ["slow"], ...field };
  const { status, body } = await api.send("POST", `/v1/imports/${id}`, { json });
  expect([status, body.error.message]).toEqual([400, message]);
});

describe("a list", () => {
  test("pages through everything once, and keeps repeated parameters", async () => {
    const mark = randomBytes(6).toString("hex");
    for (let index = 0; index < 5; index += 1) await api.create({ tags: ["x", mark] });
    const seen: string[] = [];
    let path: string | undefined = `/v2/images?tag=x&tag=${mark}&limit=2`;
    while (path !== undefined) {
      const { body } = await api.send("GET", path);
      seen.push(...body.images.map(({ id }) => id));
      path = body.next;
      if (path !== undefined) expect(path).toContain(`tag=x&tag=${mark}`);
    }
    expect([seen.length, new Set(seen).size]).toEqual([5, 5]);
  });

  test("finds an image by the time that it shows", async () => {
    const image = await api.create({ name: randomBytes(6).toString("hex") });
    const query = `name=${String(image.name)}&created_at=eq:${image.created_at}`;
    expect((await api.send("GET", `/v2/images?${query}`)).body.images).toHaveLength(1);
  });

  test("leaves hidden images out", async () => {
    const { id, name } = await api.create({
      name: randomBytes(6).toString("hex"),
      os_hidden: true,
    });
    expect((await api.send("GET", `/v2/images?name=${String(name)}`)).body.images).toEqual([]);
    const hidden = await api.send("GET", `/v2/images?name=${String(name)}&os_hidden=True`);
    expect(hidden.body.images).toMatchObject([{ id }]);
  });
});

test("schemas, stores and methods are there", async () => {
  for (const path of [
    ...["/v2/schemas/image", "/v2/schemas/images", "/v2/schemas/member", "/v2/schemas/tasks"],
    ...["/v2/schemas/metadefs/namespace", "/v2/metadefs/namespaces", "/v2/metadefs/resource_types"],
    ...["/v2/info/import", "/v2/info/stores", "/v2/info/stores/detail", "/v2/info/usage"],
    ...[
      "/v2/tasks",
      "/openapi.json",
      "/healthcheck",
      "/livez",
      "/readyz",
      "/v2.7/images",
      "/images",
    ],
  ]) {
    expect([path, (await api.send("GET", path)).status]).toEqual([path, 200]);
  }
  const { body } = await api.send("GET", "/v2/schemas/image");
  expect(body.properties["name"]).toMatchObject({
    type: ["null", "string"],
    maxLength: 255,
    is_base: true,
  });
});

test("paths and methods that are not there", async () => {
  const { id } = await api.create();
  expect((await api.send("GET", "/v2/nowhere")).status).toBe(404);
  expect((await api.send("GET", "/v2/tenants/x")).status).toBe(403);
  expect((await api.send("POST", "/v2/tasks", { json: {} })).status).toBe(403);
  const wrong = await api.send("PUT", `/v2/images/${id}`, { json: {} });
  expect([wrong.status, wrong.headers.get("allow")]).toEqual([405, "DELETE, GET, PATCH"]);
});
