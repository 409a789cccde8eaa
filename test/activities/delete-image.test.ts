import { mkdir, readFile, rename, rmdir, unlink, writeFile } from "node:fs/promises";
import { sql } from "drizzle-orm";
import { describe, expect, vi } from "vitest";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import { removeImageBytesActivities } from "../../src/activities/delete-image.ts";
import { newPartName } from "../../src/bytes/part-name.ts";
import { beginCopyRemoval } from "../../src/db/deletion-records.ts";
import { imageLocations } from "../../src/db/schema.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import { Stores } from "../../src/stores/open-stores.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import { MIB } from "../support/mib.ts";
import { type NodeRig, onNode, openNode, runStep, someBytes } from "../support/node-rig.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);

async function removeBytes(rig: NodeRig, imageId: string): Promise<void> {
  await runStep(() => rig.cleanUp.removeImageBytes(imageId));
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

/** The same steps on a worker where `slow` is not configured any more. */
async function withoutSlow(rig: NodeRig) {
  const { fast } = rig.storeSettings;
  const stores = await Stores.open(fast === undefined ? {} : { fast }, "fast");
  return removeImageBytesActivities({ ...rig.dependencies, stores });
}

async function locationsOf(imageId: string) {
  return catalogue.database.query((db) =>
    db
      .select()
      .from(imageLocations)
      .where(sql`image_id = ${imageId}`)
      .orderBy(imageLocations.store),
  );
}

describe("planDeletion()", () => {
  it("names the nodes that have bytes of the image", async ({ rig }) => {
    const { image_id } = await rig.import(someBytes(100));
    await catalogue.execute(
      sql`UPDATE leases SET node = 'ffffffffffff' WHERE image_id = ${image_id}`,
    );
    await rig.beginDeletion(image_id);

    expect(await rig.control.planDeletion(image_id)).toEqual({
      import_workflow_id: null,
      nodes: [rig.dependencies.staging.node, "ffffffffffff"].sort(),
    });
  });

  it("names the import to cancel first", async ({ rig }) => {
    const { image_id } = await rig.stageAndClaim(someBytes(100));
    await rig.beginDeletion(image_id);

    expect(await rig.control.planDeletion(image_id)).toEqual({
      import_workflow_id: `image-import/${image_id}`,
      nodes: [rig.dependencies.staging.node],
    });
  });

  it("has nothing to do for an image that is not being deleted", async ({ rig }) => {
    const { image_id } = await rig.import(someBytes(100));

    expect(await rig.control.planDeletion(image_id)).toEqual({
      import_workflow_id: null,
      nodes: [],
    });
  });
});

describe("awaitRelease()", () => {
  it("fails for now while an import holds the image", async ({ rig }) => {
    const { image_id } = await rig.stageAndClaim(someBytes(100));
    await rig.beginDeletion(image_id);

    expect(await failureOf(rig.control.awaitRelease(image_id))).toMatchObject({
      code: "ImageStillClaimed",
      message: `Image "${image_id}" is still being imported`,
      retryable: true,
    });
  });

  it("succeeds once the import has released the image", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(100));
    await rig.beginDeletion(plan.image_id);
    await rig.release(plan);

    await expect(rig.control.awaitRelease(plan.image_id)).resolves.toBeUndefined();
  });
});

describe("removeImageBytes()", () => {
  it("removes the copies in all stores, and their rows", async ({ rig }) => {
    const plan = await rig.saved(someBytes(100), ["fast", "slow"]);
    await rig.activate(plan);
    await rig.beginDeletion(plan.image_id);

    await removeBytes(rig, plan.image_id);

    expect([await rig.names("fast"), await rig.names("slow")]).toEqual([[], []]);
    expect(await locationsOf(plan.image_id)).toEqual([]);
  });

  it("removes the staged data, and its row", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));
    await rig.beginDeletion(imageId);

    await removeBytes(rig, imageId);

    expect(await rig.names("staging")).toEqual([]);
    expect(await catalogue.staged(imageId)).toBeUndefined();
  });

  it("removes the part of an upload that still runs", async ({ rig }) => {
    const imageId = await catalogue.newImage();
    const part = newPartName(imageId, 0);
    await catalogue.beginStaging(imageId);
    await catalogue.execute(
      sql`UPDATE leases SET node = ${rig.dependencies.staging.node}, part = ${part},
        path = ${rig.staged(imageId)} WHERE image_id = ${imageId}`,
    );
    await writeFile(rig.staged(part), someBytes(100));
    await rig.beginDeletion(imageId);

    await removeBytes(rig, imageId);

    expect(await rig.names("staging")).toEqual([]);
  });

  it("removes the copies that an import did not remove, in whatever state, and their leases", async ({
    rig,
  }) => {
    const plan = await rig.stageAndClaim(someBytes(3 * MIB), ["fast", "slow"]);
    await rig.store(plan, 3 * MIB, "slow");
    const { writer } = await rig.heldElsewhere(plan, 3 * MIB);
    await writer.kill();
    await rig.beginDeletion(plan.image_id);
    await rig.release(plan);

    await removeBytes(rig, plan.image_id);

    expect([await rig.names("fast"), await rig.names("slow")]).toEqual([[], []]);
    expect(await catalogue.leases(plan.image_id)).toEqual([]);
  });

  it("succeeds again", async ({ rig }) => {
    const plan = await rig.import(someBytes(100));
    await rig.beginDeletion(plan.image_id);
    await removeBytes(rig, plan.image_id);
    const before = await rig.snapshot(plan);

    await removeBytes(rig, plan.image_id);

    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it("succeeds where the bytes are gone already", async ({ rig }) => {
    const plan = await rig.import(someBytes(100));
    await unlink(rig.copyPath(plan));
    await unlink(rig.staged(plan.image_id));
    await rig.beginDeletion(plan.image_id);

    await removeBytes(rig, plan.image_id);

    expect(await rig.control.finishDeletion(plan.image_id)).toBe(true);
  });

  it("keeps the row of a copy while its store is unreachable", async ({ rig }) => {
    const plan = await rig.import(someBytes(100));
    await rig.beginDeletion(plan.image_id);
    await rename(rig.stored(""), rig.stored("../away"));

    const failure = await failureOf(removeBytes(rig, plan.image_id));

    expect(failure).toMatchObject({ code: "StoreUnavailable", retryable: true });
    expect(await locationsOf(plan.image_id)).toMatchObject([{ status: "pending_delete" }]);
  });

  it("keeps the row of a copy while the store's volume is not mounted, and ends once it is", async ({
    rig,
  }) => {
    const plan = await rig.import(someBytes(100));
    await rig.beginDeletion(plan.image_id);
    await rename(rig.stored(""), rig.stored("../away"));
    await mkdir(rig.stored(""));

    expect(await failureOf(removeBytes(rig, plan.image_id))).toMatchObject({
      code: "StoreUnavailable",
      hint: expect.stringContaining("stores --adopt fast") as unknown,
    });
    expect(await locationsOf(plan.image_id)).toMatchObject([{ status: "pending_delete" }]);
    expect(await rig.control.finishDeletion(plan.image_id)).toBe(false);
    await rmdir(rig.stored(""));
    await rename(rig.stored("../away"), rig.stored(""));
    await removeBytes(rig, plan.image_id);
    expect(await rig.names("fast")).toEqual([]);
    expect(await rig.control.finishDeletion(plan.image_id)).toBe(true);
  });

  it("empties the other stores while one store is unreachable", async ({ rig }) => {
    const plan = await copiedTwice(rig);
    await rig.beginDeletion(plan.image_id);
    await rename(rig.stored(""), rig.stored("../away"));

    const failure = await failureOf(removeBytes(rig, plan.image_id));

    expect(failure.code).toBe("StoreUnavailable");
    expect(await locationsOf(plan.image_id)).toMatchObject([{ store: "fast" }]);
    expect([await rig.names("slow"), await rig.names("staging")]).toEqual([[], []]);
  });

  it("keeps the row of a copy while its store is not configured", async ({ rig }) => {
    const plan = await copiedTwice(rig);
    await rig.beginDeletion(plan.image_id);
    const activities = await withoutSlow(rig);

    const failure = await failureOf(runStep(() => activities.removeImageBytes(plan.image_id)));

    expect(failure).toMatchObject({ code: "StoreUnavailable", retryable: true });
    expect(await locationsOf(plan.image_id)).toMatchObject([{ store: "slow" }]);
  });

  it("removes a copy whose own removal had begun before", async ({ rig }) => {
    const plan = await copiedTwice(rig);
    await startRemoval(plan, "slow");
    await rig.beginDeletion(plan.image_id);

    await removeBytes(rig, plan.image_id);

    expect([await rig.names("fast"), await rig.names("slow")]).toEqual([[], []]);
    expect(await rig.control.finishDeletion(plan.image_id)).toBe(true);
  });

  it("touches nothing of a published image of which one copy is to be removed", async ({ rig }) => {
    const plan = await copiedTwice(rig);
    await startRemoval(plan, "slow");
    const before = await rig.snapshot(plan);

    await removeBytes(rig, plan.image_id);

    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it.for([
    ["is published", async (rig: NodeRig) => rig.import(someBytes(100))],
    ["is being imported", storing],
  ] as const)("touches nothing of an image that %s", async ([_, make], { rig }) => {
    const plan = await make(rig);
    const before = await rig.snapshot(plan);

    await removeBytes(rig, plan.image_id);

    expect(await rig.snapshot(plan)).toEqual(before);
  });

  async function storing(rig: NodeRig) {
    const plan = await rig.stageAndClaim(someBytes(100));
    await rig.store(plan, 100);
    return plan;
  }

  it("leaves the bytes on other nodes to their workers", async ({ rig }) => {
    const plan = await rig.import(someBytes(100));
    await catalogue.execute(
      sql`UPDATE image_locations SET node = 'ffffffffffff' WHERE image_id = ${plan.image_id}`,
    );
    await rig.beginDeletion(plan.image_id);

    await removeBytes(rig, plan.image_id);

    expect(await locationsOf(plan.image_id)).toMatchObject([{ node: "ffffffffffff" }]);
    expect(await rig.names("fast")).toHaveLength(1);
  });
});

describe("removePublishedCopy()", () => {
  async function removeCopy(rig: NodeRig, plan: ImportPlan, store: string): Promise<void> {
    await runStep(() => rig.cleanUp.removePublishedCopy(orderOf(plan, store)));
  }

  function orderOf({ image_id, epoch }: ImportPlan, store: string) {
    return { image_id, epoch, store };
  }

  it("removes the copy and its row, and nothing else of the image", async ({ rig }) => {
    const plan = await copiedTwice(rig);
    await startRemoval(plan, "slow");

    await removeCopy(rig, plan, "slow");

    expect(await rig.names("slow")).toEqual([]);
    expect(await rig.names("fast")).toEqual([`${plan.image_id}.1`]);
    expect(await rig.names("staging")).toEqual([plan.image_id]);
    expect(await locationsOf(plan.image_id)).toMatchObject([{ store: "fast", status: "active" }]);
    expect((await catalogue.image(plan.image_id)).status).toBe("active");
  });

  it("leaves the bytes to their other names when the copy is one of several", async () => {
    const rig = await openNode(catalogue, { stores: { fast: {}, slow: { zeroCopy: true } } });
    const bytes = someBytes(100);
    const plan = await rig.saved(bytes, ["slow"]);
    await rig.activate(plan);
    await catalogue.execute(sql`
      INSERT INTO image_locations (image_id, store, epoch, status, node, key, url, size, crc32)
      SELECT image_id, 'fast', epoch, status, node, key, url, size, crc32
      FROM image_locations WHERE image_id = ${plan.image_id}`);
    await startRemoval(plan, "slow");

    await removeCopy(rig, plan, "slow");

    expect(await rig.names("slow")).toEqual([]);
    expect(await readFile(rig.staged(plan.image_id))).toEqual(bytes);
  });

  it("succeeds again", async ({ rig }) => {
    const plan = await copiedTwice(rig);
    await startRemoval(plan, "slow");
    await removeCopy(rig, plan, "slow");
    const before = await rig.snapshot(plan);

    await removeCopy(rig, plan, "slow");

    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it("succeeds where the bytes are gone already", async ({ rig }) => {
    const plan = await copiedTwice(rig);
    await unlink(rig.copyPath(plan, "slow"));
    await startRemoval(plan, "slow");

    await removeCopy(rig, plan, "slow");

    expect(await locationsOf(plan.image_id)).toMatchObject([{ store: "fast" }]);
  });

  it("touches nothing of a copy that readers see", async ({ rig }) => {
    const plan = await copiedTwice(rig);
    await startRemoval(plan, "slow");
    const before = await rig.snapshot(plan);

    await removeCopy(rig, plan, "fast");

    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it("leaves a copy on another node to its worker", async ({ rig }) => {
    const plan = await copiedTwice(rig);
    await catalogue.execute(
      sql`UPDATE image_locations SET node = 'ffffffffffff' WHERE image_id = ${plan.image_id}`,
    );
    await startRemoval(plan, "slow");
    const before = await rig.snapshot(plan);

    await removeCopy(rig, plan, "slow");

    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it("keeps the row while the store is unreachable, and removes the copy afterwards", async ({
    rig,
  }) => {
    const plan = await copiedTwice(rig);
    await startRemoval(plan, "slow");
    const [store, away] = [rig.stored("", "slow"), rig.stored("", "away")];
    await rename(store, away);

    const failure = await failureOf(removeCopy(rig, plan, "slow"));
    const whileAway = await locationsOf(plan.image_id);
    await rename(away, store);
    await removeCopy(rig, plan, "slow");

    expect(failure).toMatchObject({ code: "StoreUnavailable", retryable: true });
    expect(whileAway).toMatchObject([{ store: "fast" }, { store: "slow" }]);
    expect(await locationsOf(plan.image_id)).toMatchObject([{ store: "fast" }]);
    expect(await rig.names("slow")).toEqual([]);
  });

  it("keeps the row while the store is not configured, and is to be tried again", async ({
    rig,
  }) => {
    const plan = await copiedTwice(rig);
    await startRemoval(plan, "slow");
    const activities = await withoutSlow(rig);
    const before = await rig.snapshot(plan);

    const failure = await failureOf(
      runStep(() => activities.removePublishedCopy(orderOf(plan, "slow"))),
    );

    expect(failure).toMatchObject({
      code: "StoreUnavailable",
      message: 'Cannot find store "slow": the configured stores are "fast"',
      retryable: true,
    });
    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it("keeps the row while the store lets nothing be removed, and is to be tried again", async ({
    rig,
  }) => {
    const plan = await copiedTwice(rig);
    await startRemoval(plan, "slow");
    const refusal = new ImportError("PermissionDenied", "the directory is read-only");
    vi.spyOn(rig.dependencies.stores.get("slow"), "remove").mockRejectedValueOnce(refusal);

    const failure = await failureOf(removeCopy(rig, plan, "slow"));

    expect(failure).toMatchObject({
      code: "StoreUnavailable",
      message: "the directory is read-only",
      retryable: true,
    });
    expect(await locationsOf(plan.image_id)).toMatchObject([{ store: "fast" }, { store: "slow" }]);
  });
});

describe("finishDeletion()", () => {
  it("ends the deletion of an image of which nothing is left", async ({ rig }) => {
    const plan = await rig.import(someBytes(100));
    await rig.beginDeletion(plan.image_id);
    await removeBytes(rig, plan.image_id);

    expect(await rig.control.finishDeletion(plan.image_id)).toBe(true);
    expect(await catalogue.image(plan.image_id)).toMatchObject({
      status: "deleted",
      deletedAt: expect.any(Date) as Date,
    });
  });

  it("reports again that it is done", async ({ rig }) => {
    const imageId = await catalogue.newImage();
    await rig.beginDeletion(imageId);
    await rig.control.finishDeletion(imageId);
    const image = await catalogue.image(imageId);

    expect(await rig.control.finishDeletion(imageId)).toBe(true);
    expect(await catalogue.image(imageId)).toEqual(image);
  });

  it("does not end it while bytes are left", async ({ rig }) => {
    const { image_id } = await rig.import(someBytes(100));
    await rig.beginDeletion(image_id);

    expect(await rig.control.finishDeletion(image_id)).toBe(false);
    expect((await catalogue.image(image_id)).status).toBe("pending_delete");
  });

  it("does not end it while an import holds the image", async ({ rig }) => {
    const imageId = await catalogue.newImage();
    await rig.claim(imageId, { uri: rig.uri("disk.raw") });
    await rig.beginDeletion(imageId);

    expect(await rig.control.finishDeletion(imageId)).toBe(false);
  });

  it("changes nothing of an image that is not being deleted", async ({ rig }) => {
    const plan = await rig.import(someBytes(100));
    const before = await rig.snapshot(plan);

    await rig.control.finishDeletion(plan.image_id);

    expect(await rig.snapshot(plan)).toEqual(before);
  });
});
