import { PutObjectCommand } from "@aws-sdk/client-s3";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { readFully } from "../../src/bytes/positional-io.ts";
import type { S3Store } from "../../src/stores/s3-store.ts";
import { storeKey, type OpenCopy } from "../../src/stores/store.ts";
import { failureOf } from "../support/failure-of.ts";
import { loseAnswer, S3Proxy, slowDown, stall, type S3Fault } from "../support/s3-proxy.ts";
import { useS3Server } from "../support/s3-server.ts";
import { s3StoreOf } from "./s3-store-of.ts";
import { orderOf, stage } from "./staged-source.ts";
import { PATIENCE } from "../support/patience.ts";

const KEY = storeKey("6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b", 1);
// Letters only, so that a proxy may cut it as a text.
const TEXT = Array.from({ length: 300_000 }, (_, index) => String(index)).join(" ");
const BYTES = Buffer.from(TEXT);
const HALF = Math.floor(BYTES.length / 2);

const server = useS3Server();

let bucket: string;
let proxy: S3Proxy;
let store: S3Store;
beforeEach(async () => {
  bucket = await server.makeBucket();
  proxy = await S3Proxy.open(server);
  store = await s3StoreOf(server, { bucket, endpoint: proxy.endpoint });
});

async function openPublished(bytes = BYTES, signal?: AbortSignal): Promise<OpenCopy> {
  await (await store.copy(orderOf(await stage(bytes)))).publish();
  return store.open(KEY, signal);
}

async function readRange(copy: OpenCopy, from: number, to: number): Promise<Buffer> {
  const buffer = Buffer.alloc(to - from);
  await readFully(copy, buffer, from);
  return buffer;
}

function injectIntoGets(fault: S3Fault, { times }: { times?: number } = {}): void {
  const when = ({ operation }: { operation: string }): boolean => operation === "GetObject";
  proxy.inject({ when, fault, ...(times === undefined ? {} : { times }) });
}

function countGets(): number {
  return proxy.requests.filter(({ operation }) => operation === "GetObject").length;
}

/** Nothing comes any more when half of the answer's body was sent. */
function stallHalfway(): S3Fault {
  return async (exchange) => {
    const answer = await exchange.forward();
    await exchange.relay(answer, { change: (body) => body.slice(0, HALF) });
  };
}

/** The connection is reset when half of the answer's body was sent. */
function resetHalfway(): S3Fault {
  return async (exchange) => {
    await stallHalfway()(exchange);
    exchange.reset();
  };
}

describe("a copy in S3, open for reading", () => {
  it("sends one request for bytes that are read in order", async () => {
    await using copy = await openPublished();

    const [first, second] = [
      await readRange(copy, 0, HALF),
      await readRange(copy, HALF, BYTES.length),
    ];

    expect(Buffer.concat([first, second]).equals(BYTES)).toBe(true);
    expect(countGets()).toBe(1);
  });

  it("sends another request for bytes elsewhere", async () => {
    await using copy = await openPublished();

    const [second, first] = [
      await readRange(copy, HALF, BYTES.length),
      await readRange(copy, 0, HALF),
    ];

    expect(Buffer.concat([first, second]).equals(BYTES)).toBe(true);
    expect(countGets()).toBe(2);
  });

  it("gives each of several readers the bytes that it requested", async () => {
    await using copy = await openPublished();

    const [second, first] = await Promise.all([
      readRange(copy, HALF, BYTES.length),
      readRange(copy, 0, HALF),
    ]);

    expect(Buffer.concat([first, second]).equals(BYTES)).toBe(true);
  });

  it("has nothing behind its end, and doesn't ask for it", async () => {
    await using copy = await openPublished();

    expect(await copy.read(Buffer.alloc(10), 0, 10, BYTES.length)).toEqual({ bytesRead: 0 });

    expect(countGets()).toBe(0);
  });

  it("reads an empty copy", async () => {
    await using copy = await openPublished(Buffer.alloc(0));

    expect(await copy.read(Buffer.alloc(10), 0, 10, 0)).toEqual({ bytesRead: 0 });
  });

  it.each([
    ["is reset halfway", resetHalfway()],
    ["is reset before the answer", loseAnswer()],
    ["comes while the server is busy", slowDown({ retryAfterSeconds: 0 })],
  ])("continues where it was when a request %s", async (_, fault) => {
    await using copy = await openPublished();
    injectIntoGets(fault);

    const bytes = await readRange(copy, 0, BYTES.length);

    expect(bytes.equals(BYTES)).toBe(true);
  });

  it("gives up when the server is busy all the time", async () => {
    await using copy = await openPublished();
    injectIntoGets(slowDown({ retryAfterSeconds: 0 }), { times: 15 });

    const failure = await failureOf(readRange(copy, 0, BYTES.length));

    expect(failure).toMatchObject({ code: "StoreUnavailable" });
    expect(failure.message).toContain("GetObject failed: SlowDown");
  });

  it("notices that it was replaced", async () => {
    await using copy = await openPublished();
    await readRange(copy, 0, HALF);
    await server.client.send(
      new PutObjectCommand({ Bucket: bucket, Key: KEY, Body: Buffer.alloc(BYTES.length) }),
    );

    const failure = await failureOf(readRange(copy, 0, HALF));

    expect(failure).toMatchObject({ code: "StoreUnavailable" });
    expect(failure.message).toContain("PreconditionFailed");
  });

  it("ends a read that waits for a response when it is aborted", async () => {
    const enough = new AbortController();
    await using copy = await openPublished(BYTES, enough.signal);
    injectIntoGets(stall());
    const reading = readRange(copy, 0, HALF);
    await vi.waitUntil(() => countGets() === 1, PATIENCE);

    enough.abort(new Error("Enough"));

    await expect(reading).rejects.toBe(enough.signal.reason);
  });

  it("ends a read that waits in the middle of a response when it is aborted", async () => {
    const enough = new AbortController();
    await using copy = await openPublished(BYTES, enough.signal);
    injectIntoGets(stallHalfway());
    await readRange(copy, 0, HALF);
    const reading = readRange(copy, HALF, BYTES.length);

    enough.abort(new Error("Enough"));

    await expect(reading).rejects.toBe(enough.signal.reason);
  });

  it("shares no inode with any file", async () => {
    await using copy = await openPublished();
    const { handle } = await stage(BYTES);

    expect(await copy.isNameOf(handle)).toBe(false);
  });
});
