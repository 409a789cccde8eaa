import { eq } from "drizzle-orm";
import { describe, expect } from "vitest";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import type { StoredCopy } from "../../src/activities/store-image.ts";
import { imageLocations } from "../../src/db/schema.ts";
import type { Digests } from "../../src/domain/digests.ts";
import { storeKey } from "../../src/stores/store.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import {
  type NodeRig,
  onNode,
  openNode,
  someBytes,
  WAYS_TO_LOSE_AN_IMAGE,
} from "../support/node-rig.ts";
import { saveOrder } from "../support/step-orders.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);
const SIZE_BYTES = 5000;

interface Copied {
  readonly plan: ImportPlan;
  readonly digests: Digests;
  readonly copies: readonly StoredCopy[];
}

/** An import whose copies are made. */
async function copied(rig: NodeRig, stores = ["fast"]): Promise<Copied> {
  const plan = await rig.stageAndClaim(someBytes(SIZE_BYTES), stores);
  const digests = await rig.digest(plan, SIZE_BYTES);
  const copies: StoredCopy[] = [];
  for (const store of stores) copies.push(await rig.store(plan, SIZE_BYTES, store));
  return { plan, digests, copies };
}

async function locationsOf(plan: ImportPlan) {
  return catalogue.database.query((db) =>
    db
      .select()
      .from(imageLocations)
      .where(eq(imageLocations.imageId, plan.image_id))
      .orderBy(imageLocations.store, imageLocations.epoch),
  );
}

describe("saveImage()", () => {
  it("records size, virtual size and digests, and moves the image to saving", async ({ rig }) => {
    const { plan, digests, copies } = await copied(rig);

    await rig.control.saveImage({ ...saveOrder(plan, digests, copies), virtual_size: 1 << 20 });

    expect(await catalogue.image(plan.image_id)).toMatchObject({
      status: "saving",
      sizeBytes: SIZE_BYTES,
      virtualSizeBytes: 1 << 20,
      checksum: digests.checksum,
      osHashAlgo: "sha512",
      osHashValue: digests.osHashValue,
      claimTaskId: plan.task_id,
    });
  });

  it("records a pending location for each copy, which readers don't see", async ({ rig }) => {
    const { plan, digests, copies } = await copied(rig, ["fast", "slow"]);

    await rig.control.saveImage(saveOrder(plan, digests, copies));

    const location = {
      imageId: plan.image_id,
      epoch: plan.epoch,
      status: "pending",
      node: plan.node,
      key: storeKey(plan.image_id, plan.epoch),
      sizeBytes: SIZE_BYTES,
      crc32: digests.crc32,
      shared: false,
      version: expect.stringMatching(/^file /) as unknown,
      damage: null,
      createdAt: expect.any(Date) as Date,
    };
    expect(await locationsOf(plan)).toEqual([
      { ...location, store: "fast", url: `file://${rig.copyPath(plan, "fast")}` },
      { ...location, store: "slow", url: `file://${rig.copyPath(plan, "slow")}` },
    ]);
  });

  it("records that a linked copy is still shared with the staged data", async () => {
    const rig = await openNode(catalogue, { stores: { fast: { zeroCopy: true } } });
    const { plan, digests, copies } = await copied(rig);

    await rig.control.saveImage(saveOrder(plan, digests, copies));

    expect(await locationsOf(plan)).toMatchObject([{ store: "fast", shared: true }]);
  });

  it("records the same when it is run again", async ({ rig }) => {
    const { plan, digests, copies } = await copied(rig);
    await rig.control.saveImage(saveOrder(plan, digests, copies));
    const locations = await locationsOf(plan);

    await rig.control.saveImage(saveOrder(plan, digests, copies));

    expect(await locationsOf(plan)).toEqual(locations);
    expect((await catalogue.image(plan.image_id)).status).toBe("saving");
  });

  it.for([
    ["crc32", { crc32: 1 }],
    ["size", { size: SIZE_BYTES + 1 }],
  ] as const)(
    "refuses a copy whose %s is not that of the digests",
    async ([_, difference], { rig }) => {
      const { plan, digests, copies } = await copied(rig, ["fast", "slow"]);
      const [fast, slow] = copies;
      const order = saveOrder(plan, digests, [
        { ...fast },
        { ...slow, ...difference },
      ] as StoredCopy[]);
      const before = await rig.snapshot(plan);

      const failure = await failureOf(rig.control.saveImage(order));

      expect(failure).toMatchObject({
        code: "StagedDataChanged",
        message:
          'The copy in store "slow" and the digests disagree: the staged data changed while it was imported',
      });
      expect(await rig.snapshot(plan)).toEqual(before);
      expect(await locationsOf(plan)).toEqual([]);
    },
  );

  it("refuses a copy without a lease", async ({ rig }) => {
    const { plan, digests, copies } = await copied(rig);
    await rig.removeCopy(plan);

    const failure = await failureOf(rig.control.saveImage(saveOrder(plan, digests, copies)));

    expect(failure).toMatchObject({ code: "ImportLost" });
    expect((await catalogue.image(plan.image_id)).status).toBe("importing");
  });

  it.for(WAYS_TO_LOSE_AN_IMAGE)(
    "refuses an import %s, and records nothing",
    async ([_, lose], { rig }) => {
      const { plan, digests, copies } = await copied(rig);
      const late = await lose(rig, plan);
      const before = await rig.snapshot(plan);

      const failure = await failureOf(rig.control.saveImage(saveOrder(late, digests, copies)));

      expect(failure).toMatchObject({ code: "ImportLost" });
      expect(await rig.snapshot(plan)).toEqual(before);
      expect(await locationsOf(plan)).toEqual([]);
    },
  );

  it("records its own copies after a run that ended without its undo had recorded others", async ({
    rig,
  }) => {
    const { plan, digests, copies } = await copied(rig);
    await rig.control.saveImage(saveOrder(plan, digests, copies));
    const next = await rig.claim(plan.image_id);

    await rig.finish(next, SIZE_BYTES);

    expect(await locationsOf(next)).toMatchObject([
      { epoch: next.epoch, status: "active", url: `file://${rig.copyPath(next)}` },
    ]);
    expect((await catalogue.image(next.image_id)).status).toBe("active");
  });
});
