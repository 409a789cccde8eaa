import { randomBytes } from "node:crypto";
import { chmod, open, rename } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, vi } from "vitest";
import { failureOf } from "../support/failure-of.ts";
import { failsWith, Hold } from "../support/faults.ts";
import { createRig, type ImportRig, type ImportState, it } from "../support/import-rig.ts";
import { BACK_TO_STAGED } from "../support/import-states.ts";
import { MIB } from "../support/mib.ts";
import { PATIENCE } from "../support/patience.ts";

const BOTH = { stores: ["fast", "slow"] };
const AS_MANY_AS_POSSIBLE = { ...BOTH, allStoresMustSucceed: false };

/** An image that is imported into the store `slow` alone. */
const IN_SLOW: Omit<ImportState, "task" | "failedStores"> = {
  image: "active",
  isClaimed: false,
  locations: ["slow active"],
  leases: [],
  staging: [],
  fast: [],
  slow: ["@.1"],
};

/** The stores that readers of the image see while it is imported. */
async function storeLists(rig: ImportRig, imageId: string) {
  const image = await rig.client.images.show(imageId);
  return [image.os_glance_importing_to_stores, image.os_glance_failed_import];
}

describe("importImage() into a store that links", () => {
  it("never becomes active with staged data that was written to while another copy ran", async () => {
    const rig = await createRig({
      stores: {
        fast: { type: "file", path: "fast" },
        slow: { type: "file", path: "slow", zero_copy: false },
      },
    });
    const slow = rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(3 * MIB));
    await rig.client.imports.start(imageId, BOTH);
    await rig.copying(imageId, "slow");
    await rig.copied(imageId, "fast");
    // What the slow copy has read already: its own check passes.
    const path = join(rig.directory, "staging", imageId);
    await chmod(path, 0o640);
    const file = await open(path, "r+");
    await file.write(randomBytes(8), 0, 8, 0);
    await file.close();

    slow.release();
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toBe("StagedDataChanged");
    expect(await rig.state(imageId)).toMatchObject({
      locations: [],
      leases: [],
      fast: [],
      slow: [],
    });
  });
});

describe("importImage() where not all stores must succeed", () => {
  it("becomes active in the other stores when one fails permanently, and names it", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));

    await rig.client.imports.start(imageId, AS_MANY_AS_POSSIBLE);
    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome.stores).toEqual(["slow"]);
    expect(await rig.state(imageId)).toEqual({
      ...IN_SLOW,
      failedStores: ["fast"],
      task: ["success", "", { image_id: imageId }],
    });
    expect((await rig.client.imports.status(imageId)).stores).toMatchObject({
      fast: { state: "failed", last_failure: "it is full" },
      slow: { state: "stored", method: "copy" },
    });
  });

  it("removes what is left in the failed store at once and from the locations, while others copy", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const slow = new Hold();
    rig.fail("storeImage slow", slow.before);
    // It has published its copy when it fails.
    rig.fail("storeImage fast", async (step) => {
      await step();
      return failsWith("PermissionDenied", "it is read-only")(step);
    });

    await rig.client.imports.start(imageId, AS_MANY_AS_POSSIBLE);
    await vi.waitFor(async () => {
      expect(await storeLists(rig, imageId)).toEqual([["slow"], ["fast"]]);
    }, PATIENCE);

    expect(await rig.state(imageId)).toMatchObject({ image: "importing", fast: [] });
    slow.release();
    await rig.client.imports.wait(imageId);
    expect(await rig.state(imageId)).toMatchObject({ ...IN_SLOW, failedStores: ["fast"] });
  });

  it("fails when no store succeeds, and leaves nothing", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));
    rig.fail("storeImage slow", failsWith("NoSpace", "it is full, too"));

    await rig.client.imports.start(imageId, AS_MANY_AS_POSSIBLE);
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toBe("NoSpace");
    expect(await rig.state(imageId)).toMatchObject({
      ...BACK_TO_STAGED,
      failedStores: ["fast", "slow"],
      task: [
        "failure",
        expect.stringMatching(/^Error: NoSpace: store "(fast|slow)": it is full/),
        null,
      ],
    });
  });

  it("becomes active although the failed store cannot be cleaned now, and the reconciler does it later", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("storeImage fast", async (step) => {
      await step();
      return failsWith("PermissionDenied", "it is read-only")(step);
    });
    rig.fail("removeCopy fast", failsWith("PermissionDenied", "it is read-only"));

    await rig.client.imports.start(imageId, AS_MANY_AS_POSSIBLE);
    await rig.client.imports.wait(imageId);

    expect(await rig.state(imageId)).toMatchObject({
      ...IN_SLOW,
      failedStores: ["fast"],
      leases: ["fast whole"],
      fast: ["@.1"],
    });
    await rig.reconcile();
    expect(await rig.state(imageId)).toMatchObject({ ...IN_SLOW, failedStores: ["fast"] });
  });

  it("waits for a store that is unreachable for some time, and does not write the other again", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const away = failsWith("StoreUnavailable", "it is unreachable");
    rig.fail("storeImage slow", away, away);

    await rig.client.imports.start(imageId, AS_MANY_AS_POSSIBLE);
    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome.stores).toEqual(["fast", "slow"]);
    expect(rig.calls.filter((call) => call === "storeImage fast")).toHaveLength(1);
  });
});

describe("importImage() while a store is unreachable", () => {
  it("reports the store, the number of attempts and the reason", async ({ rig }) => {
    // A store that was never used has no directory to wait for: it gets one.
    const earlier = await rig.stagedImage(randomBytes(1000));
    await rig.client.imports.start(earlier, { stores: ["slow"] });
    await rig.client.imports.wait(earlier);
    const imageId = await rig.stagedImage(randomBytes(1000));
    const [store, away] = [join(rig.directory, "slow"), join(rig.directory, "away")];
    await rename(store, away);

    await rig.client.imports.start(imageId, BOTH);
    const { slow, fast } = await vi.waitUntil(async () => {
      const { stores } = await rig.client.imports.status(imageId);
      return Number(stores["slow"]?.attempt) > 1 && stores["fast"]?.state === "stored" && stores;
    }, PATIENCE);
    await rename(away, store);

    expect(fast).not.toHaveProperty("last_failure");
    expect(slow).toMatchObject({
      state: "copying",
      last_failure: expect.stringContaining(store) as string,
    });
    expect((await rig.client.imports.wait(imageId)).stores).toEqual(["fast", "slow"]);
    const { stores } = await rig.client.imports.status(imageId);
    expect(stores["slow"]).not.toHaveProperty("last_failure");
  });
});

describe("importImage() into several stores of which all must succeed", () => {
  it("stops the others when one fails permanently, removes all copies, and names the store and the reason", async ({
    rig,
  }) => {
    rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(4 * MIB));
    const fast = new Hold();
    rig.fail("storeImage fast", async (step) => {
      await fast.before(async () => undefined);
      return failsWith("NoSpace", "it is full")(step);
    });

    await rig.client.imports.start(imageId, BOTH);
    await rig.copying(imageId, "slow");
    fast.release();
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toBe("NoSpace");
    expect(await rig.state(imageId)).toEqual({
      ...BACK_TO_STAGED,
      failedStores: ["fast"],
      task: ["failure", 'Error: NoSpace: store "fast": it is full', null],
    });
  });

  it("fills every store with all_stores", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));

    await rig.client.imports.start(imageId, { allStores: true });
    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome.stores).toEqual(["fast", "slow"]);
    expect(await rig.state(imageId)).toMatchObject({
      image: "active",
      locations: ["fast active", "slow active"],
    });
  });
});

describe("the update dropStore", () => {
  it("stops a copy in the middle of its bytes, removes it, and the import continues", async ({
    rig,
  }) => {
    rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(8 * MIB));
    await rig.client.imports.start(imageId, BOTH);
    await rig.copying(imageId, "slow");

    const left = await rig.client.imports.dropStore(imageId, "slow");
    const outcome = await rig.client.imports.wait(imageId);

    expect(left).toEqual(["fast"]);
    expect(outcome.stores).toEqual(["fast"]);
    expect(await rig.state(imageId)).toEqual({
      image: "active",
      isClaimed: false,
      failedStores: [],
      task: ["success", "", { image_id: imageId }],
      locations: ["fast active"],
      leases: [],
      staging: [],
      fast: ["@.1"],
      slow: [],
    });
  });

  it("removes a copy that is made already, as long as another one is being made", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const slow = new Hold();
    rig.fail("storeImage slow", slow.before);
    await rig.client.imports.start(imageId, BOTH);
    await vi.waitFor(async () => {
      expect(await storeLists(rig, imageId)).toEqual([["slow"], []]);
    }, PATIENCE);

    await rig.client.imports.dropStore(imageId, "fast");

    expect(await rig.state(imageId)).toMatchObject({ fast: [], image: "importing" });
    slow.release();
    await rig.client.imports.wait(imageId);
    expect(await rig.state(imageId)).toMatchObject({ ...IN_SLOW, failedStores: [] });
  });

  it("drops an unreachable store", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const away = failsWith("StoreUnavailable", "it is unreachable");
    rig.fail("storeImage slow", ...Array.from({ length: 100 }, () => away));
    await rig.client.imports.start(imageId, BOTH);
    await vi.waitFor(() => {
      expect(rig.calls.filter((call) => call === "storeImage slow").length).toBeGreaterThan(1);
    }, PATIENCE);

    await rig.client.imports.dropStore(imageId, "slow");
    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome.stores).toEqual(["fast"]);
  });

  it("drops while the import is paused", async ({ rig }) => {
    rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(8 * MIB));
    await rig.client.imports.start(imageId, BOTH);
    await rig.copying(imageId, "slow");
    await rig.client.imports.pause(imageId);
    await rig.paused(imageId);

    await rig.client.imports.dropStore(imageId, "slow");

    expect(await rig.state(imageId)).toMatchObject({ slow: [], image: "importing" });
    await rig.client.imports.resume(imageId);
    expect((await rig.client.imports.wait(imageId)).stores).toEqual(["fast"]);
  });

  it("leaves out a store to which no copy has begun, and writes nothing there", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const verifying = new Hold();
    rig.fail("verifyStaging", verifying.before);
    await rig.client.imports.start(imageId, BOTH);
    await verifying.reached;

    const left = await rig.client.imports.dropStore(imageId, "fast");

    expect(left).toEqual(["slow"]);
    expect(await storeLists(rig, imageId)).toEqual([["slow"], []]);
    expect((await rig.client.imports.status(imageId)).stores).toMatchObject({
      fast: { state: "dropped" },
    });
    verifying.release();
    expect((await rig.client.imports.wait(imageId)).stores).toEqual(["slow"]);
    expect(await rig.state(imageId)).toMatchObject({ ...IN_SLOW, failedStores: [] });
    expect(rig.calls.filter((call) => call.endsWith(" fast"))).toEqual(["giveUpStore fast"]);
  });

  it("leaves out a store while its import is paused before the copies", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const verifying = new Hold();
    rig.fail("verifyStaging", verifying.before);
    await rig.client.imports.start(imageId, BOTH);
    await verifying.reached;
    await rig.client.imports.pause(imageId);
    await rig.paused(imageId);

    expect(await rig.client.imports.dropStore(imageId, "slow")).toEqual(["fast"]);

    await rig.client.imports.resume(imageId);
    expect((await rig.client.imports.wait(imageId)).stores).toEqual(["fast"]);
  });

  it("waits with the copies until a store is left out", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const [verifying, recording] = [new Hold(), new Hold()];
    rig.fail("verifyStaging", verifying.before);
    rig.fail("giveUpStore fast", recording.before);
    await rig.client.imports.start(imageId, BOTH);
    await verifying.reached;
    const dropped = rig.client.imports.dropStore(imageId, "fast");
    await recording.reached;

    verifying.release();
    await rig.copied(imageId, "slow");
    recording.release();

    expect(await dropped).toEqual(["slow"]);
    expect((await rig.client.imports.wait(imageId)).stores).toEqual(["slow"]);
  });

  it("refuses the last store before the copies begin, and one that the import does not fill", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const verifying = new Hold();
    rig.fail("verifyStaging", verifying.before);
    await rig.client.imports.start(imageId, { stores: ["fast"] });
    await verifying.reached;

    const last = await failureOf(rig.client.imports.dropStore(imageId, "fast"));
    const other = await failureOf(rig.client.imports.dropStore(imageId, "slow"));

    expect(last).toMatchObject({
      code: "ImageConflict",
      message: 'Cannot drop store "fast": it is the only store left; cancel the import instead',
    });
    expect(other).toMatchObject({
      code: "ImageConflict",
      message: 'Cannot drop store "slow": the import does not copy to it; it copies to "fast"',
    });
    verifying.release();
    await rig.client.imports.wait(imageId);
  });

  it.for([
    ["before the import is accepted", "claimImport", "the import is not accepted yet"],
    ["when all copies are made", "saveImage", "all copies are made"],
    ["while the import is undone", "releaseImport", "the import is being undone"],
  ] as const)("refuses %s", async ([_, step, reason], { rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const held = new Hold();
    rig.fail(step, held.before);
    if (step === "releaseImport") rig.fail("verifyStaging", failsWith("UnsafeImage", "it is not"));
    const accepted = rig.client.imports.start(imageId, BOTH);
    await held.reached;

    const failure = await failureOf(rig.client.imports.dropStore(imageId, "fast"));

    expect(failure).toMatchObject({
      code: "ImageConflict",
      message: expect.stringContaining(`Cannot drop store "fast": ${reason}`) as string,
    });
    held.release();
    await accepted;
    await rig.client.imports.wait(imageId).catch(() => undefined);
  });

  it("names the way out while the last look at the copies waits for a store", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const saving = new Hold();
    rig.fail("saveImage", saving.before);
    await rig.client.imports.start(imageId, BOTH);
    await saving.reached;

    const failure = await failureOf(rig.client.imports.dropStore(imageId, "fast"));

    expect(failure.hint).toContain("`image-import cancel <image-id>`");
    saving.release();
    await rig.client.imports.wait(imageId);
  });

  it.for([[undefined], [7], [{ store: "fast" }], [null]] as const)(
    "refuses %j for the name of a store as a bad request",
    async (store, { rig }) => {
      const imageId = await rig.stagedImage(randomBytes(1000));
      const storing = new Hold();
      rig.fail("storeImage fast", storing.before);
      await rig.client.imports.start(imageId, BOTH);
      await storing.reached;

      const refused = rig.run(imageId).executeUpdate("dropStore", { args: [store] });

      await expect(refused).rejects.toMatchObject({ cause: { type: "BadRequest" } });
      storing.release();
      await rig.client.imports.wait(imageId);
    },
  );

  it.for([
    ["the only store that is left", "slow", 'Cannot drop store "slow": it is the only store left'],
    ["a store that was dropped before", "fast", 'Cannot drop store "fast": it was dropped before'],
    ["a store of another import", "other", 'Cannot drop store "other": the import does not copy'],
  ] as const)("refuses %s", async ([_, store, message], { rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const slow = new Hold();
    rig.fail("storeImage slow", slow.before);
    await rig.client.imports.start(imageId, BOTH);
    await slow.reached;
    await rig.client.imports.dropStore(imageId, "fast");

    const failure = await failureOf(rig.client.imports.dropStore(imageId, store));

    expect(failure).toMatchObject({
      code: "ImageConflict",
      message: expect.stringContaining(message) as string,
    });
    slow.release();
    expect((await rig.client.imports.wait(imageId)).stores).toEqual(["slow"]);
  });

  it("refuses an import that has ended", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    await rig.client.imports.start(imageId, BOTH);
    await rig.client.imports.wait(imageId);

    expect(await failureOf(rig.client.imports.dropStore(imageId, "fast"))).toMatchObject({
      code: "ImportEnded",
    });
  });

  it("leaves nothing of it when the import is cancelled afterwards", async ({ rig }) => {
    rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(8 * MIB));
    const fast = new Hold();
    rig.fail("storeImage fast", fast.after);
    await rig.client.imports.start(imageId, BOTH);
    await rig.copying(imageId, "slow");
    await rig.client.imports.dropStore(imageId, "slow");

    await rig.client.imports.cancel(imageId, { wait: true });

    expect(await rig.state(imageId)).toMatchObject({ ...BACK_TO_STAGED, failedStores: [] });
  });
});
