import { randomBytes } from "node:crypto";
import { open, truncate, type FileHandle } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { ListMultipartUploadsCommand } from "@aws-sdk/client-s3";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { BandwidthLimit } from "../../src/bytes/bandwidth-limit.ts";
import { newPartName } from "../../src/bytes/part-name.ts";
import { readFully } from "../../src/bytes/positional-io.ts";
import { MIN_PART_BYTES } from "../../src/stores/part-plan.ts";
import type { S3Store, S3StoreOptions } from "../../src/stores/s3-store.ts";
import { storeKey, type Copied, type CopyOrder } from "../../src/stores/store.ts";
import { ChildProgram } from "../support/child-program.ts";
import { failureOf } from "../support/failure-of.ts";
import {
  resetAfter,
  S3Proxy,
  slowDown,
  stall,
  wrongETag,
  type S3Fault,
  type S3Request,
} from "../support/s3-proxy.ts";
import { useS3Server } from "../support/s3-server.ts";
import { s3OptionsOf, s3StoreOf } from "./s3-store-of.ts";
import { orderOf, stage } from "./staged-source.ts";
import { PATIENCE } from "../support/patience.ts";

const IMAGE_ID = "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b";
const KEY = storeKey(IMAGE_ID, 1);
const PART_BYTES = MIN_PART_BYTES;
const SIX_PARTS = randomBytes(6 * PART_BYTES);

const server = useS3Server();

let bucket: string;
let proxy: S3Proxy;
let part: string;
beforeEach(async () => {
  bucket = await server.makeBucket();
  proxy = await S3Proxy.open(server);
  part = newPartName(IMAGE_ID, 1);
});

/** A store in the test's bucket, by way of its proxy. */
async function storeBehindProxy(options: Partial<S3StoreOptions> = {}): Promise<S3Store> {
  return s3StoreOf(server, { bucket, endpoint: proxy.endpoint, ...options });
}

/** Makes the sending of parts go wrong. */
function injectIntoParts(
  fault: S3Fault,
  { numbers, times }: { numbers?: number[]; times?: number } = {},
): void {
  proxy.inject({
    when: ({ operation, partNumber = 0 }) =>
      operation === "UploadPart" && (numbers === undefined || numbers.includes(partNumber)),
    ...(times === undefined ? {} : { times }),
    fault,
  });
}

/** The parts that were sent, from some request on, in the order of their numbers. */
function partsSent(from = 0): number[] {
  return proxy.requests
    .slice(from)
    .filter(({ operation }) => operation === "UploadPart")
    .map(({ partNumber = 0 }) => partNumber)
    .sort((one, other) => one - other);
}

function arrivedParts(): readonly S3Request[] {
  return proxy.requests.filter((each) => each.operation === "UploadPart" && each.status === 200);
}

async function publishedBytes(store: S3Store): Promise<Buffer> {
  await using copy = await store.open(KEY);
  const buffer = Buffer.alloc(copy.sizeBytes);
  await readFully(copy, buffer, 0);
  return buffer;
}

async function copyAndPublish(store: S3Store, order: CopyOrder): Promise<Copied> {
  const copy = await store.copy(order);
  await copy.publish();
  return copy;
}

async function countUploads(): Promise<number> {
  const listed = await server.client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
  return listed.Uploads?.length ?? 0;
}

/** Counts how many reads of a source are under way. */
function watchReads(handle: FileHandle): () => number {
  let underWay = 0;
  const read = handle.read.bind(handle) as (...range: unknown[]) => Promise<never>;
  vi.spyOn(handle, "read").mockImplementation(async (...range: unknown[]) => {
    underWay += 1;
    try {
      return await read(...range);
    } finally {
      underWay -= 1;
    }
  });
  return () => underWay;
}

/** Does something just before the source is read for the n-th time. */
function beforeRead(handle: FileHandle, count: number, act: () => Promise<void>): void {
  const read = handle.read.bind(handle) as (...range: unknown[]) => Promise<never>;
  let reads = 0;
  vi.spyOn(handle, "read").mockImplementation(async (...range: unknown[]) => {
    reads += 1;
    if (reads === count) await act();
    return read(...range);
  });
}

async function overwrite(path: string, position: number): Promise<void> {
  await using writing = await open(path, "r+");
  await writing.write(Buffer.from("other bytes"), 0, 11, position);
}

describe("S3Store.copy()", () => {
  it.each([
    ["nothing", 0, 1],
    ["one byte", 1, 1],
    ["a part less a byte", PART_BYTES - 1, 1],
    ["a part", PART_BYTES, 1],
    ["a part and a byte", PART_BYTES + 1, 2],
    ["three parts exactly", 3 * PART_BYTES, 3],
  ])("sends %s in as many parts as it needs", async (_, sizeBytes, count) => {
    const store = await storeBehindProxy();
    const bytes = SIX_PARTS.subarray(0, sizeBytes);

    const copied = await copyAndPublish(store, orderOf(await stage(bytes)));

    expect((await publishedBytes(store)).equals(bytes)).toBe(true);
    expect(copied).toMatchObject({
      crc32: crc32(bytes),
      writtenBytes: sizeBytes,
      method: "copy",
      shared: false,
    });
    expect(partsSent()).toHaveLength(count);
  });

  it("sends every byte once, and nothing around them", async () => {
    const store = await storeBehindProxy();

    await copyAndPublish(store, orderOf(await stage(SIX_PARTS)));

    const sent = arrivedParts().map(({ bodyBytes }) => bodyBytes);
    expect(sent).toEqual(Array.from({ length: 6 }, () => PART_BYTES));
  });

  it("keeps to its bandwidth", async () => {
    const limiter = new BandwidthLimit(64 * 1024 * 1024);
    const take = vi.spyOn(limiter, "take");
    const store = await storeBehindProxy({ limiter });

    await store.copy(orderOf(await stage(SIX_PARTS)));

    const taken = take.mock.calls.map(([bytes]) => bytes);
    expect(taken.reduce((sum, bytes) => sum + bytes, 0)).toBe(SIX_PARTS.length);
    expect(Math.max(...taken)).toBe(1024 * 1024);
  });

  it("sends no more parts at once than it may", async () => {
    const store = await storeBehindProxy({ partsInFlight: 2 });
    injectIntoParts(stall(), { times: 6 });
    const controller = new AbortController();
    const reason = new Error("Enough");

    const copying = store.copy(orderOf(await stage(SIX_PARTS), { signal: controller.signal }));
    await vi.waitUntil(
      () => partsSent().length === 2 && proxy.requests.every(isTakenWhole),
      PATIENCE,
    );
    controller.abort(reason);

    await expect(copying).rejects.toBe(reason);
    expect(partsSent()).toEqual([1, 2]);
  });
});

function isTakenWhole({ operation, bodyBytes }: S3Request): boolean {
  return operation !== "UploadPart" || bodyBytes === PART_BYTES;
}

describe("S3Store.copy() of a source that changes", () => {
  it.each([1, 4])(
    "fails when the source became shorter, with %d parts at the same time",
    async (partsInFlight) => {
      const store = await storeBehindProxy({ partsInFlight });
      const source = await stage(SIX_PARTS);
      const report = vi.fn();
      report.mockImplementationOnce(() => void truncate(source.path, 1000));

      const failure = await failureOf(store.copy(orderOf(source, { report })));

      expect(failure).toMatchObject({ code: "StagedDataChanged" });
    },
  );

  it("finds out that it became shorter between its hash and its sending", async () => {
    const store = await storeBehindProxy();
    const source = await stage(SIX_PARTS.subarray(0, PART_BYTES));
    // The part has five blocks: the eighth read is the third of those that are sent.
    beforeRead(source.handle, 8, () => truncate(source.path, 1000));

    const failure = await failureOf(store.copy(orderOf(source)));

    expect(failure).toMatchObject({ code: "StagedDataChanged" });
    expect(partsSent()).toEqual([1]);
  });

  it("finds out that bytes changed between their hash and their sending", async () => {
    const store = await storeBehindProxy();
    const source = await stage(SIX_PARTS.subarray(0, PART_BYTES));
    // The part has five blocks: the sixth read is the first of those that are sent.
    beforeRead(source.handle, 6, () => overwrite(source.path, 3_000_000));

    const failure = await failureOf(store.copy(orderOf(source)));

    expect(failure).toEqual(
      expect.objectContaining({
        code: "StagedDataChanged",
        message: "Cannot copy the staged data: the 5242880 bytes from byte 0 changed meanwhile",
      }),
    );
  });
});

describe("S3Store.copy() on a bad connection", () => {
  it("waits as long as a busy server asks, and sends the part again", async () => {
    const store = await storeBehindProxy();
    injectIntoParts(slowDown({ retryAfterSeconds: 1 }), { numbers: [2] });
    const startedAtMs = performance.now();

    await copyAndPublish(store, orderOf(await stage(SIX_PARTS)));

    expect(performance.now() - startedAtMs).toBeGreaterThan(990);
    expect(partsSent()).toEqual([1, 2, 2, 3, 4, 5, 6]);
    expect((await publishedBytes(store)).equals(SIX_PARTS)).toBe(true);
  });

  it("gives up on a server that is always busy, and reports its message", async () => {
    const store = await storeBehindProxy();
    injectIntoParts(slowDown({ retryAfterSeconds: 0 }), { numbers: [1], times: 5 });

    const failure = await failureOf(
      store.copy(orderOf(await stage(SIX_PARTS.subarray(0, PART_BYTES)))),
    );

    expect(failure).toMatchObject({
      code: "StoreUnavailable",
      message:
        `Cannot use store "objects" (bucket "${bucket}" of ${proxy.endpoint}): UploadPart 1 failed: ` +
        "SlowDown: Please reduce your request rate.",
    });
    expect(partsSent()).toEqual([1, 1, 1, 1, 1]);
  });

  it.each([
    ["at once", 0],
    ["in the middle of a part", PART_BYTES / 2],
  ])("sends a part again whose connection is reset %s", async (_, bodyBytes) => {
    const store = await storeBehindProxy();
    const progress: number[] = [];
    injectIntoParts(resetAfter(bodyBytes), { numbers: [3], times: 2 });

    await copyAndPublish(
      store,
      orderOf(await stage(SIX_PARTS), { report: (doneBytes) => progress.push(doneBytes) }),
    );

    expect((await publishedBytes(store)).equals(SIX_PARTS)).toBe(true);
    expect(partsSent()).toEqual([1, 2, 3, 3, 3, 4, 5, 6]);
    expect(progress).toEqual([...progress].sort((one, other) => one - other));
    expect(progress.at(-1)).toBe(SIX_PARTS.length);
  });

  it("is cancelled, also while the server does not respond", async () => {
    const store = await storeBehindProxy();
    const source = await stage(SIX_PARTS);
    const readsUnderWay = watchReads(source.handle);
    injectIntoParts(stall(), { times: 4 });
    const controller = new AbortController();
    const reason = new Error("Enough");
    const copying = store.copy(orderOf(source, { signal: controller.signal }));
    await vi.waitUntil(
      () => partsSent().length === 4 && proxy.requests.every(isTakenWhole),
      PATIENCE,
    );

    controller.abort(reason);

    await expect(copying).rejects.toBe(reason);
    expect(readsUnderWay()).toBe(0);
  });

  it("reads nothing any more once it has failed", async () => {
    const store = await storeBehindProxy();
    const source = await stage(SIX_PARTS);
    const readsUnderWay = watchReads(source.handle);
    const controller = new AbortController();
    const reason = new Error("Enough");
    const report = (): void => {
      controller.abort(reason);
    };

    const copying = store.copy(orderOf(source, { signal: controller.signal, report }));

    await expect(copying).rejects.toBe(reason);
    expect(readsUnderWay()).toBe(0);
  });

  it("continues when the server was killed and came back meanwhile", async () => {
    const store = await storeBehindProxy({ partsInFlight: 1 });
    let restarting: Promise<void> | undefined;
    injectIntoParts(
      async (exchange) => {
        await server.kill();
        const refused = exchange.forward();
        restarting = refused.catch(() => undefined).then(() => server.start());
        await refused;
      },
      { numbers: [3] },
    );
    // However long the server takes to start, the second try finds it.
    injectIntoParts(
      async (exchange) => {
        await restarting;
        await exchange.relay(await exchange.forward());
      },
      { numbers: [3] },
    );

    await copyAndPublish(store, orderOf(await stage(SIX_PARTS)));

    expect(partsSent()).toEqual([1, 2, 3, 3, 4, 5, 6]);
    expect((await publishedBytes(store)).equals(SIX_PARTS)).toBe(true);
  });
});

/** Copies and publishes in a process of its own. */
function startAttempt(options: S3StoreOptions, order: CopyOrder): ChildProgram {
  const { source, sizeBytes, key, part, mayResume } = order;
  const path = source.place.kind === "file" ? source.place.path : "";
  const settings = { options, path, sizeBytes, key, part, mayResume };
  return ChildProgram.start("copy-and-publish.mjs", { arguments: [JSON.stringify(settings)] });
}

describe("S3Store.copy() of an attempt that may be resumed", () => {
  const CHECKSUMS = ["when_supported", "when_required"] as const;

  it.each(CHECKSUMS)(
    "does not send the parts of a killed process again, checksums %s",
    async (checksums) => {
      const source = await stage(SIX_PARTS);
      injectIntoParts(stall(), { numbers: [4, 5], times: 2 });
      const options = {
        ...s3OptionsOf(server, bucket),
        checksums,
        endpoint: proxy.endpoint,
        partsInFlight: 2,
      };
      const attempt = startAttempt(options, orderOf(source, { part }));
      await vi.waitUntil(() => partsSent().length === 5 && arrivedParts().length === 3, PATIENCE);
      await attempt.kill();
      const from = proxy.requests.length;

      const store = await s3StoreOf(server, options);
      const copied = await copyAndPublish(store, orderOf(source, { part, mayResume: true }));

      expect(partsSent(from)).toEqual([4, 5, 6]);
      expect(copied).toMatchObject({ crc32: source.crc32, writtenBytes: 3 * PART_BYTES });
      expect((await publishedBytes(store)).equals(SIX_PARTS)).toBe(true);
      expect(await countUploads()).toBe(0);
    },
  );

  it("sends a part again that has not the bytes of the source, or not all of them", async () => {
    const store = await storeBehindProxy();
    const others = Buffer.from(SIX_PARTS);
    others.fill(7, PART_BYTES + 5, PART_BYTES + 9);
    await store.copy(orderOf(await stage(others.subarray(0, -3)), { part }));
    const from = proxy.requests.length;

    const source = await stage(SIX_PARTS);
    const copied = await copyAndPublish(store, orderOf(source, { part, mayResume: true }));

    expect(partsSent(from)).toEqual([2, 6]);
    expect(copied.crc32).toBe(source.crc32);
    expect((await publishedBytes(store)).equals(SIX_PARTS)).toBe(true);
  });

  it("takes the upload that has most, and aborts the others", async () => {
    const store = await storeBehindProxy();
    await store.copy(orderOf(await stage(SIX_PARTS.subarray(0, PART_BYTES)), { part }));
    await store.copy(orderOf(await stage(SIX_PARTS.subarray(0, 4 * PART_BYTES)), { part }));
    await store.copy(orderOf(await stage(SIX_PARTS.subarray(0, 2 * PART_BYTES)), { part }));
    const from = proxy.requests.length;

    await copyAndPublish(store, orderOf(await stage(SIX_PARTS), { part, mayResume: true }));

    expect(partsSent(from)).toEqual([5, 6]);
    expect(await countUploads()).toBe(0);
  });

  it("leaves uploads of other epochs alone", async () => {
    const store = await storeBehindProxy();
    const later = storeKey(IMAGE_ID, 10);
    await store.copy(
      orderOf(await stage(SIX_PARTS), { part: newPartName(IMAGE_ID, 10), key: later }),
    );
    const from = proxy.requests.length;

    await copyAndPublish(store, orderOf(await stage(SIX_PARTS), { part, mayResume: true }));

    expect(partsSent(from)).toHaveLength(6);
    expect(await countUploads()).toBe(1);
  });

  it("reports its progress also for parts that it keeps", async () => {
    const store = await storeBehindProxy();
    const source = await stage(SIX_PARTS);
    await store.copy(orderOf(source, { part }));
    const progress: number[] = [];

    await store.copy(
      orderOf(source, {
        part,
        mayResume: true,
        report: (doneBytes) => progress.push(doneBytes),
      }),
    );

    expect(progress.slice(0, 6)).toEqual([1, 2, 3, 4, 5, 6].map((count) => count * PART_BYTES));
  });

  it("mends wrong ETags", async () => {
    const store = await storeBehindProxy();
    const source = await stage(SIX_PARTS);
    injectIntoParts(wrongETag(), { numbers: [2] });
    const copy = await store.copy(orderOf(source, { part }));
    expect(await failureOf(copy.publish())).toMatchObject({ code: "StoreUnavailable" });
    const from = proxy.requests.length;

    await copyAndPublish(store, orderOf(source, { part, mayResume: true }));

    expect(partsSent(from)).toEqual([]);
    expect((await publishedBytes(store)).equals(SIX_PARTS)).toBe(true);
  });

  it.each([
    ["it knows no checksums, and the ETags are none of the bytes", "when_required", 6],
    ["it knows checksums, whatever the ETags are", "when_supported", 0],
  ] as const)("asks what the server knows of a part: %s", async (_, checksums, resentParts) => {
    const store = await storeBehindProxy({ checksums });
    const source = await stage(SIX_PARTS);
    await store.copy(orderOf(source, { part }));
    const from = proxy.requests.length;
    proxy.inject({ when: ({ operation }) => operation === "ListParts", fault: wrongETag() });

    const copied = await store.copy(orderOf(source, { part, mayResume: true }));

    expect(partsSent(from)).toHaveLength(resentParts);
    expect(copied.crc32).toBe(source.crc32);
  });

  it.each([
    ["when_supported", "when_required"],
    ["when_required", "when_supported"],
  ] as const)("restarts from byte 0 when checksums were %s and are %s", async (before, now) => {
    const source = await stage(SIX_PARTS);
    await (await storeBehindProxy({ checksums: before })).copy(orderOf(source, { part }));
    const from = proxy.requests.length;
    const store = await storeBehindProxy({ checksums: now });

    await copyAndPublish(store, orderOf(source, { part, mayResume: true }));

    expect(partsSent(from)).toHaveLength(6);
    expect((await publishedBytes(store)).equals(SIX_PARTS)).toBe(true);
    expect(await countUploads()).toBe(0);
  });

  it("restarts from byte 0 when the upload is swept just then", async () => {
    const store = await storeBehindProxy();
    const source = await stage(SIX_PARTS);
    await store.copy(orderOf(source, { part }));
    const from = proxy.requests.length;
    proxy.inject({
      when: ({ operation }) => operation === "ListParts",
      fault: async (exchange) => {
        await store.remove([part]);
        await exchange.relay(await exchange.forward());
      },
    });

    await copyAndPublish(store, orderOf(source, { part, mayResume: true }));

    expect(partsSent(from)).toHaveLength(6);
    expect((await publishedBytes(store)).equals(SIX_PARTS)).toBe(true);
  });
});

describe("S3Store.copy() of a process that stood still", () => {
  it("comes to nothing once its upload was removed, and touches nothing of its successor", async () => {
    const source = await stage(SIX_PARTS);
    const options = { ...s3OptionsOf(server, bucket), partsInFlight: 1 };
    let goOn: () => void = () => undefined;
    const mayGoOn = new Promise<void>((resolve) => {
      goOn = resolve;
    });
    injectIntoParts(
      async (exchange) => {
        await mayGoOn;
        await exchange.relay(await exchange.forward());
      },
      { numbers: [3] },
    );
    const late = startAttempt({ ...options, endpoint: proxy.endpoint }, orderOf(source, { part }));
    await vi.waitUntil(() => partsSent().length === 3, PATIENCE);
    await late.stop();
    const store = await s3StoreOf(server, options);
    await store.remove([part]);
    const successor = newPartName(IMAGE_ID, 1);
    await copyAndPublish(store, orderOf(await stage(Buffer.from("whole")), { part: successor }));

    late.continue();
    goOn();
    const { exitCode, stderr } = await late.result();

    expect(exitCode).not.toBe(0);
    // A server that answers before it has read a body may break the connection before its answer is
    // read.
    expect(stderr).toMatch(/NoSuchUpload|ECONNRESET|EPIPE/);
    expect(arrivedParts()).toHaveLength(2);
    expect((await publishedBytes(store)).toString()).toBe("whole");
    expect(await countUploads()).toBe(0);
  });
});
