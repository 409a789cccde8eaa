import { randomUUID } from "node:crypto";
import { readdir, readFile, stat, utimes } from "node:fs/promises";
import { join } from "node:path";
import { CreateMultipartUploadCommand } from "@aws-sdk/client-s3";
import { CancelledFailure } from "@temporalio/common";
import { sql, type SQL } from "drizzle-orm";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import { MIN_PART_BYTES } from "../../src/stores/part-plan.ts";
import { storeKey } from "../../src/stores/store.ts";
import { useCatalogue } from "../support/catalogue.ts";
import type { ChildProgram } from "../support/child-program.ts";
import { HeldRows } from "../support/held-rows.ts";
import { bucketTraces, type BucketTraces } from "../support/image-traces.ts";
import { MIB } from "../support/mib.ts";
import {
  activityEnvironment,
  openNode,
  outcomeOf,
  runStep,
  someBytes,
  type NodeRig,
  type NodeRigOptions,
} from "../support/node-rig.ts";
import { S3Proxy, stall, type S3Operation, type S3Request } from "../support/s3-proxy.ts";
import { S3Gate } from "../support/s3-gate.ts";
import { useS3Server } from "../support/s3-server.ts";
import { PATIENCE } from "../support/patience.ts";

const PART_BYTES = MIN_PART_BYTES;
/** Four parts. */
const SIZE_BYTES = 17 * MIB + 17;

// S3 leaves open whether a part that is on its way when its upload is aborted still arrives.
const LATE = {
  code: expect.stringMatching(/^(AttemptOvertaken|ImportLost|StoreUnavailable)$/) as string,
};

const catalogue = useCatalogue();
const server = useS3Server();

beforeEach(() => {
  for (const [name, value] of Object.entries(server.env)) vi.stubEnv(name, value);
});

afterEach(() => {
  vi.unstubAllEnvs();
});

/** A worker's view of one store, `objects`, in a bucket of the running test's own. */
interface S3Node {
  readonly rig: NodeRig;
  readonly bucket: string;
  /** Between the worker and the server. */
  readonly proxy: S3Proxy;
}

async function openS3Node(options: NodeRigOptions = {}): Promise<S3Node> {
  const bucket = await server.makeBucket();
  const proxy = await S3Proxy.open(server);
  const objects = {
    type: "s3",
    bucket,
    prefix: "images/",
    region: server.region,
    endpoint: proxy.endpoint,
    pathStyle: true,
    checksums: "when_supported",
    partSizeBytes: PART_BYTES,
    // So that at most one part is lost with its process.
    partsInFlight: 1,
  } as const;
  return { rig: await openNode(catalogue, { ...options, stores: { objects } }), bucket, proxy };
}

async function claim({ rig }: S3Node, bytes: Buffer): Promise<ImportPlan> {
  return rig.stageAndClaim(bytes, ["objects"]);
}

function copyElsewhere({ rig }: S3Node, plan: ImportPlan): ChildProgram {
  return rig.storeElsewhere(plan, SIZE_BYTES, { store: "objects" });
}

function requests({ proxy }: S3Node, operation: S3Operation): S3Request[] {
  return proxy.requests.filter((each) => each.operation === operation);
}

/** The numbers of all parts that were sent, also of those that did not arrive. */
function partsSent(node: S3Node): (number | undefined)[] {
  return requests(node, "UploadPart").map(({ partNumber }) => partNumber);
}

/** The numbers of those parts that the server has taken. */
function arrived(parts: readonly S3Request[]): (number | undefined)[] {
  return parts.filter(({ status }) => status === 200).map(({ partNumber }) => partNumber);
}

/** Holds the next request with this part. */
function holdPart({ proxy }: S3Node, number: number, how: "before" | "resets"): S3Gate {
  const gate = new S3Gate();
  proxy.inject({ when: ({ partNumber }) => partNumber === number, fault: gate[how] });
  return gate;
}

function isA(operation: S3Operation) {
  return (request: S3Request): boolean => request.operation === operation;
}

/** Holds these rows once a copy that waits there has begun, and waits until it waits for them. */
async function holdCopy(begun: S3Gate, rows: SQL): Promise<HeldRows> {
  await begun.reached;
  const held = await HeldRows.hold(catalogue, rows);
  begun.open();
  await held.awaitWaiters();
  return held;
}

/** Kills a copy in the middle of its bytes. Returns the parts that had arrived. */
async function killWhileCopying(node: S3Node, plan: ImportPlan): Promise<(number | undefined)[]> {
  const third = holdPart(node, 3, "resets");
  const writer = copyElsewhere(node, plan);
  await third.reached;
  const kept = arrived(requests(node, "UploadPart"));
  await writer.kill();
  third.open();
  return kept;
}

/** Kills a copy all of whose parts have arrived, and of which there is no object. */
async function killBeforePublishing(node: S3Node, plan: ImportPlan): Promise<void> {
  const begun = holdPart(node, 1, "before");
  const writer = copyElsewhere(node, plan);
  const rows = await holdCopy(begun, sql`SELECT 1 FROM images WHERE id = ${plan.image_id}`);
  await writer.kill();
  await rows.release();
}

/** Kills a copy that is an object, of which the catalogue does not know. */
async function killBeforeTelling(node: S3Node, plan: ImportPlan): Promise<void> {
  const begun = holdPart(node, 1, "before");
  const writer = copyElsewhere(node, plan);
  const rows = await holdCopy(begun, sql`SELECT 1 FROM leases WHERE image_id = ${plan.image_id}`);
  await writer.kill();
  await rows.release();
}

async function traces({ bucket }: S3Node, { image_id }: ImportPlan): Promise<BucketTraces> {
  return bucketTraces(server, bucket, image_id);
}

const NOTHING: BucketTraces = { objects: [], uploads: [] };

function published({ epoch }: ImportPlan): BucketTraces {
  return { objects: [`images/${storeKey("@", epoch)}`], uploads: [] };
}

/** The server's file with the object of an import. */
function objectPath({ bucket }: S3Node, { image_id, epoch }: ImportPlan): string {
  return join(server.directory, bucket, "images", storeKey(image_id, epoch));
}

async function holds(node: S3Node, plan: ImportPlan, bytes: Buffer): Promise<boolean> {
  return (await readFile(objectPath(node, plan))).equals(bytes);
}

/**
 * Everything that an import has in the catalogue and in the bucket, to see whether anything
 * changes.
 */
async function snapshot(node: S3Node, plan: ImportPlan): Promise<object> {
  const { ino, mtimeMs } = await stat(objectPath(node, plan));
  return {
    catalogue: await node.rig.snapshot(plan),
    traces: await traces(node, plan),
    object: { ino, mtimeMs },
  };
}

async function partOfLease({ image_id }: ImportPlan): Promise<string | undefined> {
  return (await catalogue.leases(image_id))[0]?.part ?? undefined;
}

/** Makes all uploads of a bucket look as if they had last been written a minute ago. */
async function ageUploads({ bucket }: S3Node): Promise<void> {
  const folder = join(server.directory, bucket, ".sgwtmp", "multipart");
  const then = new Date(Date.now() - 60_000);
  for (const key of await readdir(folder)) {
    for (const upload of await readdir(join(folder, key))) {
      await utimes(join(folder, key, upload), then, then);
    }
  }
}

describe("storeImage() into S3", () => {
  it("makes the staged bytes an object of this import, and records where it is", async () => {
    const node = await openS3Node();
    const bytes = someBytes(PART_BYTES + 17);
    const plan = await claim(node, bytes);

    const stored = await node.rig.store(plan, bytes.length, "objects");

    expect(stored).toMatchObject({
      url: `s3://${node.bucket}/images/${storeKey(plan.image_id, plan.epoch)}`,
      size: bytes.length,
      method: "copy",
    });
    expect(await holds(node, plan, bytes)).toBe(true);
    expect(await traces(node, plan)).toEqual(published(plan));
  });

  it("finds its copy when it is run again, and sends no byte", async () => {
    const node = await openS3Node();
    const bytes = someBytes(PART_BYTES);
    const plan = await claim(node, bytes);
    const first = await node.rig.store(plan, bytes.length, "objects");

    const second = await node.rig.store(plan, bytes.length, "objects");

    expect(second).toEqual({ ...first, method: "found" });
    expect(partsSent(node)).toEqual([1]);
  });
});

describe("storeImage() into S3 after its process was killed", () => {
  it("continues with the part of a copy that was killed in the middle of its bytes", async () => {
    const node = await openS3Node();
    const bytes = someBytes(SIZE_BYTES);
    const plan = await claim(node, bytes);
    const kept = await killWhileCopying(node, plan);

    await node.rig.store(plan, bytes.length, "objects");

    expect(kept).toEqual([1, 2]);
    expect(partsSent(node)).toEqual([1, 2, 3, 3, 4]);
    expect(await holds(node, plan, bytes)).toBe(true);
    expect(await traces(node, plan)).toEqual(published(plan));
  });

  it("publishes the part of a copy that was killed when all its bytes had arrived", async () => {
    const node = await openS3Node();
    const bytes = someBytes(SIZE_BYTES);
    const plan = await claim(node, bytes);
    await killBeforePublishing(node, plan);
    const left = await traces(node, plan);

    await node.rig.store(plan, bytes.length, "objects");

    expect(left).toEqual({ objects: [], uploads: published(plan).objects });
    expect(partsSent(node)).toEqual([1, 2, 3, 4]);
    expect(await holds(node, plan, bytes)).toBe(true);
    expect(await traces(node, plan)).toEqual(published(plan));
  });

  it("adopts a copy whose writer was killed before the catalogue recorded it", async () => {
    const node = await openS3Node();
    const bytes = someBytes(SIZE_BYTES);
    const plan = await claim(node, bytes);
    await killBeforeTelling(node, plan);
    const { ino } = await stat(objectPath(node, plan));
    expect(await catalogue.leases(plan.image_id)).toMatchObject([{ state: "writing" }]);

    await node.rig.store(plan, bytes.length, "objects");

    expect(partsSent(node)).toEqual([1, 2, 3, 4]);
    expect((await stat(objectPath(node, plan))).ino).toBe(ino);
    expect(await catalogue.leases(plan.image_id)).toMatchObject([{ state: "whole" }]);
    expect(await traces(node, plan)).toEqual(published(plan));
  });
});

describe("storeImage() into S3 in a process that stood still, and continues late", () => {
  it("changes nothing of the image that a second attempt has finished meanwhile", async () => {
    const node = await openS3Node();
    const { rig } = node;
    const bytes = someBytes(SIZE_BYTES);
    const plan = await claim(node, bytes);
    const gate = holdPart(node, 3, "resets");
    const late = copyElsewhere(node, plan);
    await gate.reached;
    await late.stop();
    await rig.finish(plan, bytes.length, "objects");
    await runStep(() => rig.cleanUp.unstageImage(plan));
    const before = await snapshot(node, plan);

    late.continue();
    gate.open();

    expect(await outcomeOf(late)).toEqual({ code: "StoreUnavailable" });
    // All parts were sent again: no part of the late attempt was used, and the server took no
    // more parts from it.
    expect(arrived(requests(node, "UploadPart"))).toEqual([1, 2, 1, 2, 3, 4]);
    expect(await snapshot(node, plan)).toEqual(before);
    expect(await holds(node, plan, bytes)).toBe(true);
    expect(await traces(node, plan)).toEqual(published(plan));
  });

  it("leaves nothing in the bucket when the import was undone meanwhile", async () => {
    const node = await openS3Node();
    const { rig } = node;
    const plan = await claim(node, someBytes(SIZE_BYTES));
    const third = holdPart(node, 3, "before");
    const late = copyElsewhere(node, plan);
    await third.reached;
    await late.stop();
    await rig.removeCopy(plan, "objects");
    await rig.release(plan);

    late.continue();
    third.open();

    expect(await outcomeOf(late)).toEqual(LATE);
    expect(await traces(node, plan)).toEqual(NOTHING);
    expect(await catalogue.leases(plan.image_id)).toEqual([]);
  });
});

describe("storeImage() into S3 when it is cancelled", () => {
  it("keeps the parts that have arrived, and resumes from them when it is run again", async () => {
    const node = await openS3Node();
    const bytes = someBytes(SIZE_BYTES);
    const plan = await claim(node, bytes);
    const environment = activityEnvironment();
    const third = holdPart(node, 3, "resets");
    const storing = node.rig.store(plan, bytes.length, "objects", environment);
    await third.reached;

    environment.cancel();

    await expect(storing).rejects.toBeInstanceOf(CancelledFailure);
    third.open();
    await node.rig.store(plan, bytes.length, "objects");
    expect(partsSent(node)).toEqual([1, 2, 3, 3, 4]);
    expect(await holds(node, plan, bytes)).toBe(true);
    expect(await traces(node, plan)).toEqual(published(plan));
  });

  it("stops reading its copy back on a cancel, though the server does not answer", async () => {
    const node = await openS3Node({ verifyOnPublish: true });
    const plan = await claim(node, someBytes(MIB));
    node.proxy.inject({ when: isA("GetObject"), fault: stall() });

    await cancelWhileReading(node, plan);
    const part = await partOfLease(plan);
    await node.rig.store(plan, MIB, "objects");

    // What a hanging attempt writes is never taken over.
    expect(await partOfLease(plan)).toBe(part);
    expect(await catalogue.leases(plan.image_id)).toMatchObject([{ state: "whole" }]);
  });

  it("stops checking a copy that it found on a cancel, though the server does not answer", async () => {
    const node = await openS3Node();
    const plan = await claim(node, someBytes(SIZE_BYTES));
    await killBeforeTelling(node, plan);
    node.proxy.inject({ when: isA("GetObject"), fault: stall() });

    await cancelWhileReading(node, plan, SIZE_BYTES);
    const part = await partOfLease(plan);
    await node.rig.store(plan, SIZE_BYTES, "objects");

    expect(await partOfLease(plan)).toBe(part);
    expect(await catalogue.leases(plan.image_id)).toMatchObject([{ state: "whole" }]);
  });
});

async function cancelWhileReading(node: S3Node, plan: ImportPlan, sizeBytes = MIB): Promise<void> {
  const environment = activityEnvironment();
  const storing = node.rig.store(plan, sizeBytes, "objects", environment);
  await vi.waitUntil(() => requests(node, "GetObject").length > 0, PATIENCE);
  environment.cancel();
  await expect(storing).rejects.toBeInstanceOf(CancelledFailure);
}

describe("removeCopy() of a copy in S3", () => {
  it.each([
    ["in the middle of its bytes", killWhileCopying],
    ["when all its parts had arrived", killBeforePublishing],
    ["before the catalogue knew of its copy", killBeforeTelling],
  ])(
    "leaves nothing of a copy that was killed %s, and does nothing the second time",
    async (_, kill) => {
      const node = await openS3Node();
      const plan = await claim(node, someBytes(SIZE_BYTES));
      await kill(node, plan);
      expect(await traces(node, plan)).not.toEqual(NOTHING);

      await node.rig.removeCopy(plan, "objects");
      await node.rig.removeCopy(plan, "objects");

      expect(await traces(node, plan)).toEqual(NOTHING);
      expect(await catalogue.leases(plan.image_id)).toEqual([]);
    },
  );

  it("ends an attempt that still sends in this process, and leaves nothing of it", async () => {
    const node = await openS3Node();
    const plan = await claim(node, someBytes(SIZE_BYTES));
    const third = holdPart(node, 3, "resets");
    const storing = node.rig.store(plan, SIZE_BYTES, "objects").catch((error: unknown) => error);
    await third.reached;

    await node.rig.removeCopy(plan, "objects");
    third.open();

    expect(await storing).toBeInstanceOf(Error);
    expect(await traces(node, plan)).toEqual(NOTHING);
    expect(await catalogue.leases(plan.image_id)).toEqual([]);
  });

  it("ends an attempt that still sends in another process, and leaves nothing of it", async () => {
    const node = await openS3Node();
    const plan = await claim(node, someBytes(SIZE_BYTES));
    const last = holdPart(node, 4, "before");
    const writer = copyElsewhere(node, plan);
    // The third part may be on its way; the copy cannot end.
    await vi.waitUntil(() => (requests(node, "UploadPart")[2]?.bodyBytes ?? 0) > 0, PATIENCE);

    await node.rig.removeCopy(plan, "objects");
    last.open();

    expect(await outcomeOf(writer)).toEqual(LATE);
    expect(await traces(node, plan)).toEqual(NOTHING);
    expect(await catalogue.leases(plan.image_id)).toEqual([]);
  });
});

describe("removeCopy() of a copy in S3 that another process begins later", () => {
  it("leaves the later copy nothing to publish", async () => {
    const node = await openS3Node();
    const { proxy, rig } = node;
    const plan = await claim(node, someBytes(MIB));
    const [creation, deletion] = [new S3Gate(), new S3Gate()];
    proxy.inject({ when: isA("CreateMultipartUpload"), fault: creation.before });
    proxy.inject({ when: isA("DeleteObject"), fault: deletion.after });
    const late = rig.storeElsewhere(plan, MIB, { store: "objects" });
    await creation.reached;
    const removing = rig.removeCopy(plan, "objects");
    await deletion.reached;

    creation.open();
    const outcome = await outcomeOf(late);
    deletion.open();
    await removing;

    expect(outcome).toEqual({ code: "AttemptOvertaken" });
    expect((await traces(node, plan)).objects).toEqual([]);
    expect(await catalogue.leases(plan.image_id)).toEqual([]);
  });
});

describe("sweepNode() in a bucket", () => {
  const sweep = async ({ rig }: S3Node) => runStep(() => rig.cleanUp.sweepNode());

  /** Begins a multipart upload without a lease. Returns the id of its image. */
  async function beginOrphan({ bucket }: S3Node): Promise<string> {
    const imageId = randomUUID();
    const Key = `images/${storeKey(imageId, 3)}`;
    await server.client.send(new CreateMultipartUploadCommand({ Bucket: bucket, Key }));
    return imageId;
  }

  it("aborts multipart uploads without a lease, once they are old", async () => {
    const node = await openS3Node();
    const old = await beginOrphan(node);
    await ageUploads(node);
    const young = await beginOrphan(node);

    expect(await sweep(node)).toEqual({ staged: 0, parts: 1 });

    expect(await bucketTraces(server, node.bucket, old)).toEqual(NOTHING);
    expect((await bucketTraces(server, node.bucket, young)).uploads).toHaveLength(1);
  });

  it("keeps the multipart upload of a copy that has a lease, however old it is", async () => {
    const node = await openS3Node();
    const plan = await claim(node, someBytes(SIZE_BYTES));
    await killWhileCopying(node, plan);
    await ageUploads(node);

    expect(await sweep(node)).toEqual({ staged: 0, parts: 0 });

    expect(await traces(node, plan)).toEqual({ objects: [], uploads: published(plan).objects });
  });
});
