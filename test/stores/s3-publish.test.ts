import { randomBytes } from "node:crypto";
import { ListMultipartUploadsCommand, PutObjectCommand } from "@aws-sdk/client-s3";
import { beforeEach, describe, expect, it, vi } from "vitest";
import { newPartName } from "../../src/bytes/part-name.ts";
import type { S3Store } from "../../src/stores/s3-store.ts";
import { storeKey, type PrivateCopy } from "../../src/stores/store.ts";
import { failureOf } from "../support/failure-of.ts";
import {
  internalErrorInside200,
  loseAnswer,
  resetAfter,
  S3Proxy,
  slowDown,
  stall,
  type S3Fault,
} from "../support/s3-proxy.ts";
import { useS3Server } from "../support/s3-server.ts";
import { s3StoreOf } from "./s3-store-of.ts";
import { orderOf, stage } from "./staged-source.ts";
import { PATIENCE } from "../support/patience.ts";

const KEY = storeKey("6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b", 1);
const BYTES = randomBytes(1000);

// The store asks four times, and each time the SDK asks three times.
const ALWAYS = { times: 12 };

const server = useS3Server();

let bucket: string;
let proxy: S3Proxy;
let store: S3Store;
beforeEach(async () => {
  bucket = await server.makeBucket();
  proxy = await S3Proxy.open(server);
  store = await s3StoreOf(server, { bucket, endpoint: proxy.endpoint });
});

async function makeCopy(fields: Parameters<typeof orderOf>[1] = {}): Promise<PrivateCopy> {
  return store.copy(orderOf(await stage(BYTES), fields));
}

function injectIntoCompletes(fault: S3Fault, { times }: { times?: number } = {}): void {
  const when = ({ operation }: { operation: string }): boolean =>
    operation === "CompleteMultipartUpload";
  proxy.inject({ when, fault, ...(times === undefined ? {} : { times }) });
}

function countCompletes(): number {
  return proxy.requests.filter(({ operation }) => operation === "CompleteMultipartUpload").length;
}

async function countUploads(): Promise<number> {
  const listed = await server.client.send(new ListMultipartUploadsCommand({ Bucket: bucket }));
  return listed.Uploads?.length ?? 0;
}

describe("publish() of a copy in S3", () => {
  it.each([
    ["failed within an answer of success", internalErrorInside200({ completes: false })],
    ["failed though it was done", internalErrorInside200({ completes: true })],
    ["was done, and the answer was lost", loseAnswer()],
    ["never got through", resetAfter(0)],
    ["came while the server was busy", slowDown({ retryAfterSeconds: 0 })],
  ])("has published what %s", async (_, fault) => {
    const copy = await makeCopy();
    injectIntoCompletes(fault);

    expect(await copy.publish()).toBe("published");

    expect(await store.find(KEY)).toMatchObject({ sizeBytes: BYTES.length });
    expect(await countUploads()).toBe(0);
  });

  it("has published what was done though no answer ever came", async () => {
    const copy = await makeCopy();
    injectIntoCompletes(loseAnswer());
    injectIntoCompletes(resetAfter(0), ALWAYS);

    expect(await copy.publish()).toBe("published");
  });

  it("doesn't believe a server that says it has published, and has not", async () => {
    const copy = await makeCopy();
    injectIntoCompletes(
      async (exchange) => {
        await exchange.takeBody();
        exchange.answer(200, "<CompleteMultipartUploadResult></CompleteMultipartUploadResult>");
      },
      { times: 4 },
    );

    const failure = await failureOf(copy.publish());

    expect(failure).toMatchObject({
      code: "StoreUnavailable",
      message: `Cannot publish "${KEY}": the server reports success, but has no such object`,
    });
  });

  it("knows its own copy when it is refused because of it", async () => {
    const copy = await makeCopy();
    await copy.publish();

    expect(await copy.publish()).toBe("published");
  });

  it("gives up where nothing comes of it, and keeps what was sent", async () => {
    const copy = await makeCopy();
    injectIntoCompletes(internalErrorInside200({ completes: false }), ALWAYS);

    const failure = await failureOf(copy.publish());

    expect(failure).toMatchObject({ code: "StoreUnavailable" });
    expect(failure.message).toContain("CompleteMultipartUpload failed: InternalError");
    expect(await store.find(KEY)).toBeUndefined();
    expect(await countUploads()).toBe(1);
  });

  it("never replaces the object of another program, and removes its own copy", async () => {
    const copy = await makeCopy();
    await server.client.send(
      new PutObjectCommand({ Bucket: bucket, Key: KEY, Body: randomBytes(1000) }),
    );

    expect(await copy.publish()).toBe("exists");

    expect(await countUploads()).toBe(0);
  });

  it("distinguishes its own copy from the same bytes of another attempt", async () => {
    const late = await makeCopy({ part: newPartName("6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b", 1) });
    const copy = await makeCopy();
    await late.publish();

    expect(await copy.publish()).toBe("exists");
  });

  it("does without the condition where the server doesn't know it", async () => {
    const copy = await makeCopy();
    injectIntoCompletes(async (exchange) => {
      await exchange.takeBody();
      exchange.answer(
        501,
        "<Error><Code>NotImplemented</Code><Message>A header you provided implies functionality that is not implemented</Message></Error>",
      );
    });

    expect(await copy.publish()).toBe("published");

    expect(countCompletes()).toBe(2);
  });

  it("publishes nothing of an upload that was aborted", async () => {
    const part = newPartName("6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b", 1);
    const late = await makeCopy({ part });
    await store.remove([part]);

    const failure = await failureOf(late.publish());

    expect(failure).toMatchObject({ code: "StoreUnavailable" });
    expect(failure.message).toContain("NoSuchUpload");
    expect(await store.find(KEY)).toBeUndefined();
  });

  it("comes to nothing when its upload is removed while it asks, and leaves its successor's copy", async () => {
    const part = newPartName("6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b", 1);
    const late = await makeCopy({ part });
    injectIntoCompletes(async (exchange) => {
      await store.remove([part]);
      await (await store.copy(orderOf(await stage(Buffer.from("successor"))))).publish();
      await exchange.relay(await exchange.forward());
    });

    expect(await late.publish()).toBe("exists");

    expect(await store.find(KEY)).toMatchObject({ sizeBytes: "successor".length });
    expect(await countUploads()).toBe(0);
  });

  it("is cancelled while the server does not answer", async () => {
    const controller = new AbortController();
    const reason = new Error("Enough");
    const copy = await makeCopy({ signal: controller.signal });
    injectIntoCompletes(stall());

    const publishing = copy.publish();
    await vi.waitUntil(() => countCompletes() === 1, PATIENCE);
    controller.abort(reason);

    await expect(publishing).rejects.toBe(reason);
  });
});
