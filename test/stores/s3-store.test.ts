import { randomBytes } from "node:crypto";
import {
  CreateMultipartUploadCommand,
  ListMultipartUploadsCommand,
  ListObjectsV2Command,
  PutObjectCommand,
} from "@aws-sdk/client-s3";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import { isPartName, keyOfPart, newPartName } from "../../src/bytes/part-name.ts";
import { MIN_PART_BYTES } from "../../src/stores/part-plan.ts";
import type { S3StoreOptions } from "../../src/stores/s3-store.ts";
import { storeKey } from "../../src/stores/store.ts";
import { failureOf } from "../support/failure-of.ts";
import { S3Proxy, stall } from "../support/s3-proxy.ts";
import { useS3Server } from "../support/s3-server.ts";
import { s3StoreOf } from "./s3-store-of.ts";
import { orderOf, stage } from "./staged-source.ts";
import { itKeepsTheStoreContract } from "./store-contract.ts";
import { PATIENCE } from "../support/patience.ts";

const IMAGE_ID = "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b";
const KEY = storeKey(IMAGE_ID, 1);
const BYTES = randomBytes(1000);

const server = useS3Server();

let bucket: string;
beforeEach(async () => {
  bucket = await server.makeBucket();
});

afterEach(() => {
  vi.unstubAllEnvs();
});

/** Begins an upload of any key, as other software would. */
async function beginUpload(key: string): Promise<void> {
  await server.client.send(new CreateMultipartUploadCommand({ Bucket: bucket, Key: key }));
}

async function uploadedKeys(): Promise<(string | undefined)[]> {
  const listed = await server.client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
  return (listed.Uploads ?? []).map(({ Key }) => Key);
}

async function objectKeys(): Promise<(string | undefined)[]> {
  const listed = await server.client.send(new ListObjectsV2Command({ Bucket: bucket }));
  return (listed.Contents ?? []).map(({ Key }) => Key);
}

/** Credentials whose secret is wrong. */
function wrongCredentials(): S3StoreOptions["credentials"] {
  return { accessKeyId: server.accessKeyId, secretAccessKey: "nothing" };
}

describe.each(["when_supported", "when_required"] as const)(
  "S3Store, checksums %s",
  (checksums) => {
    // One part at a time: of several none may have arrived when a copy is cancelled halfway.
    const options = { checksums, partsInFlight: 1 };
    itKeepsTheStoreContract(() => s3StoreOf(server, options), MIN_PART_BYTES);
  },
);

describe("S3Store.urlOf()", () => {
  it("names the bucket and the object", async () => {
    const store = await s3StoreOf(server, { bucket: "pictures", prefix: "cloud/a b/" });

    expect(store.urlOf(KEY)).toBe(`s3://pictures/cloud/a%20b/${KEY}`);
  });
});

describe("S3Store.copy()", () => {
  it("writes below its prefix", async () => {
    const store = await s3StoreOf(server, { bucket, prefix: "images/" });

    await (await store.copy(orderOf(await stage(BYTES)))).publish();

    expect(await objectKeys()).toEqual([`images/${KEY}`]);
  });

  it("takes credentials from the environment when it is given none", async () => {
    vi.stubEnv("AWS_ACCESS_KEY_ID", server.accessKeyId);
    vi.stubEnv("AWS_SECRET_ACCESS_KEY", server.secretAccessKey);
    const store = await s3StoreOf(server, { bucket, credentials: undefined });

    await (await store.copy(orderOf(await stage(BYTES)))).publish();

    expect(await objectKeys()).toEqual([KEY]);
  });

  it("fails permanently with wrong credentials", async () => {
    const store = await s3StoreOf(server, { bucket, credentials: wrongCredentials() });

    const failure = await failureOf(store.copy(orderOf(await stage(BYTES))));

    expect(failure).toMatchObject({ code: "PermissionDenied" });
    expect(failure.message).toContain("CreateMultipartUpload failed: SignatureDoesNotMatch");
  });

  it("fails until there is a bucket", async () => {
    const store = await s3StoreOf(server, { bucket: "no-such-bucket" });

    const failure = await failureOf(store.copy(orderOf(await stage(BYTES))));

    expect(failure).toMatchObject({ code: "StoreUnavailable" });
    expect(failure.message).toContain("NoSuchBucket");
  });

  it("fails when its upload is aborted meanwhile", async () => {
    const store = await s3StoreOf(server, { bucket, partsInFlight: 1 });
    const part = newPartName(IMAGE_ID, 1);
    const source = await stage(randomBytes(2 * MIN_PART_BYTES));
    const read = source.handle.read.bind(source.handle) as (...range: unknown[]) => Promise<never>;
    let readsOfSecondPart = 0;
    vi.spyOn(source.handle, "read").mockImplementation(async (...range: unknown[]) => {
      // First it is hashed, while the first part is still on its way; then it is to be sent.
      if (range[3] === MIN_PART_BYTES) readsOfSecondPart += 1;
      if (readsOfSecondPart === 2) await store.remove([part]);
      return read(...range);
    });

    const failure = await failureOf(store.copy(orderOf(source, { part })));

    expect(failure).toMatchObject({ code: "StoreUnavailable" });
    // A server that answers before it has read a body may break the connection before its answer is
    // read.
    expect(failure.message).toMatch(/NoSuchUpload|ECONNRESET|EPIPE/);
  });
});

describe.each(["open", "find"] as const)("S3Store.%s()", (look) => {
  it("ends its wait for a response when it is aborted", async () => {
    const proxy = await S3Proxy.open(server);
    const store = await s3StoreOf(server, { bucket, endpoint: proxy.endpoint });
    proxy.inject({ when: () => true, fault: stall() });
    const enough = new AbortController();
    const looking = store[look](KEY, enough.signal);
    await vi.waitUntil(() => proxy.requests.length === 1, PATIENCE);

    enough.abort(new Error("Enough"));

    await expect(looking).rejects.toBe(enough.signal.reason);
  });
});

describe("S3Store.remove()", () => {
  it("aborts all uploads of a private name's key, and of no other", async () => {
    const store = await s3StoreOf(server, { bucket });
    for (const key of [KEY, KEY, `${KEY}0`, "backup.tar"]) await beginUpload(key);

    await store.remove([newPartName(IMAGE_ID, 1)]);

    expect(await uploadedKeys()).toEqual([`${KEY}0`, "backup.tar"]);
  });

  it("aborts no upload with a key, and deletes no object with a private name", async () => {
    const store = await s3StoreOf(server, { bucket });
    const otherKey = storeKey(IMAGE_ID, 2);
    await beginUpload(KEY);
    await server.client.send(new PutObjectCommand({ Bucket: bucket, Key: otherKey, Body: "x" }));

    await store.remove([KEY, newPartName(IMAGE_ID, 2)]);

    expect(await uploadedKeys()).toEqual([KEY]);
    expect(await objectKeys()).toEqual([otherKey]);
  });

  it.each([
    ["a private name", newPartName(IMAGE_ID, 1)],
    ["a key", KEY],
  ])("does not treat a missing bucket as one without %s", async (_, name) => {
    const store = await s3StoreOf(server, { bucket: "no-such-bucket" });

    expect(await failureOf(store.remove([name]))).toMatchObject({ code: "StoreUnavailable" });
  });
});

describe("S3Store.listParts()", () => {
  it("lists uploads of keys like ours, below the prefix, by names that can be removed", async () => {
    const store = await s3StoreOf(server, { bucket, prefix: "images/" });
    const others = [KEY, `images/backup.tar`, `images/more/${KEY}`, `images/${IMAGE_ID}`];
    for (const key of [...others, `images/${KEY}`, `images/${KEY}`]) await beginUpload(key);

    const parts = await store.listParts(-1);

    expect(parts.every(isPartName)).toBe(true);
    expect(parts.map(keyOfPart)).toEqual([KEY, KEY]);
    await store.remove(parts);
    expect((await uploadedKeys()).sort()).toEqual([...others].sort());
  });

  it("lists all of them, however many there are", async () => {
    const store = await s3StoreOf(server, { bucket });
    const keys = Array.from({ length: 1001 }, (_, index) => storeKey(IMAGE_ID, index));
    // Some at a time: all at once would need as many connections.
    for (let index = 0; index < keys.length; index += 50) {
      await Promise.all(keys.slice(index, index + 50).map(beginUpload));
    }

    const parts = await store.listParts(-1);

    expect(new Set(parts.map(keyOfPart))).toEqual(new Set(keys));
  });

  it("gives two uploads of one key names of their own, the same at every time", async () => {
    const store = await s3StoreOf(server, { bucket });
    for (const key of [KEY, KEY]) await beginUpload(key);

    const parts = await store.listParts(-1);

    expect(new Set(parts).size).toBe(2);
    expect(await store.listParts(-1)).toEqual(parts);
  });
});

describe("S3Store.check()", () => {
  it.each(["readable", "writable", "trial"] as const)("finds a bucket %s", async (look) => {
    const store = await s3StoreOf(server, { bucket });

    expect(await store.check(look)).toEqual({ works: true });
  });

  it("leaves nothing of a trial behind", async () => {
    const store = await s3StoreOf(server, { bucket });

    await store.check("trial");

    expect(await objectKeys()).toEqual([]);
    expect(await uploadedKeys()).toEqual([]);
  });

  it.each(["readable", "writable", "trial"] as const)(
    "names the server, the bucket and the error of one that is not %s",
    async (look) => {
      const store = await s3StoreOf(server, { bucket, credentials: wrongCredentials() });

      const { works, reason } = await store.check(look);

      expect(works).toBe(false);
      expect(reason).toMatch(
        `Cannot use store "objects" (bucket "${bucket}" of ${server.endpoint}): `,
      );
      expect(reason).toMatch(look === "readable" ? "Forbidden" : "SignatureDoesNotMatch");
    },
  );

  it("reports a missing bucket", async () => {
    const store = await s3StoreOf(server, { bucket: "no-such-bucket" });

    expect(await store.check()).toMatchObject({
      works: false,
      reason: expect.stringContaining("NoSuchBucket") as string,
    });
  });

  it("reports a missing server", async () => {
    const store = await s3StoreOf(server, { bucket, endpoint: "http://127.0.0.1:1" });

    expect(await store.check()).toMatchObject({
      works: false,
      reason: expect.stringContaining("ECONNREFUSED") as string,
    });
  });
});
