import { readFile, utimes } from "node:fs/promises";
import { sql } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import type { PublishOrder } from "../../src/activities/publish-image.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import { HeldRows } from "../support/held-rows.ts";
import {
  openNode,
  outcomeOf,
  runStep,
  someBytes,
  WAYS_TO_LOSE_AN_IMAGE,
  type NodeRig,
} from "../support/node-rig.ts";

const catalogue = useCatalogue();
const SIZE_BYTES = 4096;

interface CopiedImage {
  readonly rig: NodeRig;
  readonly bytes: Buffer;
  readonly plan: ImportPlan;
  readonly order: PublishOrder;
}

/** An image whose copies are made, and not saved. */
async function copiedImage(stores = ["fast", "slow"]): Promise<CopiedImage> {
  const rig = await openNode(catalogue);
  const bytes = someBytes(SIZE_BYTES);
  const plan = await rig.stageAndClaim(bytes, stores);
  return { rig, bytes, plan, order: await rig.publishOrder(plan, SIZE_BYTES) };
}

async function settle(rig: NodeRig, order: PublishOrder): Promise<boolean> {
  const { isPublished } = await runStep(() => rig.control.settlePublication(order));
  return isPublished;
}

/** The upload: what the step deletes after the activation. */
async function holdUpload({ image_id }: ImportPlan): Promise<HeldRows> {
  return HeldRows.hold(
    catalogue,
    sql`SELECT 1 FROM leases WHERE image_id = ${image_id} AND place = 'upload'`,
  );
}

/** The task: the last row that the activation changes. */
async function holdTask({ task_id }: ImportPlan): Promise<HeldRows> {
  return HeldRows.hold(catalogue, sql`SELECT 1 FROM tasks WHERE id = ${task_id}`);
}

/** Kills the step while it waits for rows. */
async function killAt(rows: HeldRows, rig: NodeRig, order: PublishOrder): Promise<void> {
  const program = rig.publishElsewhere(order);
  await rows.awaitWaiters();
  await program.kill();
  await rows.release();
}

async function expectPublished({ rig, bytes, plan }: CopiedImage): Promise<void> {
  expect(await catalogue.image(plan.image_id)).toMatchObject({
    status: "active",
    sizeBytes: SIZE_BYTES,
    claimRunId: null,
  });
  expect(await catalogue.task(plan.task_id)).toMatchObject({ status: "success" });
  expect(await catalogue.locations(plan.image_id)).toMatchObject([
    { store: "fast", status: "active" },
    { store: "slow", status: "active" },
  ]);
  for (const store of ["fast", "slow"]) {
    expect((await readFile(rig.copyPath(plan, store))).equals(bytes)).toBe(true);
  }
}

describe("publishImage()", () => {
  it("saves and activates the image, and deletes its staged data", async () => {
    const image = await copiedImage();

    const published = await image.rig.publishAtOnce(image.order);

    expect(published).toEqual({ isPublished: true, isUnstaged: true });
    await expectPublished(image);
    expect(await catalogue.allLeases(image.plan.image_id)).toEqual([]);
    expect(await image.rig.names("staging")).toEqual([]);
  });

  it("changes nothing when it is run again, also after a copy has changed", async () => {
    const { rig, plan, order } = await copiedImage();
    await rig.publishAtOnce(order);
    await utimes(rig.copyPath(plan), 1, 1);
    const before = await rig.snapshot(plan);

    const again = await rig.publishAtOnce(order);

    expect(again).toEqual({ isPublished: true, isUnstaged: true });
    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it("only saves an image of which a copy may have changed", async () => {
    const { rig, plan, order } = await copiedImage();
    await utimes(rig.copyPath(plan, "slow"), 1, 1);

    const published = await rig.publishAtOnce(order);

    expect(published).toEqual({ isPublished: false, isUnstaged: false });
    expect((await catalogue.image(plan.image_id)).status).toBe("saving");
    expect(await catalogue.locations(plan.image_id)).toMatchObject([
      { store: "fast", status: "pending" },
      { store: "slow", status: "pending" },
    ]);
  });

  it("does not activate an image that another attempt has saved", async () => {
    const { rig, plan, order } = await copiedImage();
    expect(await settle(rig, order)).toBe(false);
    const before = await rig.snapshot(plan);

    const published = await rig.publishAtOnce(order);

    expect(published).toEqual({ isPublished: false, isUnstaged: false });
    expect(await rig.snapshot(plan)).toMatchObject({
      ...before,
      image: { status: "saving", claimRunId: plan.run_id },
    });
  });

  it("is published although its staged data cannot be deleted in time", async () => {
    const image = await copiedImage();
    const upload = await holdUpload(image.plan);

    const published = await image.rig.publishAtOnce(image.order);

    expect(published).toEqual({ isPublished: true, isUnstaged: false });
    await expectPublished(image);
    await upload.release();
  });

  it("fails if a copy and the digests disagree, and changes nothing", async () => {
    const { rig, plan, order } = await copiedImage();
    const before = await rig.snapshot(plan);
    const digests = { ...order.digests, crc32: order.digests.crc32 + 1 };

    const failure = await failureOf(rig.publishAtOnce({ ...order, digests }));

    expect(failure).toMatchObject({ code: "StagedDataChanged" });
    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it.each(WAYS_TO_LOSE_AN_IMAGE)("refuses an import %s, and changes nothing", async (_, lose) => {
    const { rig, plan, order } = await copiedImage();
    const { epoch } = await lose(rig, plan);
    const before = await rig.snapshot(plan);

    const failure = await failureOf(rig.publishAtOnce({ ...order, epoch }));

    expect(failure).toMatchObject({ code: "ImportLost" });
    expect(await rig.snapshot(plan)).toEqual(before);
  });
});

describe("publishImage() after its process was killed", () => {
  it("changes nothing when it was killed before the COMMIT, and publishes then", async () => {
    const image = await copiedImage();
    const { rig, plan, order } = image;
    const before = await rig.snapshot(plan);
    await killAt(await holdTask(plan), rig, order);
    expect(await rig.snapshot(plan)).toEqual(before);

    const published = await rig.publishAtOnce(order);

    expect(published).toEqual({ isPublished: true, isUnstaged: true });
    await expectPublished(image);
    expect(await catalogue.allLeases(plan.image_id)).toEqual([]);
  });

  it("is not published, and undone, when it was killed before the COMMIT", async () => {
    const { rig, plan, order } = await copiedImage();
    await killAt(await holdTask(plan), rig, order);

    expect(await settle(rig, order)).toBe(false);
    for (const store of ["slow", "fast"]) await rig.removeCopy(plan, store);
    await rig.release(plan);

    expect(await catalogue.image(plan.image_id)).toMatchObject({ status: "uploading" });
    expect(await catalogue.locations(plan.image_id)).toEqual([]);
    expect([await rig.names("fast"), await rig.names("slow")]).toEqual([[], []]);
    expect(await rig.names("staging")).toEqual([plan.image_id]);
  });

  it("only deletes the staged data when it was killed after the COMMIT", async () => {
    const image = await copiedImage();
    const { rig, plan, order } = image;
    await killAt(await holdUpload(plan), rig, order);
    await expectPublished(image);
    expect(await rig.names("staging")).toEqual([plan.image_id]);

    const published = await rig.publishAtOnce(order);

    expect(published).toEqual({ isPublished: true, isUnstaged: true });
    await expectPublished(image);
    expect(await rig.names("staging")).toEqual([]);
  });

  it("stays published, whatever undo runs, when it was killed after the COMMIT", async () => {
    const image = await copiedImage();
    const { rig, plan, order } = image;
    await killAt(await holdUpload(plan), rig, order);

    expect(await settle(rig, order)).toBe(true);
    for (const store of ["slow", "fast"]) await rig.removeCopy(plan, store);
    await rig.release(plan);

    await expectPublished(image);
  });
});

describe("publishImage() beside settlePublication()", () => {
  it("has published the image if its transaction came first", async () => {
    const image = await copiedImage();
    const { rig, plan, order } = image;
    const claim = await HeldRows.hold(
      catalogue,
      sql`SELECT 1 FROM images WHERE id = ${plan.image_id}`,
    );
    const late = rig.publishElsewhere(order);
    await claim.awaitWaiters();
    const settled = settle(rig, order);
    await claim.awaitWaiters(2);

    await claim.release();

    expect(await settled).toBe(true);
    expect(await outcomeOf(late)).toEqual({ published: { isPublished: true, isUnstaged: true } });
    await expectPublished(image);
  });

  it("does not publish the image if its transaction comes later", async () => {
    const { rig, plan, order } = await copiedImage();
    const claim = await HeldRows.hold(
      catalogue,
      sql`SELECT 1 FROM images WHERE id = ${plan.image_id}`,
    );
    const settled = settle(rig, order);
    await claim.awaitWaiters();
    const late = rig.publishElsewhere(order);
    await claim.awaitWaiters(2);

    await claim.release();

    expect(await settled).toBe(false);
    expect(await outcomeOf(late)).toEqual({ published: { isPublished: false, isUnstaged: false } });
    expect((await catalogue.image(plan.image_id)).status).toBe("saving");
  });
});
