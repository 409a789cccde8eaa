import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import type { Info } from "@temporalio/activity";
import { afterEach, beforeEach, describe, expect, vi } from "vitest";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import { MIN_PART_BYTES } from "../../src/stores/part-plan.ts";
import { storeKey } from "../../src/stores/store.ts";
import { loadTransform } from "../../src/transforms/load-transform.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { programPath } from "../support/child-program.ts";
import { failureOf } from "../support/failure-of.ts";
import { beginAnswer, HostileOrigin, type Behaviour } from "../support/hostile-origin.ts";
import { MIB } from "../support/mib.ts";
import {
  activityEnvironment,
  type NodeRig,
  onNode,
  openNode,
  outcomeOf,
  runStep,
  someBytes,
} from "../support/node-rig.ts";
import { S3Gate } from "../support/s3-gate.ts";
import { S3Proxy } from "../support/s3-proxy.ts";
import { useS3Server } from "../support/s3-server.ts";
import { transformOrder } from "../support/step-orders.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);
const server = useS3Server();

beforeEach(() => {
  for (const [name, value] of Object.entries(server.env)) vi.stubEnv(name, value);
});

afterEach(() => {
  vi.unstubAllEnvs();
});

const SIZE_BYTES = 8 * MIB + 17;
const BYTES = someBytes(SIZE_BYTES);

/**
 * Attempts that Temporal had scheduled before the one that another process runs (number 1, at 1
 * ms).
 */
const LATE: readonly (readonly [string, Partial<Info>])[] = [
  ["of the same step", { attempt: 0, currentAttemptScheduledTimestampMs: 0 }],
  [
    "of a run that was reset",
    {
      attempt: 9,
      currentAttemptScheduledTimestampMs: 0,
      workflowExecution: { workflowId: "image-import/x", runId: "a run that was reset" },
    },
  ],
];

/** The scene of every case: an attempt that a late attempt must leave alone. */
interface Scene {
  readonly rig: NodeRig;
  readonly plan: ImportPlan;
  /** Runs the same step in this process. */
  readonly run: (info: Partial<Info>) => Promise<unknown>;
  /** Undoes the step in this process. */
  readonly undo: (info: Partial<Info>) => Promise<unknown>;
  /** Lets the other process continue to its end. Returns the bytes that it made. */
  readonly finish: () => Promise<Buffer>;
}

/** A copy that another process is in the middle of. */
async function openCopy(): Promise<Scene> {
  const rig = await openNode(catalogue);
  const plan = await rig.stageAndClaim(BYTES);
  const { writer } = await rig.heldElsewhere(plan, SIZE_BYTES);
  const { image_id, epoch } = plan;
  return {
    rig,
    plan,
    run: (info) => rig.store(plan, SIZE_BYTES, "fast", activityEnvironment(info)),
    undo: (info) =>
      runStep(
        () => rig.cleanUp.removeCopy({ image_id, epoch, store: "fast" }),
        activityEnvironment(info),
      ),
    finish: async () => {
      writer.release();
      expect(await outcomeOf(writer)).toMatchObject({ stored: { store: "fast" } });
      expect(await rig.names("fast")).toEqual([storeKey(image_id, epoch)]);
      return readFile(rig.copyPath(plan));
    },
  };
}

/** An upload to a bucket that another process is in the middle of. */
async function openUpload(): Promise<Scene> {
  const proxy = await S3Proxy.open(server);
  const second = new S3Gate();
  proxy.inject({ when: ({ partNumber }) => partNumber === 2, fault: second.before });
  const objects = {
    type: "s3",
    bucket: await server.makeBucket(),
    prefix: "",
    region: server.region,
    endpoint: proxy.endpoint,
    pathStyle: true,
    checksums: "when_supported",
    partSizeBytes: MIN_PART_BYTES,
    partsInFlight: 1,
  } as const;
  const rig = await openNode(catalogue, { stores: { objects } });
  const plan = await rig.stageAndClaim(BYTES, ["objects"]);
  const { image_id, epoch } = plan;
  const writer = rig.storeElsewhere(plan, SIZE_BYTES, { store: "objects" });
  await second.reached;
  return {
    rig,
    plan,
    run: (info) => rig.store(plan, SIZE_BYTES, "objects", activityEnvironment(info)),
    undo: (info) =>
      runStep(
        () => rig.cleanUp.removeCopy({ image_id, epoch, store: "objects" }),
        activityEnvironment(info),
      ),
    finish: async () => {
      second.open();
      expect(await outcomeOf(writer)).toMatchObject({ stored: { store: "objects" } });
      await using copy = await rig.dependencies.stores
        .get("objects")
        .open(storeKey(image_id, epoch));
      const found = Buffer.alloc(SIZE_BYTES);
      let filled = 0;
      while (filled < SIZE_BYTES) {
        const { bytesRead } = await copy.read(found, filled, SIZE_BYTES - filled, filled);
        filled += bytesRead;
      }
      return found;
    },
  };
}

/** A download that another process is in the middle of. */
async function openDownload(): Promise<Scene> {
  let release: () => void = () => undefined;
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const holding: Behaviour = async (exchange) => {
    beginAnswer(exchange, BYTES);
    await exchange.send(BYTES.subarray(0, 4 * MIB));
    await Promise.race([released, exchange.gone()]);
    await exchange.send(BYTES.subarray(4 * MIB));
  };
  const origin = await HostileOrigin.start(holding);
  const web = { ports: [origin.port], allowedNetworks: ["127.0.0.0/8"] };
  const rig = await openNode(catalogue, { web });
  const plan = await rig.claimForFetch();
  const { image_id, epoch } = plan;
  const writer = rig.fetchElsewhere(plan, origin.url());
  await rig.awaitPart("staging", 2 * MIB);
  return {
    rig,
    plan,
    run: (info) => rig.fetch(plan, origin.url(), activityEnvironment(info)),
    undo: (info) =>
      runStep(() => rig.cleanUp.discardFetched({ image_id, epoch }), activityEnvironment(info)),
    finish: async () => {
      release();
      expect(await outcomeOf(writer)).toHaveProperty("fetched");
      return readFile(await rig.fetchedPath(image_id));
    },
  };
}

/** A transform that another process is in the middle of. */
async function openTransform(): Promise<Scene> {
  const module = programPath("waiting-transform.mjs");
  const waitsFor = join(makeTemporaryDirectory(), "go");
  const rig = await openNode(catalogue, { transforms: [await loadTransform(module)] });
  const plan = await rig.stageAndClaim(BYTES);
  const { image_id, epoch } = plan;
  const order = transformOrder(plan, "waiting");
  const writer = rig.transformElsewhere(order, module, { WAITS_FOR: waitsFor });
  await rig.awaitPart("staging", SIZE_BYTES);
  return {
    rig,
    plan,
    run: (info) => rig.transform(plan, "waiting", {}, activityEnvironment(info)),
    undo: (info) =>
      runStep(() => rig.cleanUp.discardProducts({ image_id, epoch }), activityEnvironment(info)),
    finish: async () => {
      await writeFile(waitsFor, "");
      expect(await outcomeOf(writer)).toMatchObject({ transformed: { product: 1 } });
      const row = await catalogue.staged(image_id, 1);
      return readFile(row?.path ?? "nowhere");
    },
  };
}

const SCENES: readonly (readonly [string, () => Promise<Scene>])[] = [
  ["a copy into a file store", openCopy],
  ["a copy into a bucket", openUpload],
  ["a download", openDownload],
  ["a transform", openTransform],
];

describe.each(SCENES)("%s that a later attempt makes in another process", (_, open) => {
  it.each(LATE)("is left alone by a late attempt, %s", async (_which, info) => {
    const { rig, plan, run, finish } = await open();
    const lease = async () => [
      await catalogue.leases(plan.image_id),
      (await catalogue.staged(plan.image_id, 1))?.token,
      (await catalogue.staged(plan.image_id))?.token,
    ];
    const before = await lease();

    const failure = await failureOf(run(info));

    expect(failure).toMatchObject({ code: "AttemptOvertaken", retryable: true });
    expect(await lease()).toEqual(before);
    expect((await finish()).equals(BYTES)).toBe(true);
    expect(rig.catalogue).toBe(catalogue);
  });

  it.each(LATE)("is not undone by a late undo, %s", async (_which, info) => {
    const { undo, finish } = await open();

    const failure = await failureOf(undo(info));

    expect(failure).toMatchObject({ code: "AttemptOvertaken", retryable: true });
    expect((await finish()).equals(BYTES)).toBe(true);
  });
});

describe("a late release of a claim with which a reset of its run continues", () => {
  const later: Partial<Info> = {
    attempt: 1,
    currentAttemptScheduledTimestampMs: 2_000,
    workflowExecution: { workflowId: "image-import/x", runId: "the reset" },
  };

  it("changes nothing while the later run has a lease", async ({ rig }) => {
    const plan = await rig.stageAndClaim(BYTES);
    await rig.store(plan, SIZE_BYTES, "fast", activityEnvironment(later));
    const release = async (scheduledAtMs: number): Promise<void> =>
      rig.release(
        plan,
        "Error: ImportCancelled: store: it was cancelled",
        [],
        activityEnvironment({ currentAttemptScheduledTimestampMs: scheduledAtMs }),
      );

    const failure = await failureOf(release(1_000));
    const claimed = await catalogue.image(plan.image_id);
    await release(3_000);

    expect(failure).toMatchObject({ code: "AttemptOvertaken", retryable: true });
    expect(claimed).toMatchObject({ status: "importing", claimRunId: plan.run_id });
    expect(await catalogue.image(plan.image_id)).toMatchObject({ claimRunId: null });
  });
});

describe("an attempt in the process that runs the one after it", () => {
  it("steps back, and does not end the later one", async ({ rig }) => {
    const copies = rig.holdCopies();
    const plan = await rig.stageAndClaim(BYTES);
    const later = rig.store(plan, SIZE_BYTES, "fast", activityEnvironment({ attempt: 2 }));
    await copies.reached;

    const failure = await failureOf(rig.store(plan, SIZE_BYTES));
    copies.release();

    expect(failure).toMatchObject({ code: "AttemptOvertaken", retryable: true });
    expect(await later).toMatchObject({ size: SIZE_BYTES });
    expect((await readFile(rig.copyPath(plan))).equals(BYTES)).toBe(true);
  });
});

describe("a late attempt that begins behind its undo", () => {
  it("leaves no copy and no lease when the import is over before the copy is", async ({ rig }) => {
    const copies = rig.holdCopies();
    const plan = await rig.stageAndClaim(BYTES);
    await rig.removeCopy(plan);
    const late = failureOf(rig.store(plan, SIZE_BYTES));
    await copies.reached;

    await rig.release(plan);
    copies.release();

    expect(await late).toMatchObject({ code: "ImportLost" });
    expect(await rig.names("fast")).toEqual([]);
    expect(await catalogue.leases(plan.image_id)).toEqual([]);
  });

  it("leaves no product and no row when the import is over before the transform is", async () => {
    const transform = {
      name: "it",
      run: async ({ productPath }: { readonly productPath: string }) => {
        await writeFile(productPath, someBytes(100));
        await rig.release(plan);
        return { hasProduct: true };
      },
    };
    const rig = await openNode(catalogue, { transforms: [transform] });
    const plan = await rig.stageAndClaim(someBytes(100));
    await rig.discardProducts(plan);

    expect(await failureOf(rig.transform(plan, "it"))).toMatchObject({ code: "ImportLost" });
    expect(await rig.names("staging")).toEqual([plan.image_id]);
    expect(await catalogue.staged(plan.image_id, 1)).toBeUndefined();
  });
});

describe("a late transform of a run that was reset", () => {
  it("leaves the product before its own, which the later run has made again", async () => {
    const copying = (name: string) => ({
      name,
      run: async ({ productPath }: { readonly productPath: string }) => {
        await writeFile(productPath, someBytes(100));
        return { hasProduct: true };
      },
    });
    const rig = await openNode(catalogue, { transforms: [copying("one"), copying("two")] });
    const plan = await rig.stageAndClaim(someBytes(100));
    await rig.transform(plan, "one");
    const again = await catalogue.staged(plan.image_id, 1);
    const [, [, late] = ["", {}]] = LATE;

    await rig.transform(plan, "two", { product: 1 }, activityEnvironment(late));

    expect(await catalogue.staged(plan.image_id, 1)).toEqual(again);
    expect(await rig.names("staging")).toHaveLength(3);
  });
});

describe("an attempt that died between taking a lease and removing the part of the earlier attempt", () => {
  it("leaves that part to the next one, which removes it", async ({ rig }) => {
    const plan = await rig.stageAndClaim(BYTES);
    const { writer: first, part } = await rig.heldElsewhere(plan, SIZE_BYTES);
    await first.stop();
    await catalogue.database.query((db) =>
      db.execute(
        `UPDATE leases SET part = '${plan.image_id}.1.00000000.part', earlier_parts = ARRAY['${part}'] WHERE image_id = '${plan.image_id}'`,
      ),
    );

    await rig.store(plan, SIZE_BYTES);

    expect(await rig.names("fast")).toEqual([storeKey(plan.image_id, plan.epoch)]);
    expect(await catalogue.leases(plan.image_id)).toMatchObject([{ earlierParts: [] }]);
  });

  it("leaves that part to the undo, which removes it", async ({ rig }) => {
    const plan = await rig.stageAndClaim(BYTES);
    const { writer: first, part } = await rig.heldElsewhere(plan, SIZE_BYTES);
    await first.stop();
    await catalogue.database.query((db) =>
      db.execute(
        `UPDATE leases SET part = '${plan.image_id}.1.00000000.part', earlier_parts = ARRAY['${part}'] WHERE image_id = '${plan.image_id}'`,
      ),
    );

    await rig.removeCopy(plan);

    expect(await rig.names("fast")).toEqual([]);
  });
});
