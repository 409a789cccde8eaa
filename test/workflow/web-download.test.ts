import { createHash, randomBytes } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { gzipSync } from "node:zlib";
import { historyToJSON } from "@temporalio/common/lib/proto-utils.js";
import { describe, expect, it, vi } from "vitest";
import type { ImportRequest } from "../../src/domain/import-request.ts";
import { craftedQcow2 } from "../support/crafted-images.ts";
import { failureOf } from "../support/failure-of.ts";
import { honest, HostileOrigin, sendUpTo, type Behaviour } from "../support/hostile-origin.ts";
import { createRig, type ImportRig, type RigOptions } from "../support/import-rig.ts";
import { IMPORTED } from "../support/import-states.ts";
import { MIB } from "../support/mib.ts";
import { PATIENCE } from "../support/patience.ts";

const BYTES = randomBytes(3 * MIB + 17);
const SECRET = "k1-top-secret-signature";

/** The traces of an import that was undone: the same as before it. */
const QUEUED = {
  image: "queued",
  isClaimed: false,
  locations: [],
  leases: [],
  staging: [],
  fast: [],
  slow: [],
};

/** A service that may reach an origin on this machine, and the origin. */
async function withOrigin(
  behaviour: Behaviour,
  options: RigOptions = {},
): Promise<{ rig: ImportRig; origin: HostileOrigin }> {
  const origin = await HostileOrigin.start(behaviour);
  const web = { ports: [origin.port], allowed_networks: ["127.0.0.0/8"] };
  const rig = await createRig({ ...options, sources: { web } });
  return { rig, origin };
}

async function newImage(rig: ImportRig): Promise<string> {
  const { id } = await rig.client.images.create({ diskFormat: "raw", containerFormat: "bare" });
  return id;
}

/** Sends half, and then nothing until the client goes. */
const hangInTheMiddle: Behaviour = async (exchange) => {
  await sendUpTo(exchange, BYTES, 2 * MIB);
  await exchange.gone();
};

describe("importImage() by web-download", () => {
  it("downloads an image, and leaves nothing in staging", async () => {
    const { rig, origin } = await withOrigin(honest(BYTES));
    const imageId = await newImage(rig);

    await rig.client.imports.start(imageId, { method: "web-download", uri: origin.url() });
    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome).toMatchObject({
      size: BYTES.length,
      checksum: createHash("md5").update(BYTES).digest("hex"),
      os_hash_value: createHash("sha512").update(BYTES).digest("hex"),
    });
    expect(await rig.state(imageId)).toEqual({
      ...IMPORTED,
      task: ["success", "", { image_id: imageId }],
    });
    expect((await readFile(join(rig.directory, "fast", `${imageId}.1`))).equals(BYTES)).toBe(true);
    expect(await rig.client.imports.status(imageId)).toMatchObject({
      method: "web-download",
      phases: expect.arrayContaining([expect.objectContaining({ phase: "fetching" })]) as unknown,
    });
  });

  it.each([
    { what: "a qcow2", bytes: craftedQcow2(), disk_format: "qcow2" },
    { what: "no marks", bytes: BYTES, disk_format: "raw" },
    { what: "a compressed qcow2", bytes: gzipSync(craftedQcow2()), disk_format: "qcow2" },
    { what: "a compressed disk", bytes: gzipSync(BYTES), disk_format: "raw" },
  ])("finds the format of $what where none is declared", async ({ bytes, disk_format }) => {
    const { rig, origin } = await withOrigin(honest(bytes), {
      import: { transforms: ["decompress"] },
    });
    const { id } = await rig.client.images.create({ containerFormat: "bare" });
    const request = { method: "web-download", uri: origin.url("/disk.img") } as const;

    // Only who asks for it gets it: Glance refuses an image without a format.
    expect(await failureOf(rig.client.imports.start(id, request))).toMatchObject({
      code: "ImageConflict",
      message: "'disk_format' needs to be set before import",
    });
    await rig.client.imports.start(id, { ...request, detectFormat: true });
    await rig.client.imports.wait(id);

    expect(await rig.client.images.show(id)).toMatchObject({ status: "active", disk_format });
  });

  it("finds no format where the bytes are not those of a disk", async () => {
    const { rig, origin } = await withOrigin(honest(gzipSync(BYTES)));
    const { id } = await rig.client.images.create({ containerFormat: "bare" });

    await rig.client.imports.start(id, {
      method: "web-download",
      uri: origin.url("/disk.img"),
      detectFormat: true,
    });

    expect(await failureOf(rig.client.imports.wait(id))).toMatchObject({ code: "UnsafeImage" });
    expect(await rig.client.images.show(id)).toMatchObject({ status: "queued", disk_format: null });
    expect(await rig.state(id)).toMatchObject(QUEUED);
  });

  it("keeps to a format that is declared, also when it may look for one", async () => {
    const { rig, origin } = await withOrigin(honest(craftedQcow2()));
    const imageId = await newImage(rig);

    await rig.client.imports.start(imageId, {
      method: "web-download",
      uri: origin.url("/disk.img"),
      detectFormat: true,
    });

    expect(await failureOf(rig.client.imports.wait(imageId))).toMatchObject({
      code: "FormatMismatch",
    });
  });

  it.each([
    ["a page", "<!DOCTYPE html><html><title>Sign in</title></html>", "an HTML page"],
    ["an error", '<?xml version="1.0"?><Error><Code>NoSuchKey</Code></Error>', "an XML text"],
    ["nothing", "", "it is empty"],
  ])("refuses %s in place of an image, and leaves nothing", async (_, body, reason) => {
    const { rig, origin } = await withOrigin(honest(Buffer.from(body)));
    const imageId = await newImage(rig);

    await rig.client.imports.start(imageId, { method: "web-download", uri: origin.url() });
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure).toMatchObject({
      code: "UnsafeImage",
      message: expect.stringContaining(reason) as string,
    });
    expect(rig.calls.filter((call) => call.startsWith("storeImage"))).toEqual([]);
    expect(await rig.state(imageId)).toMatchObject(QUEUED);
  });

  it("continues where it was after the death of its worker", async () => {
    let isBroken = true;
    const { rig, origin } = await withOrigin(async (exchange) => {
      if (!isBroken) return honest(BYTES)(exchange);
      await sendUpTo(exchange, BYTES, 2 * MIB);
      await exchange.gone();
    });
    const imageId = await newImage(rig);

    await rig.client.imports.start(imageId, { method: "web-download", uri: origin.url() });
    await vi.waitFor(async () => {
      expect((await rig.client.imports.status(imageId)).done_bytes).toBeGreaterThanOrEqual(MIB);
    }, PATIENCE);
    isBroken = false;
    await rig.stopWorkers();
    await rig.startWorkers();
    await rig.client.imports.wait(imageId);

    expect(await rig.state(imageId)).toMatchObject(IMPORTED);
    expect(origin.sentBytes).toBeLessThanOrEqual(BYTES.length + MIB);
  });

  it.each([
    { what: "has no such image", status: 404, code: "SourceRefused" },
    { what: "refuses access", status: 403, code: "SourceRefused" },
  ])("fails permanently when the origin $what, and leaves nothing", async ({ status, code }) => {
    const { rig, origin } = await withOrigin(async (exchange) => {
      exchange.head(status, { "content-length": 0 });
    });
    const imageId = await newImage(rig);

    await rig.client.imports.start(imageId, { method: "web-download", uri: origin.url() });
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toBe(code);
    expect(await rig.state(imageId)).toMatchObject(QUEUED);
    expect(origin.requests.length).toBe(1);
  });

  it("fails when the origin ends it twice at the same byte, and leaves nothing", async () => {
    const promised = BYTES.length + 100;
    const { rig, origin } = await withOrigin(async (exchange) => {
      exchange.head(200, { "content-length": promised });
      await exchange.send(BYTES);
      exchange.end();
    });
    const imageId = await newImage(rig);

    await rig.client.imports.start(imageId, { method: "web-download", uri: origin.url() });
    const failure = await failureOf(rig.client.imports.wait(imageId));

    const where = `${String(BYTES.length)} of ${String(promised)} bytes`;
    expect(failure).toMatchObject({
      code: "SourceRefused",
      message: expect.stringContaining(
        `its connection broke after ${where}, twice at the same place`,
      ) as string,
    });
    expect(await rig.state(imageId)).toMatchObject(QUEUED);
    expect(origin.requests.length).toBe(2);
  });

  it("reaches nothing on this machine unless that is allowed", async () => {
    const origin = await HostileOrigin.start(honest(BYTES));
    const rig = await createRig({ sources: { web: { ports: [origin.port] } } });
    const imageId = await newImage(rig);

    await rig.client.imports.start(imageId, { method: "web-download", uri: origin.url() });
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toBe("SourceForbidden");
    expect(origin.requests).toEqual([]);
    expect(await rig.state(imageId)).toMatchObject(QUEUED);
  });

  it("removes what it has when it is cancelled", async () => {
    const { rig, origin } = await withOrigin(hangInTheMiddle);
    const imageId = await newImage(rig);

    await rig.client.imports.start(imageId, { method: "web-download", uri: origin.url() });
    await vi.waitFor(() => {
      expect(origin.sentBytes).toBeGreaterThan(MIB);
    }, PATIENCE);
    await rig.client.imports.cancel(imageId, { wait: true });

    expect(await rig.state(imageId)).toMatchObject(QUEUED);
  });

  it("is undone by the reconciler when it was terminated", async () => {
    const { rig, origin } = await withOrigin(hangInTheMiddle);
    const imageId = await newImage(rig);
    await rig.client.imports.start(imageId, { method: "web-download", uri: origin.url() });
    await vi.waitFor(() => {
      expect(origin.sentBytes).toBeGreaterThan(MIB);
    }, PATIENCE);
    await rig.run(imageId).terminate("lost");

    await vi.waitFor(
      async () => {
        await rig.reconcile();
        expect(await rig.state(imageId)).toMatchObject(QUEUED);
      },
      { timeout: 50_000, interval: 1_000 },
    );
  });

  it("touches no store when the checksum is another", async () => {
    const { rig, origin } = await withOrigin(honest(BYTES));
    const imageId = await newImage(rig);

    await rig.client.imports.start(imageId, {
      method: "web-download",
      uri: origin.url(),
      checksum: `sha512:${"0".repeat(128)}`,
    });
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toBe("ChecksumMismatch");
    expect(rig.calls.filter((call) => call.startsWith("storeImage"))).toEqual([]);
    expect(await rig.state(imageId)).toMatchObject(QUEUED);
  });

  it("stops before the quota of the owner is exceeded", async () => {
    const { rig, origin } = await withOrigin(honest(BYTES), {
      limits: { image_size_total: 2 * MIB },
    });
    const imageId = await newImage(rig);

    await rig.client.imports.start(imageId, { method: "web-download", uri: origin.url() });
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toBe("QuotaExceeded");
    expect(await rig.state(imageId)).toMatchObject(QUEUED);
    expect((await rig.client.admin.showUsage(null)).usage.image_size_total).toMatchObject({
      usage: 0,
      reserved: 0,
    });
  });

  it("refuses an image that has data staged", async () => {
    const { rig, origin } = await withOrigin(honest(BYTES));
    const imageId = await rig.stagedImage(BYTES);

    const failure = await failureOf(
      rig.client.imports.start(imageId, { method: "web-download", uri: origin.url() }),
    );

    expect(failure).toMatchObject({
      code: "ImageConflict",
      message: `Image needs to be in 'queued' state to use 'web-download' method (image "${imageId}")`,
    });
  });

  it.each(["ftp://example.org/disk.img", "file:///etc/passwd", "http://user@example.org/disk.img"])(
    "refuses to download %s",
    async (uri) => {
      const { rig } = await withOrigin(honest(BYTES));
      const imageId = await newImage(rig);

      const run = await startPlainly(rig, { image_id: imageId, method: "web-download", uri });

      const message = "URI for web-download does not pass filtering";
      await expect(run.result()).rejects.toMatchObject({
        cause: { type: "BadRequest", message: expect.stringContaining(message) as string },
      });
      expect(await rig.state(imageId)).toMatchObject({ ...QUEUED, task: null });
    },
  );
});

/** Starts an import as any client of Temporal may. */
async function startPlainly(rig: ImportRig, input: ImportRequest) {
  return rig.temporal.workflow.start("importImage", {
    args: [input],
    workflowId: `image-import/${input.image_id}`,
    taskQueue: "image-import",
  });
}

describe("importImage() of a URL that holds a secret", () => {
  it.each([
    { what: "succeeds", behaviour: honest(BYTES) },
    {
      what: "fails",
      behaviour: async (exchange) => {
        exchange.head(403, { "content-length": 0 });
      },
    },
  ])("shows it nowhere when it $what", async ({ what, behaviour }) => {
    const { rig, origin } = await withOrigin(behaviour, { keyFile: true });
    const imageId = await newImage(rig);
    const uri = origin.url(`/disk.img?signature=${SECRET}`);

    await rig.client.imports.start(imageId, { method: "web-download", uri });
    const failure = await rig.client.imports.wait(imageId).catch((error: unknown) => error);

    expect(origin.requests[0]?.path).toContain(SECRET);
    const history = historyToJSON(await rig.run(imageId).fetchHistory());
    // Payloads stand in it in base64.
    const payloads = [...history.matchAll(/"data": ?"([^"]*)"/g)].map(([, data = ""]) =>
      Buffer.from(data, "base64").toString("latin1"),
    );
    const told = JSON.stringify([
      history,
      payloads,
      await rig.client.admin.listTasks({ imageId }),
      await rig.client.imports.report(imageId),
      failure instanceof Error ? [failure.message, failure.stack] : failure,
    ]);
    expect(told).not.toContain(SECRET);
    expect(payloads.some((payload) => payload.includes("sealed:v1:"))).toBe(true);
    expect(await rig.state(imageId)).toMatchObject(what === "fails" ? QUEUED : IMPORTED);
  });

  it("is refused in clear", async () => {
    const { rig, origin } = await withOrigin(honest(BYTES));
    const imageId = await newImage(rig);
    const uri = origin.url("/disk?key=1");

    const run = await startPlainly(rig, { image_id: imageId, method: "web-download", uri });

    await expect(run.result()).rejects.toMatchObject({
      cause: { type: "BadRequest", message: expect.stringContaining("may be a secret") as string },
    });
    expect(origin.requests).toEqual([]);
  });

  it("can't be started without a key", async () => {
    const { rig, origin } = await withOrigin(honest(BYTES));
    const imageId = await newImage(rig);

    const failure = await failureOf(
      rig.client.imports.start(imageId, { method: "web-download", uri: origin.url("/disk?key=1") }),
    );

    expect(failure).toMatchObject({
      code: "BadConfiguration",
      message: "Cannot seal the URI, which may contain a secret: no key is configured",
    });
    // Text that is not a URL is not sent at all: it may hold a secret, too.
    const noUrl = { method: "web-download", uri: "example.org/disk?key=1" } as const;
    expect(await failureOf(rig.client.imports.start(imageId, noUrl))).toMatchObject({
      code: "BadRequest",
      message: "Cannot download from the given URI: it has no scheme, such as https://",
    });
    await rig.client.imports.start(imageId, { method: "web-download", uri: origin.url() });
    await rig.client.imports.wait(imageId);
  });
});
