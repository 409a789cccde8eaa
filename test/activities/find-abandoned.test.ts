import { sql } from "drizzle-orm";
import { describe, expect } from "vitest";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import { findAbandonedActivities, type Abandoned } from "../../src/activities/find-abandoned.ts";
import { beginCopyRemoval } from "../../src/db/deletion-records.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { type NodeRig, onNode, openNode, someBytes } from "../support/node-rig.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);

/** The findings about one image. The catalogue holds the images of other tests, too. */
async function findOf(rig: NodeRig, imageId: string) {
  const found = await rig.control.findAbandoned();
  return {
    claims: found.claims.filter((claim) => claim.image_id === imageId),
    copies: found.copies.filter((copy) => copy.image_id === imageId),
    deletions: found.deletions.filter((id) => id === imageId),
    removals: found.removals?.filter((copy) => copy.image_id === imageId),
  };
}

const NOTHING = { claims: [], copies: [], deletions: [], removals: [] };

function copyOf({ image_id, epoch, node }: ImportPlan, store: string) {
  return { image_id, epoch, store, node };
}

/** A published image with copies in both stores. */
async function copiedTwice(rig: NodeRig): Promise<ImportPlan> {
  const plan = await rig.saved(someBytes(100), ["fast", "slow"]);
  await rig.activate(plan);
  return plan;
}

async function startRemoval({ image_id }: ImportPlan, store: string): Promise<void> {
  await catalogue.database.transaction((db) => beginCopyRemoval(db, image_id, store));
}

describe("findAbandoned()", () => {
  it("finds the claim of a run that is not open any more, with its copies", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(100), ["fast", "slow"]);
    await rig.store(plan, 100, "fast");
    await rig.store(plan, 100, "slow");

    const found = await findOf(rig, plan.image_id);

    expect(found).toEqual({
      ...NOTHING,
      claims: [
        {
          image_id: plan.image_id,
          workflow_id: `image-import/${plan.image_id}`,
          run_id: plan.run_id,
          copies: expect.arrayContaining([copyOf(plan, "fast"), copyOf(plan, "slow")]) as object,
        },
      ],
    });
  });

  it("leaves an import alone while its run is open", async () => {
    const imageId = await catalogue.newImage();
    const rig = await openNode(catalogue, { openRuns: [`image-import/${imageId}`] });
    const plan = await rig.claim(imageId, { uri: rig.uri("disk.raw") });

    expect(await findOf(rig, plan.image_id)).toEqual(NOTHING);
  });

  it("finds nothing of an import that ended well", async ({ rig }) => {
    const { image_id } = await rig.import(someBytes(100));

    expect(await findOf(rig, image_id)).toEqual(NOTHING);
  });

  it("finds the copies that an import did not remove before it released the image", async ({
    rig,
  }) => {
    const plan = await rig.stageAndClaim(someBytes(100));
    await rig.store(plan, 100);
    await rig.release(plan);

    expect(await findOf(rig, plan.image_id)).toEqual({
      ...NOTHING,
      copies: [copyOf(plan, "fast")],
    });
  });

  it("finds the copies of an earlier epoch while another import of the image runs", async () => {
    const imageId = await catalogue.newImage();
    const rig = await openNode(catalogue, { openRuns: [`image-import/${imageId}`] });
    const earlier = await rig.claim(imageId, { uri: rig.uri("disk.raw") });
    await catalogue.wholeCopy({ imageId, epoch: earlier.epoch, store: "fast" });
    const plan = await rig.claim(imageId, { uri: rig.uri("disk.raw") });
    await catalogue.wholeCopy({ imageId, epoch: plan.epoch, store: "fast" });

    expect((await findOf(rig, imageId)).copies).toMatchObject([
      { epoch: earlier.epoch, store: "fast" },
    ]);
  });

  it("finds a deletion that began a while ago and has not ended", async ({ rig }) => {
    const imageId = await catalogue.newImage();
    await rig.beginDeletion(imageId);
    await catalogue.execute(
      sql`UPDATE images SET updated_at = now() - interval '31 seconds' WHERE id = ${imageId}`,
    );

    expect(await findOf(rig, imageId)).toEqual({ ...NOTHING, deletions: [imageId] });
  });

  it("leaves a deletion that began just now to its own workflow", async ({ rig }) => {
    const imageId = await catalogue.newImage();
    await rig.beginDeletion(imageId);

    expect(await findOf(rig, imageId)).toEqual(NOTHING);
  });

  it("finds the removal of a copy that began a while ago and has not ended", async ({ rig }) => {
    const plan = await copiedTwice(rig);
    await startRemoval(plan, "slow");
    await catalogue.execute(
      sql`UPDATE images SET updated_at = now() - interval '31 seconds' WHERE id = ${plan.image_id}`,
    );

    expect(await findOf(rig, plan.image_id)).toEqual({
      ...NOTHING,
      removals: [copyOf(plan, "slow")],
    });
  });

  it("leaves the removal of a copy that began just now to its own workflow", async ({ rig }) => {
    const plan = await copiedTwice(rig);
    await startRemoval(plan, "slow");

    expect(await findOf(rig, plan.image_id)).toEqual(NOTHING);
  });

  it("fails when it cannot find out whether a run is open, rather than undo it", async ({
    rig,
  }) => {
    await rig.claim(await catalogue.newImage(), { uri: rig.uri("disk.raw") });
    const { findAbandoned } = finderWith(rig, {
      isRunOpen: async () => {
        throw new ImportError("TemporalUnavailable", "no answer");
      },
    });

    await expect(findAbandoned()).rejects.toMatchObject({ code: "TemporalUnavailable" });
  });
});

function finderWith(rig: NodeRig, changes: object): { findAbandoned: () => Promise<Abandoned> } {
  const activities = findAbandonedActivities({ ...rig.dependencies, ...changes });
  return { findAbandoned: () => activities.findAbandoned() };
}

describe("findAbandoned() names the nodes to sweep", () => {
  it("its own, also when it holds nothing", async ({ rig }) => {
    expect((await rig.control.findAbandoned()).nodes).toContain(rig.dependencies.staging.node);
  });

  it("those with staged data, with leases and with copies to delete, each once", async ({
    rig,
  }) => {
    const staged = await rig.stage(someBytes(100));
    const leased = await rig.stageAndClaim(someBytes(100));
    await rig.store(leased, 100);
    const deleted = await rig.import(someBytes(100));
    await rig.beginDeletion(deleted.image_id);
    await moveTo("a1a1a1a1a1a1", "leases", staged);
    await moveTo("b2b2b2b2b2b2", "leases", leased.image_id);
    await moveTo("c3c3c3c3c3c3", "image_locations", deleted.image_id);

    const { nodes } = await rig.control.findAbandoned();

    expect(nodes).toEqual(expect.arrayContaining(["a1a1a1a1a1a1", "b2b2b2b2b2b2", "c3c3c3c3c3c3"]));
    expect(nodes).toEqual([...new Set(nodes)].sort());
  });

  it("but none of its own on a worker without a staging area", async ({ rig }) => {
    const staging = new ImportError("BadTaskConfiguration", "no staging area");

    const { nodes } = await finderWith(rig, { staging }).findAbandoned();

    expect(nodes).not.toContain(rig.dependencies.staging.node);
  });

  async function moveTo(node: string, table: string, imageId: string): Promise<void> {
    await catalogue.execute(
      sql`UPDATE ${sql.identifier(table)} SET node = ${node} WHERE image_id = ${imageId}`,
    );
  }
});
