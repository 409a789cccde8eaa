import { randomBytes } from "node:crypto";
import { mkdir, rename } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, vi } from "vitest";
import { findImage } from "../../src/db/image-records.ts";
import { failureOf } from "../support/failure-of.ts";
import { Hold, losesItsAnswer } from "../support/faults.ts";
import { createRig, type ImportRig, type ImportState, it } from "../support/import-rig.ts";
import { MIB } from "../support/mib.ts";
import { PATIENCE } from "../support/patience.ts";

const GONE: Omit<ImportState, "task" | "failedStores"> = {
  image: "deleted",
  isClaimed: false,
  locations: [],
  leases: [],
  staging: [],
  fast: [],
  slow: [],
};

describe("deleteImage()", () => {
  it("removes the bytes of an active image from all stores", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
    await rig.client.imports.wait(imageId);

    const deletion = await rig.client.images.delete(imageId);

    expect(deletion).toBe("deleted");
    expect(await rig.state(imageId)).toMatchObject(GONE);
  });

  it("removes the upload", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));

    const deletion = await rig.client.images.delete(imageId);

    expect(deletion).toBe("deleted");
    expect(await rig.state(imageId)).toMatchObject(GONE);
  });

  it("cancels an import in the middle of its bytes first, and leaves none", async ({ rig }) => {
    rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(8 * MIB));
    await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
    await rig.copying(imageId, "slow");
    const fast = async () => (await rig.client.imports.status(imageId)).stores["fast"]?.state;
    await vi.waitUntil(async () => (await fast()) === "stored", PATIENCE);

    const deletion = await rig.client.images.delete(imageId);

    expect(deletion).toBe("deleted");
    expect(await failureOf(rig.client.imports.wait(imageId))).toMatchObject({
      code: "ImportCancelled",
    });
    expect(await rig.state(imageId)).toEqual({
      ...GONE,
      failedStores: [],
      task: ["failure", 'Error: ImportCancelled: store "slow": it was cancelled', null],
    });
  });

  it("cancels an import that is paused", async ({ rig }) => {
    rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(8 * MIB));
    await rig.client.imports.start(imageId, { stores: ["slow"] });
    await rig.copying(imageId, "slow");
    await rig.client.imports.pause(imageId);
    await rig.paused(imageId);

    const deletion = await rig.client.images.delete(imageId);

    expect(deletion).toBe("deleted");
    expect(await rig.state(imageId)).toMatchObject(GONE);
  });

  it("removes the bytes of an import that had just published them", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const activating = new Hold();
    rig.fail("activateImage", activating.after);
    await rig.client.imports.start(imageId);
    await activating.reached;

    const deletion = await rig.client.images.delete(imageId);
    activating.release();
    await rig.client.imports.wait(imageId);

    expect(deletion).toBe("deleted");
    expect(await rig.state(imageId)).toMatchObject(GONE);
  });

  it("retries until an unreachable store is back", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
    await rig.client.imports.wait(imageId);
    const [store, away] = [join(rig.directory, "slow"), join(rig.directory, "away")];
    await rename(store, away);

    const whileAway = await rig.client.images.delete(imageId, 0);
    await expect
      .poll(() => rig.calls.filter((call) => call === "removeImageBytes").length, PATIENCE)
      .toBeGreaterThan(1);
    await rename(away, store);
    const onceBack = await rig.client.images.delete(imageId);

    expect([whileAway, onceBack]).toEqual(["pending_delete", "deleted"]);
    expect(await rig.state(imageId)).toMatchObject(GONE);
  });

  it("waits for the reconciler when the import that holds the image was terminated", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const saving = new Hold();
    rig.fail("saveImage", saving.before);
    await rig.client.imports.start(imageId);
    await saving.reached;
    await rig.run(imageId).terminate();
    saving.release();

    const deletion = rig.client.images.delete(imageId);
    await expect.poll(() => rig.calls.includes("awaitRelease"), PATIENCE).toBe(true);
    await rig.reconcile();

    expect(await deletion).toBe("deleted");
    expect(await rig.state(imageId)).toMatchObject(GONE);
  });

  it("is one deletion when two requests come at the same time", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);
    const removing = new Hold();
    rig.fail("removeImageBytes", removing.before);

    const deletions = await Promise.all([
      rig.client.images.delete(imageId, 0),
      rig.client.images.delete(imageId, 0),
    ]);
    removing.release();
    await rig.temporal.workflow.getHandle(`image-delete/${imageId}`).result();

    expect(deletions).toEqual(["pending_delete", "pending_delete"]);
    expect(await rig.state(imageId)).toMatchObject(GONE);
    expect(rig.calls.filter((call) => call === "removeImageBytes")).toHaveLength(1);
  });

  it("leaves alone an image whose deletion was not requested", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);

    await rig.temporal.workflow.execute("deleteImage", {
      workflowId: `image-delete/${imageId}`,
      taskQueue: "image-import",
      args: [imageId],
    });

    expect(await rig.state(imageId)).toMatchObject({ image: "active", fast: ["@.1"] });
  });
});

/** An image that is active in both stores. */
async function activeTwice(rig: ImportRig): Promise<string> {
  const imageId = await rig.stagedImage(randomBytes(1000));
  await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
  await rig.client.imports.wait(imageId);
  return imageId;
}

/** The number of attempts to remove the copy of an image. */
function removalsIn(rig: ImportRig, store: string): number {
  return rig.calls.filter((call) => call === `removePublishedCopy ${store}`).length;
}

/** Three stores; `third` is not one of the rig's own. */
const THREE_STORES = Object.fromEntries(
  ["fast", "slow", "third"].map((name) => [name, { type: "file", path: name, zero_copy: false }]),
);

const ONE_LEFT = {
  ...GONE,
  image: "active",
  locations: ["fast active"],
  fast: ["@.1"],
};

describe("removeImageCopy()", () => {
  it("removes the bytes of one copy, and leaves the others and the image", async ({ rig }) => {
    const imageId = await activeTwice(rig);

    const removal = await rig.client.images.removeCopy(imageId, "slow");

    expect(removal).toBe("removed");
    expect(await rig.state(imageId)).toEqual({
      ...ONE_LEFT,
      failedStores: [],
      task: ["success", "", { image_id: imageId }],
    });
  });

  it("is repeated when its result is lost", async ({ rig }) => {
    const imageId = await activeTwice(rig);
    rig.fail("removePublishedCopy slow", losesItsAnswer);

    const removal = await rig.client.images.removeCopy(imageId, "slow");

    expect(removal).toBe("removed");
    expect(removalsIn(rig, "slow")).toBe(2);
    expect(await rig.state(imageId)).toMatchObject(ONE_LEFT);
  });

  it("retries until an unreachable store is back; readers do not see the copy meanwhile", async ({
    rig,
  }) => {
    const imageId = await activeTwice(rig);
    const [store, away] = [join(rig.directory, "slow"), join(rig.directory, "away")];
    await rename(store, away);

    const whileAway = await rig.client.images.removeCopy(imageId, "slow", 0);
    await expect.poll(() => removalsIn(rig, "slow"), PATIENCE).toBeGreaterThan(1);
    const { stores } = await rig.client.images.show(imageId);
    await rename(away, store);
    const onceBack = await rig.client.images.removeCopy(imageId, "slow");

    expect([whileAway, stores, onceBack]).toEqual(["pending_delete", ["fast"], "removed"]);
    expect(await rig.state(imageId)).toMatchObject(ONE_LEFT);
  });

  it("waits for a worker on the node that reaches the store", async ({ rig }) => {
    const imageId = await activeTwice(rig);
    await rig.stopWorkers();

    const withoutWorker = await rig.client.images.removeCopy(imageId, "slow", 0);
    const meanwhile = await rig.state(imageId);
    await rig.startWorkers();
    const withWorker = await rig.client.images.removeCopy(imageId, "slow");

    expect([withoutWorker, withWorker]).toEqual(["pending_delete", "removed"]);
    expect(meanwhile).toMatchObject({
      locations: ["fast active", "slow pending_delete"],
      slow: ["@.1"],
    });
    expect(await rig.state(imageId)).toMatchObject(ONE_LEFT);
  });

  it("does not wait for an unreachable store of another copy", async () => {
    const rig = await createRig({ stores: THREE_STORES });
    await mkdir(join(rig.directory, "third"));
    const imageId = await rig.stagedImage(randomBytes(1000));
    await rig.client.imports.start(imageId, { stores: ["fast", "slow", "third"] });
    await rig.client.imports.wait(imageId);
    const [store, away] = [join(rig.directory, "third"), join(rig.directory, "away")];
    await rename(store, away);
    await rig.client.images.removeCopy(imageId, "third", 0);
    await expect.poll(() => removalsIn(rig, "third"), PATIENCE).toBeGreaterThan(0);

    const removal = await rig.client.images.removeCopy(imageId, "slow");
    const whileAway = await rig.state(imageId);
    await rename(away, store);
    await rig.client.images.removeCopy(imageId, "third");

    expect(removal).toBe("removed");
    expect(whileAway.locations).toEqual(["fast active", "third pending_delete"]);
    expect(await rig.state(imageId)).toMatchObject(ONE_LEFT);
  });

  it("is one removal when two requests come at the same time", async ({ rig }) => {
    const imageId = await activeTwice(rig);
    const removing = new Hold();
    rig.fail("removePublishedCopy slow", removing.before);

    const removals = await Promise.all([
      rig.client.images.removeCopy(imageId, "slow", 0),
      rig.client.images.removeCopy(imageId, "slow", 0),
    ]);
    removing.release();
    await rig.temporal.workflow.getHandle(`image-remove-copy/${imageId}/slow/1`).result();

    expect(removals).toEqual(["pending_delete", "pending_delete"]);
    expect(await rig.state(imageId)).toMatchObject(ONE_LEFT);
    expect(removalsIn(rig, "slow")).toBe(1);
  });

  it("leaves one copy when the last two are removed at once", async ({ rig }) => {
    const imageId = await activeTwice(rig);

    const removals = await Promise.allSettled([
      rig.client.images.removeCopy(imageId, "fast"),
      rig.client.images.removeCopy(imageId, "slow"),
    ]);

    const { locations, fast, slow } = await rig.state(imageId);
    expect(removals.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(removals.find(({ status }) => status === "rejected")).toMatchObject({
      reason: { code: "ImageConflict" },
    });
    expect(locations).toEqual([fast.length === 1 ? "fast active" : "slow active"]);
    expect([...fast, ...slow]).toEqual(["@.1"]);
  });

  it("leaves no copy when the image is deleted while one is being removed", async ({ rig }) => {
    const imageId = await activeTwice(rig);
    const removing = new Hold();
    rig.fail("removePublishedCopy slow", removing.before);
    const removal = rig.client.images.removeCopy(imageId, "slow");
    await removing.reached;

    const deletion = await rig.client.images.delete(imageId);
    const deleted = await rig.state(imageId);
    removing.release();

    expect([deletion, await removal]).toEqual(["deleted", "removed"]);
    expect(deleted).toMatchObject(GONE);
  });

  it("ends when the image is deleted while the store of the copy is unreachable, once it is back", async ({
    rig,
  }) => {
    const imageId = await activeTwice(rig);
    const [store, away] = [join(rig.directory, "slow"), join(rig.directory, "away")];
    await rename(store, away);
    await rig.client.images.removeCopy(imageId, "slow", 0);

    const whileAway = await rig.client.images.delete(imageId, 0);
    await expect.poll(() => rig.calls.includes("removeImageBytes"), PATIENCE).toBe(true);
    await rename(away, store);
    const onceBack = await rig.client.images.delete(imageId);
    await rig.temporal.workflow.getHandle(`image-remove-copy/${imageId}/slow/1`).result();

    expect([whileAway, onceBack]).toEqual(["pending_delete", "deleted"]);
    expect(await rig.state(imageId)).toMatchObject(GONE);
  });

  it("leaves alone a copy whose removal was not requested", async ({ rig }) => {
    const imageId = await activeTwice(rig);
    const { locations } = await rig.database.query((db) => findImage(db, imageId));
    const [{ node } = { node: "" }] = locations;

    await rig.temporal.workflow.execute("removeImageCopy", {
      workflowId: `image-remove-copy/${imageId}/slow/1`,
      taskQueue: "image-import",
      args: [{ image_id: imageId, epoch: 1, store: "slow", node }],
    });

    expect(await rig.state(imageId)).toMatchObject({
      locations: ["fast active", "slow active"],
      slow: ["@.1"],
    });
  });
});
