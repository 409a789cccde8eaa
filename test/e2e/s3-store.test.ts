import { randomUUID } from "node:crypto";
import { mkdirSync, statSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import type { VerifiedLocation } from "../../src/client/read-image.ts";
import { writeRandomFile } from "../support/disk-images.ts";
import { digestsOf } from "../support/file-digests.ts";
import { bucketTraces, imageTraces } from "../support/image-traces.ts";
import { MIB } from "../support/mib.ts";
import { Relay } from "../support/relay.ts";
import { useRunningStack } from "../support/running-stack.ts";
import { S3Gate } from "../support/s3-gate.ts";
import { useS3Proxy, type S3Request } from "../support/s3-proxy.ts";
import { useS3Server } from "../support/s3-server.ts";
import { makeSeparateService } from "../support/separate-service.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { WorkerProcess } from "../support/worker-process.ts";

const PART_BYTES = 5 * MIB;
/** Seven parts. */
const IMAGE_BYTES = 32 * MIB;
/** Three parts. */
const SMALL_BYTES = 12 * MIB;

/** The time for a condition to become true; generous, because machines are busy. */
const PATIENCE = { timeout: 60_000, interval: 10 };

const server = useS3Server();
const proxy = useS3Proxy(server);

/** The settings of a store in a bucket, which sends one part at a time. */
function s3Settings(bucket: string, prefix: string) {
  return {
    type: "s3",
    bucket,
    prefix,
    endpoint: proxy.endpoint,
    part_size: "5MiB",
    parts_in_flight: 1,
  };
}

let bucket: string;
const stack = useRunningStack({
  env: server.env,
  config: async () => {
    bucket = await server.makeBucket();
    return {
      stores: {
        files: { zero_copy: false },
        objects: s3Settings(bucket, "objects"),
      },
      import: { heartbeat_timeout: "3s" },
    };
  },
});

const { commandLine } = stack;

async function writeDisk(sizeBytes = IMAGE_BYTES): Promise<string> {
  const path = join(makeTemporaryDirectory(), "disk.raw");
  await writeRandomFile(path, sizeBytes);
  return path;
}

/** Starts to import a new file with one command. */
async function startImport(
  stores: readonly string[],
  sizeBytes = IMAGE_BYTES,
  imageId: string = randomUUID(),
) {
  const path = await writeDisk(sizeBytes);
  const options = stores.flatMap((store) => ["--store", store]);
  const importing = commandLine.start("import", path, "--id", imageId, ...options);
  return { imageId, path, importing };
}

/** The parts of an image that were sent so far, also those that did not arrive. */
function partsOf(imageId: string): S3Request[] {
  return proxy.requests.filter(
    ({ operation, path }) => operation === "UploadPart" && path.includes(imageId),
  );
}

function numbersOf(parts: readonly S3Request[]): (number | undefined)[] {
  return parts.map(({ partNumber }) => partNumber);
}

/** The numbers of those parts that the server has taken. */
function arrived(parts: readonly S3Request[]): (number | undefined)[] {
  return numbersOf(parts.filter(({ status }) => status === 200));
}

/** Holds the first request that sends this part of an image: all parts before it have arrived. */
function holdPart(imageId: string, number: number, how: "before" | "resets"): S3Gate {
  const gate = new S3Gate();
  proxy.inject({
    when: ({ operation, path, partNumber }) =>
      operation === "UploadPart" && path.includes(imageId) && partNumber === number,
    fault: gate[how],
  });
  onTestFinished(gate.open);
  return gate;
}

/** The server's file of the object of an image's first import. */
function objectPath(imageId: string, prefix: string): string {
  return join(server.directory, bucket, prefix, `${imageId}.1`);
}

/**
 * The file of an image's first import, in the store of files, and when it was last written. Its
 * ctime does not show that: a published file loses its private name a moment after it has got this
 * one.
 */
function fileOf(imageId: string): { readonly ino: number; readonly mtimeMs: number } | undefined {
  const found = statSync(join(stack.store("files"), `${imageId}.1`), { throwIfNoEntry: false });
  return found && { ino: found.ino, mtimeMs: found.mtimeMs };
}

async function traces(imageId: string): Promise<object> {
  return {
    stack: await stack.traces(imageId),
    bucket: await bucketTraces(server, bucket, imageId),
  };
}

const NOTHING = {
  stack: {
    isClaimed: false,
    locations: [],
    leases: [],
    staging: [],
    stores: { files: [], local: [] },
  },
  bucket: { objects: [], uploads: [] },
};

/**
 * The only traces of an image that was imported into these stores, one of them in the bucket.
 */
function imported(...stores: readonly string[]): object {
  const inBucket = stores.filter((store) => store !== "files");
  return {
    stack: {
      ...NOTHING.stack,
      image: "active",
      locations: stores.map((store) => `${store} active`),
      stores: { files: stores.includes("files") ? ["@.1"] : [], local: [] },
    },
    bucket: { objects: inBucket.map((store) => `${store}/@.1`), uploads: [] },
  };
}

describe("an import into S3", () => {
  it("publishes a copy there and one in files, which are as they were imported and are deleted with the image", async () => {
    const { imageId, path, importing } = await startImport(["files", "objects"], SMALL_BYTES);
    const result = await importing.result();
    const published = await traces(imageId);
    const verified = (await commandLine.answer("image", "verify", imageId)) as VerifiedLocation[];

    await commandLine.answer("image", "delete", imageId);

    const digests = await digestsOf(path);
    expect(result).toMatchObject({ exitCode: 0, answer: { status: "active", ...digests } });
    expect(published).toEqual(imported("files", "objects"));
    expect(verified.map(({ store, ok }) => [store, ok]).sort()).toEqual([
      ["files", true],
      ["objects", true],
    ]);
    expect(await traces(imageId)).toEqual({
      ...NOTHING,
      stack: { ...NOTHING.stack, image: "deleted" },
    });
  });

  it("is downloaded unchanged when only S3 has it", async () => {
    const { imageId, path, importing } = await startImport(["objects"], SMALL_BYTES);
    await importing.result();
    const output = join(makeTemporaryDirectory(), "downloaded.raw");

    await commandLine.answer("image", "download", imageId, "--output", output);

    expect(await digestsOf(output)).toEqual(await digestsOf(path));
  });

  it("sends no part again that had arrived when its worker was killed, and keeps the finished file", async () => {
    const imageId = randomUUID();
    const fourth = holdPart(imageId, 4, "resets");
    const { path, importing } = await startImport(["files", "objects"], IMAGE_BYTES, imageId);
    await fourth.reached;
    const file = await vi.waitUntil(() => fileOf(imageId), PATIENCE);
    await stack.kill("worker");
    const kept = arrived(partsOf(imageId));

    const result = await importing.result();

    const parts = partsOf(imageId);
    const sentBytes = parts.reduce((sum, { bodyBytes }) => sum + bodyBytes, 0);
    const digests = await digestsOf(path);
    expect(kept).toEqual([1, 2, 3]);
    expect(numbersOf(parts).filter((number) => kept.includes(number))).toEqual(kept);
    expect(sentBytes - IMAGE_BYTES).toBeLessThanOrEqual(PART_BYTES);
    expect(result).toMatchObject({ exitCode: 0, answer: { status: "active", ...digests } });
    expect(await digestsOf(objectPath(imageId, "objects"))).toEqual(digests);
    expect(fileOf(imageId)).toEqual(file);
    expect(await traces(imageId)).toEqual(imported("files", "objects"));
  });

  it("waits for an S3 server that is down, and keeps the file that was finished meanwhile", async () => {
    await server.kill();
    const { imageId, path, importing } = await startImport(["files", "objects"]);
    const file = await vi.waitUntil(() => fileOf(imageId), PATIENCE);
    await vi.waitUntil(() => proxy.requests.some(({ path: of }) => of.includes(imageId)), PATIENCE);

    await server.start();
    const result = await importing.result();

    const digests = await digestsOf(path);
    expect(result).toMatchObject({ exitCode: 0, answer: { status: "active", ...digests } });
    expect(await digestsOf(objectPath(imageId, "objects"))).toEqual(digests);
    expect(fileOf(imageId)).toEqual(file);
    expect(await traces(imageId)).toEqual(imported("files", "objects"));
  });
});

describe("cancel --wait in the middle of a copy into S3", () => {
  it("leaves nothing in the bucket and an image that can be imported at once", async () => {
    const imageId = randomUUID();
    const path = await writeDisk();
    const formats = ["--disk-format", "raw", "--container-format", "bare"];
    await commandLine.answer("image", "create", "--id", imageId, ...formats);
    await commandLine.answer("image", "stage", imageId, path);
    const second = holdPart(imageId, 2, "resets");
    await commandLine.answer("start", imageId, "--store", "objects");
    await second.reached;

    const cancelled = await commandLine.json("cancel", imageId, "--wait");
    const left = await traces(imageId);
    const again = await commandLine.json("start", imageId, "--store", "objects", "--wait");

    expect(cancelled).toMatchObject({ exitCode: 0, answer: { status: "cancelled" } });
    expect(left).toEqual({
      ...NOTHING,
      stack: { ...NOTHING.stack, image: "uploading", staging: ["@"] },
    });
    expect(again).toMatchObject({ exitCode: 0, answer: await digestsOf(path) });
  });
});

describe("a worker that stands still in the middle of a copy into S3 until another one has finished it", () => {
  it("changes nothing when it continues", async () => {
    const service = await openOwnService();
    // Between the first worker and Temporal: once it is cut, that worker does not learn that it
    // is late.
    const relay = await Relay.open(`http://${stack.file.temporal_address}`);
    const { host } = new URL(relay.through(`http://${stack.file.temporal_address}`));
    const late = await WorkerProcess.start({ ...service.env, TEMPORAL_ADDRESS: host });
    const imageId = randomUUID();
    const path = await writeDisk(SMALL_BYTES);
    const second = holdPart(imageId, 2, "before");
    const importing = service.commandLine.start("import", path, "--id", imageId);
    await second.reached;
    await late.stop();
    relay.freeze();
    relay.cut();

    await WorkerProcess.start(service.env);
    const result = await importing.result();
    const finished = await service.look(imageId);
    const unfinished = late.openFiles(imageId);
    late.continue();
    second.open();
    // The staged file is the last thing that it lets go, whatever it tried before.
    await vi.waitUntil(() => late.openFiles(imageId).length === 0, PATIENCE);

    const digests = await digestsOf(path);
    expect(unfinished).toHaveLength(1);
    expect(result).toMatchObject({ exitCode: 0, answer: { status: "active", ...digests } });
    expect(finished).toMatchObject({
      digests,
      traces: { image: "active", isClaimed: false, locations: ["late active"], leases: [] },
      bucket: { objects: ["late/@.1"], uploads: [] },
    });
    expect(await service.look(imageId)).toEqual(finished);
  });
});

/**
 * A service without any worker, on the servers of the stack, with a place of its own in the bucket.
 */
async function openOwnService() {
  const { commandLine, config, env } = await makeSeparateService(stack);
  const dataDir = dirname(config);
  mkdirSync(join(dataDir, "stores"));
  const stores = { late: s3Settings(bucket, "late") };
  // JSON is YAML too.
  writeFileSync(config, JSON.stringify({ stores, import: { heartbeat_timeout: "3s" } }));
  await commandLine.answer("migrate");
  return {
    commandLine,
    env: { ...env, ...server.env },
    /** All that is to be seen of an image whose import has ended. */
    look: async (imageId: string) => {
      const object = objectPath(imageId, "late");
      const { ino, mtimeMs } = statSync(object);
      return {
        inode: ino,
        mtimeMs,
        digests: await digestsOf(object),
        image: await commandLine.answer("image", "show", imageId),
        tasks: await commandLine.answer("task", "list", "--image", imageId),
        traces: await imageTraces(env["DATABASE_URL"] ?? "", dataDir, imageId),
        bucket: await bucketTraces(server, bucket, imageId),
      };
    },
  };
}
