import { createHash, randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import { request } from "node:http";
import { join } from "node:path";
import postgres from "postgres";
import { Upload } from "tus-js-client";
import { describe, expect, test, vi } from "vitest";
import { waitForPart } from "../support/growing-part.ts";
import { MIB } from "../support/mib.ts";
import { PATIENCE } from "../support/patience.ts";
import { SharedStack } from "../support/shared-stack.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { ApiProcess } from "./api-process.ts";
import { BYTES, changeLease, metadata, OpenPatch, TUS, TusClient } from "./tus-client.ts";
import { UploadGate } from "./upload-gate.ts";
import { WireClient, type WireDocument } from "./wire-client.ts";

// Uploads that survive, over real sockets.

const stack = new SharedStack();
const url = stack.file.api_url ?? "";
const api = new TusClient(url);

function digestOf(algo: string, bytes: Uint8Array): string {
  return createHash(algo).update(bytes).digest("hex");
}

async function show(id: string): Promise<WireDocument> {
  return (await api.send("GET", `/v2/images/${id}`)).body;
}

test("the server says what it can do", async () => {
  const { status, headers } = await api.send("OPTIONS", "/uploads");
  expect([status, headers.get("tus-version"), headers.get("tus-checksum-algorithm")]).toEqual([
    204,
    "1.0.0",
    "sha1,sha256,md5",
  ]);
  expect(headers.get("tus-extension")).toBe(
    "creation,creation-with-upload,termination,checksum,expiration",
  );
});

test("an upload in pieces is staged with the digests of the whole", async () => {
  const bytes = Buffer.concat([randomBytes(MIB + 5), Buffer.alloc(3 * MIB), randomBytes(77)]);
  const { id, path } = await api.begin(bytes.length, { filename: "grün.raw" });
  expect(await show(id)).toMatchObject({ status: "uploading", size: null });
  const pieces = [0, 1, MIB + 9, 2 * MIB, bytes.length];
  for (const [index, start] of pieces.slice(0, -1).entries()) {
    const piece = bytes.subarray(start, pieces[index + 1]);
    const { status, headers } = await api.patch(path, start, piece);
    expect([status, headers.get("upload-offset")]).toEqual([204, String(pieces[index + 1])]);
  }
  const seen = await api.head(path);
  expect([seen.status, seen.headers.get("cache-control")]).toEqual([200, "no-store"]);
  expect(seen.headers.get("upload-length")).toBe(String(bytes.length));
  expect(seen.headers.get("upload-metadata")).toBe(
    metadata({ image_id: id, filename: "grün.raw" }),
  );
  // A repeat of the last request, whose answer was lost.
  expect((await api.patch(path, bytes.length, Buffer.alloc(0))).status).toBe(204);
  expect(await show(id)).toMatchObject({ status: "uploading", size: bytes.length });
  expect(await stack.traces(id)).toMatchObject({ staging: ["@"] });

  const sql = postgres(stack.file.database_url, { max: 1 });
  const facts = await sql`SELECT size, checksum, os_hash_value, ours FROM staged_files
    WHERE image_id = ${id}`;
  await sql.end();
  expect(facts).toEqual([
    {
      size: String(bytes.length),
      checksum: digestOf("md5", bytes),
      os_hash_value: digestOf("sha512", bytes),
      ours: true,
    },
  ]);
});

test("an upload with `import` becomes active automatically, and is complete for its sender", async () => {
  const bytes = randomBytes(2 * MIB + 1);
  const { id, path } = await api.begin(bytes.length, { import: "true", stores: "local" });
  expect((await show(id)).status).toBe("saving");
  expect((await api.patch(path, 0, bytes)).status).toBe(204);
  await vi.waitUntil(async () => (await show(id)).status === "active", PATIENCE);
  expect(await show(id)).toMatchObject({
    checksum: digestOf("md5", bytes),
    os_hash_value: digestOf("sha512", bytes),
  });
  expect(await api.offsetOf(path)).toBe(bytes.length);
});

test("an upload may begin with its first bytes", async () => {
  const bytes = randomBytes(4096);
  const { id } = await api.create();
  const { status, headers } = await api.send("POST", "/uploads", {
    bytes: bytes.subarray(0, 1000),
    headers: {
      ...BYTES,
      "upload-length": "4096",
      "upload-metadata": metadata({ image_id: id }),
    },
  });
  expect([status, headers.get("upload-offset")]).toEqual([201, "1000"]);
  const { pathname } = new URL(headers.get("location") ?? "");
  const { status: last } = await api.send("POST", pathname, {
    bytes: bytes.subarray(1000),
    headers: { ...BYTES, "upload-offset": "1000", "x-http-method-override": "PATCH" },
  });
  expect([last, (await show(id)).size]).toEqual([204, 4096]);
});

describe("what is refused", () => {
  test.each([
    ["another version of tus", 412, { "tus-resumable": "0.9" }],
    ["no length", 400, { "upload-length": undefined }],
    ["a length that comes later", 400, { "upload-defer-length": "1" }],
    ["no bytes at all", 400, { "upload-length": "0" }],
    ["no image", 400, { "upload-metadata": metadata({ filename: "x" }) }],
    ["metadata that is none", 400, { "upload-metadata": "image_id ?" }],
    ["an unknown image", 404, { "upload-metadata": metadata({ image_id: crypto.randomUUID() }) }],
    ["more than fits", 413, { "upload-length": String(Number.MAX_SAFE_INTEGER) }],
  ])("an upload with %s: %i", async (_what, status, changed) => {
    const { id } = await api.create();
    const headers = {
      ...{ ...TUS, "upload-length": "10", "upload-metadata": metadata({ image_id: id }) },
      ...changed,
    };
    const sent = Object.entries(headers).flatMap(([name, value]) =>
      value === undefined ? [] : [[name, value]],
    );
    const answer = await api.send("POST", "/uploads", {
      headers: Object.fromEntries(sent) as Record<string, string>,
    });
    expect(answer.status).toBe(status);
    expect(answer.body).toMatchObject({ error: { code: status } });
    expect((await show(id)).status).toBe("queued");
  });

  test.each([
    ["at another offset", 409, 0, 10, {}],
    ["beyond the end", 413, 100, 5000, {}],
    ["of another type", 415, 100, 10, { "content-type": "application/octet-stream" }],
    ["with an unknown checksum", 400, 100, 10, { "upload-checksum": "crc32 AAAA" }],
    ["with a wrong checksum", 460, 100, 10, { "upload-checksum": `sha1 ${"A".repeat(27)}=` }],
    ["without an offset", 400, 100, 10, { "upload-offset": "" }],
  ])("bytes %s: %i, and nothing of them counts", async (_what, status, offset, size, headers) => {
    const { path } = await api.begin(4096);
    await api.patch(path, 0, randomBytes(100));
    expect((await api.patch(path, offset, randomBytes(size), headers)).status).toBe(status);
    expect(await api.offsetOf(path)).toBe(100);
  });

  test("a second upload of an image, and its answer names the first", async () => {
    const { id, path } = await api.begin(4096);
    const second = await api.send("POST", "/uploads", {
      headers: { ...TUS, "upload-length": "1", "upload-metadata": metadata({ image_id: id }) },
    });
    expect([second.status, second.headers.get("location")]).toEqual([
      409,
      expect.stringContaining(path),
    ]);
    const stage = await api.send("PUT", `/v2/images/${id}/stage`, { bytes: randomBytes(5) });
    expect(stage.status).toBe(409);
  });
});

test("bytes with the right checksum count", async () => {
  const bytes = randomBytes(3000);
  const { id, path } = await api.begin(bytes.length);
  for (const [index, algo] of ["md5", "sha1", "sha256"].entries()) {
    const piece = bytes.subarray(index * 1000, (index + 1) * 1000);
    const checksum = `${algo} ${createHash(algo).update(piece).digest("base64")}`;
    const { status } = await api.patch(path, index * 1000, piece, { "upload-checksum": checksum });
    expect(status).toBe(204);
  }
  expect((await show(id)).size).toBe(3000);
});

test("an upload that is ended leaves nothing, and its address is gone", async () => {
  const { id, path } = await api.begin(4096);
  await api.patch(path, 0, randomBytes(100));
  expect((await api.send("DELETE", path, { headers: TUS })).status).toBe(204);
  expect(await stack.traces(id)).toMatchObject({ image: "queued", staging: [], leases: [] });
  const { path: next } = await api.begin(4096, { image_id: id });
  expect(next).not.toBe(path);
  for (const answer of [
    await api.head(path),
    await api.patch(path, 100, randomBytes(1)),
    await api.send("DELETE", path, { headers: TUS }),
  ]) {
    expect(answer.status).toBe(410);
  }
  expect((await api.head(next)).status).toBe(200);
});

test("an upload that has expired is gone, and the worker removes it", async () => {
  const { id, path } = await api.begin(4096);
  await api.patch(path, 0, randomBytes(100));
  await changeLease(stack, id, "resumable_until", 1);
  expect((await api.head(path)).status).toBe(410);
  await vi.waitUntil(async () => (await show(id)).status === "queued", PATIENCE);
  expect(await stack.traces(id)).toMatchObject({ staging: [], leases: [] });
});

test("an image that is deleted takes its upload with it, and the bytes on their way", async () => {
  const { id, path } = await api.begin(64 * MIB);
  const sending = new OpenPatch(url, path, 0, 64 * MIB);
  sending.send(randomBytes(2 * MIB));
  await vi.waitUntil(async () => (await api.offsetOf(path)) === 2 * MIB, PATIENCE);
  expect((await api.send("DELETE", `/v2/images/${id}`)).status).toBe(204);
  expect(await sending.answer).toBe(410);
  await vi.waitUntil(async () => (await stack.traces(id)).staging.length === 0, PATIENCE);
});

test("of two clients at once one writes, and the other has to wait", async () => {
  const { path } = await api.begin(64 * MIB);
  const first = new OpenPatch(url, path, 0, 64 * MIB);
  first.send(randomBytes(MIB));
  await vi.waitUntil(async () => (await api.offsetOf(path)) === MIB, PATIENCE);
  let isAnswered = false;
  const second = api.patch(path, MIB, randomBytes(MIB)).finally(() => {
    isAnswered = true;
  });
  // The first one sends on and on, and so keeps the upload.
  await vi.waitUntil(
    () => {
      first.send(randomBytes(1000));
      return isAnswered;
    },
    { ...PATIENCE, interval: 100 },
  );
  expect((await second).status).toBe(423);
});

test("a connection on which no bytes come gives way to the next one, and its late bytes go nowhere", async () => {
  const bytes = randomBytes(3 * MIB);
  const { id, path } = await api.begin(bytes.length, { import: "true" });
  const silent = new OpenPatch(url, path, 0, bytes.length);
  silent.send(bytes.subarray(0, MIB));
  await vi.waitUntil(async () => (await api.offsetOf(path)) === MIB, PATIENCE);
  expect((await api.patch(path, MIB, bytes.subarray(MIB, 2 * MIB))).status).toBe(204);
  silent.send(randomBytes(MIB));
  expect(await silent.answer).toBe(423);
  expect(await api.offsetOf(path)).toBe(2 * MIB);
  expect((await api.patch(path, 2 * MIB, bytes.subarray(2 * MIB))).status).toBe(204);
  await vi.waitUntil(async () => (await show(id)).status === "active", PATIENCE);
  expect((await show(id)).checksum).toBe(digestOf("md5", bytes));
});

test("an API that stood still writes nothing into an upload that continued without it", async () => {
  const bytes = randomBytes(6 * MIB);
  const { id, path } = await api.begin(bytes.length, { import: "true" });
  const still = await ApiProcess.start(stack);
  const zombie = new OpenPatch(still.url, path, 0, bytes.length);
  zombie.send(bytes.subarray(0, 2 * MIB));
  await vi.waitUntil(async () => (await api.offsetOf(path)) === 2 * MIB, PATIENCE);
  still.child.kill("SIGSTOP");
  // What it finds when it wakes up are other bytes.
  zombie.send(randomBytes(4 * MIB));
  await changeLease(stack, id, "renewed_at", 60);
  expect((await api.patch(path, 2 * MIB, bytes.subarray(2 * MIB, 5 * MIB))).status).toBe(204);
  still.child.kill("SIGCONT");
  expect(await zombie.answer).toBe(423);
  expect(await api.offsetOf(path)).toBe(5 * MIB);
  expect((await api.patch(path, 5 * MIB, bytes.subarray(5 * MIB))).status).toBe(204);
  await vi.waitUntil(async () => (await show(id)).status === "active", PATIENCE);
  expect((await show(id)).os_hash_value).toBe(digestOf("sha512", bytes));
  await vi.waitUntil(async () => (await stack.traces(id)).staging.length === 0, PATIENCE);
});

test("an upload survives the death of the API, and the next one continues with it", async () => {
  const bytes = randomBytes(32 * MIB);
  const { id } = await api.create();
  const { id: other } = await api.create();
  const first = await ApiProcess.start(stack);
  const gate = await UploadGate.open(first.url, 20 * MIB);
  let path = "";
  const ended = new Promise<void>((resolve, reject) => {
    const upload = new Upload(bytes, {
      endpoint: `${gate.url}/uploads`,
      metadata: { image_id: id, import: "true" },
      // Longer than the next API takes to start.
      retryDelays: Array.from({ length: 100 }, () => 200),
      onUploadUrlAvailable: () => {
        path = new URL(upload.url ?? "").pathname;
      },
      onSuccess: () => {
        resolve();
      },
      onError: reject,
    });
    upload.start();
  });
  await vi.waitUntil(() => path !== "", PATIENCE);
  await vi.waitUntil(async () => (await api.offsetOf(path)) >= 19 * MIB, PATIENCE);
  // An upload that dies with its process, beside it.
  beginStaging(first.url, other);
  await vi.waitUntil(async () => (await show(other)).status === "uploading", PATIENCE);

  await first.stop("SIGKILL");
  await changeLease(stack, id, "renewed_at", 3600);
  await (await stack.connect()).admin.reconcile();
  await vi.waitUntil(async () => (await show(other)).status === "queued", PATIENCE);
  expect(await api.offsetOf(path)).toBeGreaterThanOrEqual(19 * MIB);

  await ApiProcess.start(stack, { port: Number(new URL(first.url).port) });
  gate.open();
  await ended;
  await vi.waitUntil(async () => (await show(id)).status === "active", PATIENCE);
  expect(await show(id)).toMatchObject({
    checksum: digestOf("md5", bytes),
    os_hash_value: digestOf("sha512", bytes),
  });
  expect(gate.passedBytes).toBeLessThan(bytes.length + 4 * MIB);
  // The import removes its upload after it has published the image.
  await vi.waitUntil(async () => (await stack.traces(id)).leases.length === 0, PATIENCE);
  expect(await stack.traces(id)).toMatchObject({ staging: [] });
});

/** Begins to stage an image, and never ends it. */
function beginStaging(url: string, id: string): void {
  const sending = request(new URL(`/v2/images/${id}/stage`, url), {
    method: "PUT",
    headers: { "content-type": "application/octet-stream", "content-length": 2 * MIB },
  });
  sending.on("error", () => undefined);
  sending.write(randomBytes(MIB));
}

test("bytes whose checksum was not compared do not count after the death of the API", async () => {
  const { id, path } = await api.begin(4 * MIB);
  await api.patch(path, 0, randomBytes(100));
  const mortal = await ApiProcess.start(stack);
  const checksum = { "upload-checksum": `md5 ${createHash("md5").digest("base64")}` };
  const sending = new OpenPatch(mortal.url, path, 100, 4 * MIB - 100, checksum);
  sending.send(randomBytes(3 * MIB));
  await waitForPart(join(stack.dataDir, "staging"), id, MIB);
  await mortal.stop("SIGKILL");
  expect(await api.offsetOf(path)).toBe(100);
  expect((await api.patch(path, 100, randomBytes(100))).status).toBe(204);
});

test("an upload is seen by those alone who may do it", async () => {
  const users = [
    ["owner", "ours", "member"],
    ["reader", "ours", "reader"],
    ["stranger", "theirs", "member"],
  ] as const;
  const tokens = users.map(([user, project, role]) => ({
    ...{ digest: `sha256:${digestOf("sha256", Buffer.from(user))}`, user, project },
    roles: [role],
  }));
  const file = join(makeTemporaryDirectory(), "tokens.yaml");
  writeFileSync(file, JSON.stringify({ tokens }));
  const { url } = await ApiProcess.start(stack, { identity: "tokens", tokens_file: file });
  const [owner, reader, stranger] = users.map(
    ([user]) => new WireClient(url, { ...TUS, "x-auth-token": user }),
  );
  const { id } = (await owner?.create({ visibility: "community" })) ?? { id: "" };
  const headers = { "upload-length": "10", "upload-metadata": metadata({ image_id: id }) };
  for (const client of [reader, stranger]) {
    expect((await client?.send("POST", "/uploads", { headers }))?.status).toBe(403);
  }
  const begun = await owner?.send("POST", "/uploads", { headers });
  const { pathname } = new URL(begun?.headers.get("location") ?? "");
  for (const [client, status] of [
    [owner, 200],
    [reader, 404],
    [stranger, 404],
    [new WireClient(url, TUS), 401],
  ] as const) {
    expect((await client?.send("HEAD", pathname))?.status).toBe(status);
  }
  expect((await stranger?.send("DELETE", pathname))?.status).toBe(404);
  expect((await owner?.send("DELETE", pathname))?.status).toBe(204);
});
