import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { request, type IncomingMessage } from "node:http";
import postgres from "postgres";
import { beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { waitForPart } from "../support/growing-part.ts";
import { MIB } from "../support/mib.ts";
import { PATIENCE } from "../support/patience.ts";
import { useRunningStack } from "../support/running-stack.ts";
import { OpenPatch, TusClient } from "../http/tus-client.ts";

// A program of the stack is killed while half of an upload over HTTP is there. The same with large
// images, and with the client killed: `scripts/killed-uploads.mjs`.

const BYTES = randomBytes(16 * MIB);
const HALF_BYTES = BYTES.length / 2;

const stack = useRunningStack();
let api: TusClient;

beforeEach(() => {
  api = new TusClient(stack.file.api_url ?? "");
});

/** A PUT of the data of an image, of which the test sends one half after the other. */
async function beginPut(id: string) {
  const put = request(new URL(`/v2/images/${id}/file`, stack.file.api_url ?? ""), {
    method: "PUT",
    headers: { "content-type": "application/octet-stream", "content-length": BYTES.length },
  });
  put.on("error", () => undefined);
  onTestFinished(() => {
    put.destroy();
  });
  const status = once(put, "response").then(
    ([answer]: IncomingMessage[]) => answer?.resume().statusCode,
    () => undefined,
  );
  put.write(BYTES.subarray(0, HALF_BYTES));
  await waitForPart(stack.staging, id, HALF_BYTES - 2 * MIB);
  return { status, sendRest: () => put.end(BYTES.subarray(HALF_BYTES)) };
}

async function becomes(id: string, status: string): Promise<void> {
  await vi.waitUntil(async () => {
    const shown = await api.send("GET", `/v2/images/${id}`).catch(() => undefined);
    return shown?.body.status === status;
  }, PATIENCE);
}

/** Waits until the image is active with all bytes, and nothing of the upload is left. */
async function expectComplete(id: string): Promise<void> {
  await becomes(id, "active");
  const { checksum } = (await api.send("GET", `/v2/images/${id}`)).body;
  expect(checksum).toBe(createHash("md5").update(BYTES).digest("hex"));
  await expectNoUpload(id);
}

/** Waits until no file in the staging area and no lease are left of an upload. */
async function expectNoUpload(id: string): Promise<void> {
  const sql = postgres(stack.file.database_url, { max: 1 });
  onTestFinished(() => sql.end());
  await vi.waitUntil(async () => {
    const leases = await sql`SELECT FROM leases WHERE image_id = ${id} AND place = 'upload'`;
    return leases.length === 0 && (await stack.traces(id)).staging.length === 0;
  }, PATIENCE);
}

describe("a PUT, when half of it is there", () => {
  it.each([["worker"], ["temporal"]] as const)(
    "continues, and the image is active, after the death of %s",
    async (program) => {
      const { id } = await api.create();
      const put = await beginPut(id);

      await stack.kill(program);
      put.sendRest();

      expect(await put.status).toBe(204);
      await expectComplete(id);
    },
  );

  it("leaves a queued image, and nothing else, after the death of the API", async () => {
    const { id } = await api.create();
    const put = await beginPut(id);

    await stack.kill("api");

    expect(await put.status).toBeUndefined();
    await becomes(id, "queued");
    await expectNoUpload(id);
  });
});

describe("an upload that survives, when half of it is there", () => {
  it.each([["worker"], ["temporal"]] as const)(
    "continues, and the image is active, after the death of %s",
    async (program) => {
      const { id, path } = await api.begin(BYTES.length, { import: "true" });
      const patch = new OpenPatch(stack.file.api_url ?? "", path, 0, BYTES.length);
      patch.send(BYTES.subarray(0, HALF_BYTES));
      await vi.waitUntil(async () => (await api.offsetOf(path)) === HALF_BYTES, PATIENCE);

      await stack.kill(program);
      patch.send(BYTES.subarray(HALF_BYTES));

      expect(await patch.answer).toBe(204);
      await expectComplete(id);
    },
  );

  it("resumes at the same byte after the death of the API", async () => {
    const { id, path } = await api.begin(BYTES.length, { import: "true" });
    const patch = new OpenPatch(stack.file.api_url ?? "", path, 0, BYTES.length);
    patch.send(BYTES.subarray(0, HALF_BYTES));
    await vi.waitUntil(async () => (await api.offsetOf(path)) === HALF_BYTES, PATIENCE);

    await stack.kill("api");

    expect(await patch.answer).toBeUndefined();
    // The stack starts it again at the same address.
    await vi.waitUntil(async () => api.head(path).catch(() => undefined), PATIENCE);
    expect(await api.offsetOf(path)).toBe(HALF_BYTES);
    expect((await api.patch(path, HALF_BYTES, BYTES.subarray(HALF_BYTES))).status).toBe(204);
    await expectComplete(id);
  });
});
