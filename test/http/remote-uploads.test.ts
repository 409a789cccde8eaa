import { createHash, randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { CommandLine } from "../support/command-line.ts";
import { MIB } from "../support/mib.ts";
import { Relay } from "../support/relay.ts";
import { SharedStack, writeDisk } from "../support/shared-stack.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { ApiProcess } from "./api-process.ts";
import { WireClient } from "./wire-client.ts";

// Uploads of the command line over HTTP, through a network and servers that fail.

const SIZE_BYTES = 24 * MIB;
// The most that is sent again for each failure.
const AGAIN_BYTES = 4 * MIB;
const HEADS_BYTES = 64 * 1024;

const stack = new SharedStack();

function away(url: string, prefix: readonly string[] = []): CommandLine {
  const dataDir = join(makeTemporaryDirectory(), "nowhere");
  return new CommandLine({
    prefix,
    env: { IMAGE_IMPORT_DATA_DIR: dataDir, IMAGE_IMPORT_API: url },
  });
}

function sha512(file: string): string {
  return createHash("sha512").update(readFileSync(file)).digest("hex");
}

/** The bytes that the API has of the unfinished upload of an image, once it has some. */
async function offsetOf(imageId: string): Promise<number> {
  const api = new WireClient(stack.file.api_url ?? "", { "tus-resumable": "1.0.0" });
  const { headers } = await api.send("POST", "/uploads", {
    headers: {
      "upload-length": "1",
      "upload-metadata": `image_id ${Buffer.from(imageId).toString("base64")}`,
    },
  });
  const { pathname } = new URL(headers.get("location") ?? "");
  const head = await api.send("HEAD", pathname);
  return Number(head.headers.get("upload-offset"));
}

test("an upload resumes where its connection broke", async () => {
  const relay = await Relay.open(stack.file.api_url ?? "");
  relay.cutRequestsAfter(8 * MIB, 2);
  const disk = writeDisk(SIZE_BYTES);
  const remote = away(relay.through(stack.file.api_url ?? ""));
  const outcome = await remote.answer("import", disk);
  expect(outcome).toMatchObject({ status: "active", os_hash_value: sha512(disk) });
  expect(relay.sentBytes).toBeLessThan(SIZE_BYTES + 2 * AGAIN_BYTES + HEADS_BYTES);
});

test("an upload continues after the death of the API", async () => {
  const api = await ApiProcess.start(stack);
  const relay = await Relay.open(api.url);
  const disk = writeDisk(SIZE_BYTES);
  const importing = away(relay.through(api.url)).start("import", disk);
  await relay.freezeAfter(12 * MIB);
  await api.stop("SIGKILL");
  const next = await ApiProcess.start(stack);
  relay.leadTo(next.url);
  relay.thaw();
  relay.cut();
  const { exitCode, answer } = await importing.result();
  expect([exitCode, answer]).toMatchObject([0, { os_hash_value: sha512(disk) }]);
  expect(relay.sentBytes).toBeLessThan(SIZE_BYTES + AGAIN_BYTES + HEADS_BYTES);
});

test("the same command continues after the death of the first one", async () => {
  const relay = await Relay.open(stack.file.api_url ?? "");
  const remote = away(relay.through(stack.file.api_url ?? ""));
  const disk = writeDisk(SIZE_BYTES);
  const id = randomUUID();
  const importing = remote.start("import", "--id", id, disk);
  await relay.freezeAfter(12 * MIB);
  await importing.kill();
  relay.thaw();
  relay.cut();
  const sentBefore = relay.sentBytes;
  const offset = await offsetOf(id);
  const other = await remote.json("import", "--id", id, writeDisk(SIZE_BYTES - 1));
  expect(other).toMatchObject({ exitCode: 4, failure: { code: "ImageConflict", image: "kept" } });
  const outcome = await remote.answer("import", "--id", id, disk);
  expect(outcome).toMatchObject({ image_id: id, os_hash_value: sha512(disk) });
  expect(offset).toBeGreaterThan(0);
  expect(relay.sentBytes - sentBefore).toBeLessThan(SIZE_BYTES - offset + HEADS_BYTES);
  const again = await remote.json("import", "--id", id, disk);
  expect(again).toMatchObject({ exitCode: 4, failure: { code: "ImageExists" } });
});

test("data that is staged already is not sent again", async () => {
  const relay = await Relay.open(stack.file.api_url ?? "");
  const remote = away(relay.through(stack.file.api_url ?? ""));
  const id = await stack.queuedImage();
  const disk = writeDisk(3 * MIB);
  const staged = await remote.answer("image", "stage", id, disk);
  expect(await remote.answer("image", "stage", id, disk)).toEqual(staged);
  expect(relay.sentBytes).toBeLessThan(3 * MIB + HEADS_BYTES);
  const other = writeDisk(3 * MIB);
  const refused = await remote.json("image", "stage", id, other);
  expect(refused.failure).toMatchObject({ code: "ImageConflict" });
  const replaced = await remote.answer("image", "stage", id, other, "--replace");
  expect(replaced).toMatchObject({ os_hash_value: sha512(other) });
});

test("standard input is sent with one request, and its digests are compared", async () => {
  const disk = writeDisk(2 * MIB + 3);
  const shell = ["sh", "-c", `exec "$@" < '${disk}'`, "sh"];
  const remote = away(stack.file.api_url ?? "", shell);
  const outcome = await remote.answer("import", "-", "--name", "piped");
  expect(outcome).toMatchObject({ status: "active", size: 2 * MIB + 3 });
  expect(outcome).toMatchObject({ os_hash_value: sha512(disk) });
});
