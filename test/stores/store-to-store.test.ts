import { randomBytes } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { beforeEach, describe, expect, it, onTestFinished } from "vitest";
import { newPartName } from "../../src/bytes/part-name.ts";
import { readFully } from "../../src/bytes/positional-io.ts";
import { FileStore } from "../../src/stores/file-store.ts";
import { MIN_PART_BYTES } from "../../src/stores/part-plan.ts";
import type { S3Store } from "../../src/stores/s3-store.ts";
import { storeKey, type CopyOrder, type OpenCopy, type Store } from "../../src/stores/store.ts";
import { mountCloningVolume, WHY_NO_CLONES } from "../support/cloning-volume.ts";
import { S3Proxy, slowDown } from "../support/s3-proxy.ts";
import { useS3Server } from "../support/s3-server.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { s3StoreOf } from "./s3-store-of.ts";
import { orderOf, stage } from "./staged-source.ts";

const IMAGE_ID = "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b";
const KEY = storeKey(IMAGE_ID, 1);
const COPY_KEY = storeKey(IMAGE_ID, 2);
const THREE_PARTS = randomBytes(2 * MIN_PART_BYTES + 17);

const server = useS3Server();

let proxy: S3Proxy;
beforeEach(async () => {
  proxy = await S3Proxy.open(server);
});

/** A store in a bucket of its own, by way of the proxy; all of them are on one server. */
async function objects(options: { readonly checksums?: "when_required" } = {}): Promise<S3Store> {
  return s3StoreOf(server, { endpoint: proxy.endpoint, ...options });
}

async function files(directory = makeTemporaryDirectory()): Promise<FileStore> {
  const path = join(directory, "files");
  await mkdir(path, { recursive: true });
  return new FileStore({ name: "files", path, zeroCopy: true });
}

/** Publishes bytes in a store, and opens them there as a source. */
async function publishedIn(store: Store, bytes: Buffer): Promise<OpenCopy> {
  const copy = await store.copy({ ...orderOf(await stage(bytes)), key: KEY });
  await copy.publish();
  const source = await store.open(KEY);
  onTestFinished(() => source.close());
  return source;
}

function copyOrder(source: OpenCopy, fields: Partial<CopyOrder> = {}): CopyOrder {
  return {
    source,
    sizeBytes: source.sizeBytes,
    crc32: undefined,
    part: newPartName(IMAGE_ID, 2),
    key: COPY_KEY,
    mayResume: false,
    signal: new AbortController().signal,
    report: () => undefined,
    ...fields,
  };
}

async function bytesIn(store: Store, key: string): Promise<Buffer> {
  await using copy = await store.open(key);
  const bytes = Buffer.alloc(copy.sizeBytes);
  await readFully(copy, bytes, 0);
  return bytes;
}

/** The requests through the proxy, from some request on, that move bytes of objects. */
function movingRequests(from: number): string[] {
  return proxy.requests
    .slice(from)
    .map(({ operation }) => operation)
    .filter((operation) => /^(UploadPart|UploadPartCopy|GetObject|PutObject)$/.test(operation));
}

describe.each(["when_supported", "when_required"] as const)(
  "S3Store.copy() of an object of the same server, checksums %s",
  (checksums) => {
    const options = checksums === "when_required" ? { checksums } : {};

    it.each([
      { what: "three parts", bytes: THREE_PARTS, count: 3 },
      { what: "one part", bytes: THREE_PARTS.subarray(0, 1000), count: 1 },
    ])("lets the server copy $what, and moves no byte", async ({ bytes, count }) => {
      const [from, to] = [await objects(options), await objects(options)];
      const source = await publishedIn(from, bytes);
      const before = proxy.requests.length;

      const copy = await to.copy(copyOrder(source, { crc32: crc32(bytes) }));
      const outcome = await copy.publish();

      expect(outcome).toBe("published");
      expect(copy).toMatchObject({ method: "server copy", writtenBytes: 0, crc32: crc32(bytes) });
      expect(movingRequests(before)).toEqual(Array.from({ length: count }, () => "UploadPartCopy"));
      expect((await bytesIn(to, COPY_KEY)).equals(bytes)).toBe(true);
      expect((await bytesIn(from, KEY)).equals(bytes)).toBe(true);
    });
  },
);

describe("S3Store.copy() of a published copy", () => {
  it("copies an empty object", async () => {
    const [from, to] = [await objects(), await objects()];
    const source = await publishedIn(from, Buffer.alloc(0));

    await (await to.copy(copyOrder(source, { crc32: 0 }))).publish();

    expect(await to.find(COPY_KEY)).toMatchObject({ sizeBytes: 0 });
  });

  it("reports its progress, and asks again for a part that failed in passing", async () => {
    const [from, to] = [await objects(), await objects()];
    const source = await publishedIn(from, THREE_PARTS);
    proxy.inject({
      when: ({ operation, partNumber }) => operation === "UploadPartCopy" && partNumber === 2,
      fault: slowDown(),
    });
    const reported: number[] = [];

    const copy = await to.copy(
      copyOrder(source, { crc32: crc32(THREE_PARTS), report: (done) => reported.push(done) }),
    );
    await copy.publish();

    expect(reported.at(-1)).toBe(THREE_PARTS.length);
    expect((await bytesIn(to, COPY_KEY)).equals(THREE_PARTS)).toBe(true);
  });

  it("reads and sends the bytes when the server refuses to copy, and leaves no upload of the refusal", async () => {
    const [from, to] = [await objects(), await objects()];
    const source = await publishedIn(from, THREE_PARTS);
    // The server does not know this object.
    const place = { ...source.place, object: "not/an/object" } as typeof source.place;
    const order = { ...copyOrder(source), source: { read: source.read.bind(source), place } };

    const copy = await to.copy({ ...order, crc32: crc32(THREE_PARTS) });
    await copy.publish();

    expect(copy).toMatchObject({ method: "copy", crc32: crc32(THREE_PARTS) });
    expect((await bytesIn(to, COPY_KEY)).equals(THREE_PARTS)).toBe(true);
    expect(await to.listParts(-60_000)).toEqual([]);
  });

  it("leaves no upload when it is cancelled", async () => {
    const [from, to] = [await objects(), await objects()];
    const source = await publishedIn(from, THREE_PARTS);
    const cancel = new AbortController();

    const copying = to.copy(
      copyOrder(source, {
        crc32: crc32(THREE_PARTS),
        signal: cancel.signal,
        report: () => {
          cancel.abort(new Error("enough"));
        },
      }),
    );

    await expect(copying).rejects.toThrow("enough");
    expect(await to.listParts(-60_000)).toEqual([]);
  });

  it("reads an object of another server, each part for its hash and for its way", async () => {
    const from = await objects();
    const to = await s3StoreOf(server);
    const source = await publishedIn(from, THREE_PARTS);
    const before = proxy.requests.length;

    const copy = await to.copy(copyOrder(source, { crc32: crc32(THREE_PARTS) }));
    await copy.publish();

    expect((await bytesIn(to, COPY_KEY)).equals(THREE_PARTS)).toBe(true);
    // One stream for the hashes and one for what is sent, however the two take turns.
    expect(movingRequests(before).length).toBeLessThanOrEqual(4);
  });

  it("sends a file", async () => {
    const to = await objects();
    const source = await publishedIn(await files(), THREE_PARTS);

    await (await to.copy(copyOrder(source, { crc32: crc32(THREE_PARTS) }))).publish();

    expect((await bytesIn(to, COPY_KEY)).equals(THREE_PARTS)).toBe(true);
  });
});

describe("FileStore.copy() of a published copy", () => {
  it("writes an object, read from its first byte to its last", async () => {
    const to = await files();
    const source = await publishedIn(await objects(), THREE_PARTS);
    const before = proxy.requests.length;

    const copy = await to.copy(copyOrder(source, { crc32: crc32(THREE_PARTS) }));
    await copy.publish();

    expect(copy).toMatchObject({ method: "copy", crc32: crc32(THREE_PARTS) });
    expect((await bytesIn(to, COPY_KEY)).equals(THREE_PARTS)).toBe(true);
    expect(movingRequests(before)).toEqual(["GetObject"]);
  });

  it("writes a file with bytes of its own where it cannot clone", async () => {
    const [from, to] = [await files(), await files()];
    const source = await publishedIn(from, THREE_PARTS);
    const order = copyOrder(source, { crc32: crc32(THREE_PARTS) });

    const clone = await to.clone(order);
    const copy = await to.copy(order);
    await copy.publish();

    expect(clone).toBeUndefined();
    expect(copy.shared).toBe(false);
    expect((await bytesIn(to, COPY_KEY)).equals(THREE_PARTS)).toBe(true);
  });

  const why = WHY_NO_CLONES === undefined ? "" : ` (no btrfs can be mounted: ${WHY_NO_CLONES})`;

  it.skipIf(WHY_NO_CLONES !== undefined)(
    `shares the blocks of a file where it can clone${why}`,
    async () => {
      const volume = await mountCloningVolume();
      const [from, to] = [await files(join(volume, "one")), await files(join(volume, "two"))];
      const source = await publishedIn(from, THREE_PARTS);

      const copy = await to.clone(copyOrder(source, { crc32: crc32(THREE_PARTS) }));
      await copy?.publish();

      expect(copy).toMatchObject({ method: "reflink", writtenBytes: 0 });
      expect((await bytesIn(to, COPY_KEY)).equals(THREE_PARTS)).toBe(true);
    },
  );
});
