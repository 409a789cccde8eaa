import { createHash, randomBytes } from "node:crypto";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import postgres from "postgres";
import { describe, expect, onTestFinished, test, vi } from "vitest";
import { copyHoldsEnv } from "../support/copy-holds-env.ts";
import { CopyHolds } from "../support/copy-holds.ts";
import { MIB } from "../support/mib.ts";
import { PATIENCE } from "../support/patience.ts";
import { SharedStack } from "../support/shared-stack.ts";
import { waitForStandstill } from "../support/standstill.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { ApiProcess } from "./api-process.ts";
import { changeLease, OpenPatch, TusClient } from "./tus-client.ts";

// An upload continues in another API while the one before it may still write, or died at a bad
// moment.

const stack = new SharedStack();
const url = stack.file.api_url ?? "";
const api = new TusClient(url);

/** The files of an image in the staging area, and their sizes. */
function filesOf(id: string): Record<string, number> {
  const names = readdirSync(stack.staging).filter((name) => name.startsWith(id));
  return Object.fromEntries(
    names.flatMap((name) => {
      const found = statSync(join(stack.staging, name), { throwIfNoEntry: false });
      return found === undefined ? [] : [[name, found.size]];
    }),
  );
}

/**
 * Uploads the rest, and expects that the image is active with these bytes, and nothing else left.
 */
async function finish(id: string, path: string, bytes: Buffer): Promise<void> {
  const offset = await api.offsetOf(path);
  expect((await api.patch(path, offset, bytes.subarray(offset))).status).toBe(204);
  const shown = async () => (await api.send("GET", `/v2/images/${id}`)).body;
  await vi.waitUntil(async () => (await shown()).status === "active", PATIENCE);
  const { checksum } = await shown();
  expect(checksum).toBe(createHash("md5").update(bytes).digest("hex"));
  await vi.waitUntil(() => Object.keys(filesOf(id)).length === 0, PATIENCE);
}

/** An API whose writing stands still from this byte on. */
async function heldApi(atBytes: number): Promise<ApiProcess> {
  const directory = makeTemporaryDirectory();
  new CopyHolds(directory).holdUploads(atBytes);
  return ApiProcess.start(stack, {}, [], copyHoldsEnv(directory));
}

/** An upload whose first half one API wrote, which stands still now with more bytes before it. */
async function stoppedUpload(bytes: Buffer) {
  const { id, path } = await api.begin(bytes.length, { import: "true" });
  const still = await ApiProcess.start(stack);
  const zombie = new OpenPatch(still.url, path, 0, bytes.length);
  const half = bytes.length / 2;
  zombie.send(bytes.subarray(0, half));
  await vi.waitUntil(async () => (await api.offsetOf(path)) === half, PATIENCE);
  still.child.kill("SIGSTOP");
  await waitForStandstill(still.child.pid);
  // What it finds when it wakes up are other bytes.
  zombie.send(randomBytes(half));
  await changeLease(stack, id, "renewed_at", 60);
  return { id, path, half, still, zombie };
}

describe("an upload whose API stands still, and may write again", () => {
  test.each([
    ["the API that copies the bytes is killed", "SIGKILL"],
    ["the connection breaks while the bytes are copied", undefined],
  ] as const)("loses no byte when %s", async (_what, signal) => {
    const bytes = randomBytes(12 * MIB);
    const { id, path, half, still, zombie } = await stoppedUpload(bytes);
    const copying = await heldApi(2 * MIB);
    const next = new OpenPatch(copying.url, path, half, half);
    next.send(bytes.subarray(half));
    // Two parts: the one to copy, and the copy.
    await vi.waitUntil(() => Object.values(filesOf(id)).some((size) => size === 2 * MIB), PATIENCE);
    expect(await api.offsetOf(path)).toBe(half);

    if (signal === undefined) next.cut();
    else await copying.stop(signal);
    expect(await api.offsetOf(path)).toBe(half);
    // It must not take away what is still to be copied, nor add to it.
    still.child.kill("SIGCONT");
    expect(await zombie.answer).toBe(423);
    expect(await api.offsetOf(path)).toBe(half);
    if (signal === undefined) await copying.stop("SIGKILL");

    await finish(id, path, bytes);
  });

  test("keeps what was confirmed since, and nothing of the old connection", async () => {
    const bytes = randomBytes(12 * MIB);
    const { id, path, half, still, zombie } = await stoppedUpload(bytes);
    expect((await api.patch(path, half, bytes.subarray(half, half + MIB))).status).toBe(204);
    still.child.kill("SIGCONT");
    expect(await zombie.answer).toBe(423);
    expect(await api.offsetOf(path)).toBe(half + MIB);
    expect(Object.values(filesOf(id))).toEqual([half + MIB]);
    await finish(id, path, bytes);
  });

  test("is ended, and its old connection restores nothing", async () => {
    const { id, path, still, zombie } = await stoppedUpload(randomBytes(12 * MIB));
    expect((await api.send("DELETE", path, { headers: { "tus-resumable": "1.0.0" } })).status).toBe(
      204,
    );
    still.child.kill("SIGCONT");
    expect(await zombie.answer).toBe(410);
    expect(filesOf(id)).toEqual({});
    expect((await api.begin(10, { image_id: id })).path).not.toBe(path);
  });

  test("expires, and its old connection restores nothing", async () => {
    const { id, path, still, zombie } = await stoppedUpload(randomBytes(12 * MIB));
    await changeLease(stack, id, "resumable_until", 1);
    const shown = async () => (await api.send("GET", `/v2/images/${id}`)).body.status;
    await vi.waitUntil(async () => (await shown()) === "queued", PATIENCE);
    still.child.kill("SIGCONT");
    expect(await zombie.answer).toBe(410);
    expect(filesOf(id)).toEqual({});
    expect((await api.head(path)).status).toBe(410);
  });
});

describe("an upload whose API dies between the publication of the file and its commit", () => {
  test.each([
    ["one request that brings all bytes", 0],
    ["the last of several requests", MIB],
  ])("continues after %s", async (_what, firstBytes) => {
    const bytes = randomBytes(4 * MIB);
    const { id, path } = await api.begin(bytes.length, { import: "true" });
    if (firstBytes > 0) await api.patch(path, 0, bytes.subarray(0, firstBytes));
    const mortal = await ApiProcess.start(stack);
    const last = new OpenPatch(mortal.url, path, firstBytes, bytes.length - firstBytes);
    last.send(bytes.subarray(firstBytes, 3 * MIB));
    await vi.waitUntil(async () => (await api.offsetOf(path)) === 3 * MIB, PATIENCE);
    const release = await lockImage(id);
    last.send(bytes.subarray(3 * MIB));
    await vi.waitUntil(() => Object.keys(filesOf(id)).join() === id, PATIENCE);

    await mortal.stop("SIGKILL");
    await release();

    // The last byte does not count before the upload is complete.
    expect(await api.offsetOf(path)).toBe(bytes.length - 1);
    await finish(id, path, bytes);
    expect(await api.offsetOf(path)).toBe(bytes.length);
  });
});

/**
 * Holds the row of an image, so that no upload of it is committed. @returns a function that lets go
 */
async function lockImage(id: string): Promise<() => Promise<void>> {
  const sql = postgres(stack.file.database_url, { max: 1 });
  let letGo = (): void => undefined;
  const released = new Promise<void>((resolve) => {
    letGo = resolve;
  });
  let isHeld = (): void => undefined;
  const held = new Promise<void>((resolve) => {
    isHeld = resolve;
  });
  const holding = sql.begin(async (transaction) => {
    await transaction`SELECT FROM images WHERE id = ${id} FOR UPDATE`;
    isHeld();
    await released;
  });
  const release = async (): Promise<void> => {
    letGo();
    await holding;
    await sql.end();
  };
  onTestFinished(release);
  await held;
  return release;
}
