import { randomUUID } from "node:crypto";
import { beforeEach, describe, expect, test } from "vitest";
import type { ImageImportClient } from "../../src/client/image-import-client.ts";
import { callerOf } from "../../src/http/caller.ts";
import { SharedStack } from "../support/shared-stack.ts";
import { LocalApi } from "./local-api.ts";
import { WireClient } from "./wire-client.ts";

// Between the look at an image and its change, the image changes: the policy decides by the row
// that the change locks.

const PATCH = { "content-type": "application/openstack-images-v2.1-json-patch" };
const OCTETS = { "content-type": "application/octet-stream" };
const stack = new SharedStack();

let client: ImageImportClient;
/** Happens once, after the image of a request was read. */
let between: (() => Promise<unknown>) | undefined;

beforeEach(async () => {
  client = await stack.connect();
  between = undefined;
});

/** The client, but that {@link between} happens after the API has read an image. */
function interrupted(): ImageImportClient {
  const images = new Proxy(client.images, {
    get(target, name) {
      if (name === "showFor") {
        return async (...given: Parameters<typeof target.showFor>) => {
          const seen = await target.showFor(...given);
          const now = between;
          between = undefined;
          await now?.();
          return seen;
        };
      }
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === "function" ? (member.bind(target) as unknown) : member;
    },
  });
  return new Proxy(client, {
    get(target, name) {
      if (name === "images") return images;
      const member: unknown = Reflect.get(target, name, target);
      return typeof member === "function" ? (member.bind(target) as unknown) : member;
    },
  });
}

interface Write {
  readonly json?: unknown;
  readonly bytes?: Uint8Array;
  readonly headers?: Readonly<Record<string, string>>;
  /** The data that the image has staged before. */
  readonly isStaged?: boolean;
}

/** Every write of an image of one's own, by its method and path. */
const WRITES: Readonly<Record<string, Write>> = {
  "PATCH /v2/images/{id}": {
    json: [{ op: "replace", path: "/name", value: "changed" }],
    headers: PATCH,
  },
  "DELETE /v2/images/{id}": {},
  "PUT /v2/images/{id}/file": { bytes: Buffer.alloc(512), headers: OCTETS },
  "PUT /v2/images/{id}/stage": { bytes: Buffer.alloc(512), headers: OCTETS },
  "PUT /v2/images/{id}/tags/{tag}": {},
  "DELETE /v2/images/{id}/tags/{tag}": {},
  "POST /v2/images/{id}/members": { json: { member: "friend" } },
  "DELETE /v2/images/{id}/members/{member}": {},
  "POST /v2/images/{id}/actions/deactivate": {},
  "POST /v2/images/{id}/actions/reactivate": {},
  "POST /v2/images/{id}/import": { json: { method: { name: "glance-direct" } }, isStaged: true },
  "POST /v1/imports/{id}": { json: {}, isStaged: true },
  "DELETE /v1/images/{id}": {},
  "PATCH /v1/images/{id}": { json: { attributes: { name: "changed" }, add_tags: ["new"] } },
  "POST /v1/images/{id}/discard": {},
  "DELETE /v1/images/{id}/stage": { isStaged: true },
};

/** Writes that the table does not have, with the reason. */
const OTHERS: Readonly<Record<string, string>> = {
  "PUT /v2/images/{id}/members/{member}": "of a member: tested below",
  "DELETE /v2/stores/{store}/{id}": "of administrators, who may do it with any image",
  "DELETE /v2/tasks/{id}": "always refused",
  "POST /v1/imports/{id}/pause": "changes a run, not the row",
  "POST /v1/imports/{id}/resume": "changes a run, not the row",
  "POST /v1/imports/{id}/cancel": "changes a run, not the row",
  "POST /v1/imports/{id}/drop-store": "changes a run, not the row",
};

const CHANGES = {
  "belongs to another project, and is private": {
    change: (id: string) => client.images.change(id, { owner: "theirs", visibility: "private" }),
    statuses: [404],
  },
  "belongs to another project, and is public": {
    change: (id: string) => client.images.change(id, { owner: "theirs", visibility: "public" }),
    // A worker that refuses an import does not know what the caller may see.
    statuses: [403, 404],
  },
  "is deleted": { change: (id: string) => client.images.delete(id, 0), statuses: [404] },
} as const;

test("the table has every write of an image", async () => {
  const { app } = await LocalApi.open({ stack, client });
  const { paths = {} } = app.swagger();
  const writes = Object.entries(paths).flatMap(([path, methods]) =>
    Object.keys(methods as object)
      .filter((method) => path.includes("{id}") && !["get", "head", "options"].includes(method))
      .map((method) => `${method.toUpperCase()} ${path}`),
  );
  expect(writes.toSorted()).toEqual([...Object.keys(WRITES), ...Object.keys(OTHERS)].toSorted());
});

describe.each(Object.entries(CHANGES))("an image that %s by then", (_, { change, statuses }) => {
  test.each(Object.entries(WRITES))("is not changed by %s", async (route, write) => {
    const { url } = await LocalApi.open({ stack, client: interrupted() });
    const { id } = await client.images.create({
      ...{ owner: "ours", diskFormat: "raw", containerFormat: "bare", tags: ["old"] },
    });
    await client.members.add(id, "buddy");
    if (write.isStaged === true) await stageAt(url, id);
    const [method = "", path = ""] = route.split(" ");
    let after: unknown;
    between = async () => {
      await change(id);
      after = await snapshot(id);
    };
    const tag = method === "PUT" ? "new" : "old";
    const answer = await new WireClient(url).send(
      method,
      path.replace("{id}", id).replace("{tag}", tag).replace("{member}", "buddy"),
      write,
    );
    expect(after).toBeDefined();
    expect(statuses).toContain(answer.status);
    if (answer.status === 404) expect(JSON.stringify(answer.body)).not.toContain("theirs");
    expect(await snapshot(id)).toEqual(after);
  });
});

test("an image that is deleted by then is not found, though it has no staged data", async () => {
  const { url } = await LocalApi.open({ stack, client: interrupted() });
  const { id } = await client.images.create({ owner: "ours" });
  between = () => client.images.delete(id, 0);
  expect((await new WireClient(url).send("DELETE", `/v1/images/${id}/stage`)).status).toBe(404);
});

test("a protected image is not deleted, though it was not protected when it was read", async () => {
  const { url } = await LocalApi.open({ stack, client: interrupted() });
  for (const path of ["/v2/images/", "/v1/images/"]) {
    const { id } = await client.images.create({ owner: "ours" });
    between = () => client.images.change(id, { protected: true });
    expect((await new WireClient(url).send("DELETE", `${path}${id}`)).status).toBe(403);
    expect(await snapshot(id)).toMatchObject({ status: "queued" });
  }
});

test.each([
  ["is private", (id: string) => client.images.change(id, { visibility: "private" })],
  ["is not offered to it any more", (id: string) => client.members.remove(id, "ours")],
  ["is deleted", (id: string) => client.images.delete(id, 0)],
])("a member does not answer the offer of an image that %s by then", async (_, change) => {
  const { url } = await LocalApi.open({
    ...{ stack, client: interrupted() },
    callerOf: () => callerOf("bob", "ours", ["member"]),
  });
  const { id } = await client.images.create({ owner: "theirs" });
  await client.members.add(id, "ours");
  between = () => change(id);
  const { status } = await new WireClient(url).send("PUT", `/v2/images/${id}/members/ours`, {
    json: { status: "accepted" },
  });
  expect(status).toBe(404);
});

test("members are not added to an image that is not shared by then", async () => {
  const { url } = await LocalApi.open({ stack, client: interrupted() });
  const { id } = await client.images.create({ owner: "ours" });
  between = () => client.images.change(id, { visibility: "community" });
  const json = { member: randomUUID() };
  const { status } = await new WireClient(url).send("POST", `/v2/images/${id}/members`, { json });
  expect(status).toBe(403);
  expect(await client.members.list(id)).toEqual([]);
});

async function stageAt(url: string, id: string): Promise<void> {
  const { status } = await new WireClient(url).send("PUT", `/v2/images/${id}/stage`, {
    bytes: Buffer.alloc(512, 1),
  });
  expect(status).toBe(204);
}

async function snapshot(id: string): Promise<unknown> {
  const image = await client.images.show(id).catch(() => undefined);
  return image === undefined || image.status === "pending_delete"
    ? "deleted"
    : { ...image, members: await client.members.list(id) };
}
