import { randomUUID } from "node:crypto";
import { eq } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import { thisProcess } from "../../src/processes/process-identity.ts";
import { releaseClaim } from "../../src/db/claim-records.ts";
import { beginDeletion } from "../../src/db/deletion-records.ts";
import { findImage, moveImage } from "../../src/db/image-records.ts";
import { takeLease, takeLeaseAway } from "../../src/db/lease-records.ts";
import {
  activate,
  recordGivenUp,
  recordSaved,
  recordStored,
  type SavedImage,
} from "../../src/db/outcome-records.ts";
import { beginProcessing, failTask } from "../../src/db/task-records.ts";
import { tasks } from "../../src/db/schema.ts";
import { NODE, SOME_DIGESTS, useCatalogue, type ClaimedImage } from "../support/catalogue.ts";

const catalogue = useCatalogue();

const REASON = "Error: NoSpace: the step store, store fast: it is full";

async function release(
  claim: ClaimedImage,
  message = REASON,
  failedStores: readonly string[] = [],
): Promise<void> {
  await catalogue.database.transaction((db) => releaseClaim(db, claim, { message }, failedStores));
}

async function activateImage(claim: ClaimedImage) {
  return catalogue.database.transaction((db) => activate(db, claim));
}

async function beginByteStep({ taskId }: ClaimedImage): Promise<void> {
  await catalogue.database.query((db) => beginProcessing(db, taskId));
}

async function startDeletion(imageId: string): Promise<void> {
  await catalogue.database.transaction((db) => beginDeletion(db, imageId));
}

/** The result that an import saves: one copy in the store `fast`. */
function savedBy({ imageId, epoch }: ClaimedImage): SavedImage {
  return {
    imageId,
    epoch,
    digests: SOME_DIGESTS,
    virtualSizeBytes: 8192,
    locations: [{ store: "fast", url: "file:///fast/copy" }],
  };
}

describe("recordSaved()", () => {
  it("records size and digests, and a pending location for each copy", async () => {
    const claim = await catalogue.claimedImage();
    await catalogue.wholeCopy({ ...claim, store: "fast" });

    await catalogue.database.transaction((db) => recordSaved(db, savedBy(claim)));

    expect(await catalogue.image(claim.imageId)).toMatchObject({
      status: "saving",
      sizeBytes: 4096,
      virtualSizeBytes: 8192,
      checksum: SOME_DIGESTS.checksum,
      osHashAlgo: "sha512",
      osHashValue: SOME_DIGESTS.osHashValue,
      claimTaskId: claim.taskId,
    });
    expect(await catalogue.locations(claim.imageId)).toEqual([
      {
        imageId: claim.imageId,
        store: "fast",
        epoch: 1,
        status: "pending",
        node: NODE,
        key: `${claim.imageId}.1`,
        url: "file:///fast/copy",
        sizeBytes: 4096,
        crc32: 7,
        shared: false,
        version: null,
        damage: null,
        createdAt: expect.any(Date) as Date,
      },
    ]);
  });

  it("changes nothing when it is repeated", async () => {
    const claim = await catalogue.claimedImage();
    await catalogue.wholeCopy({ ...claim, store: "fast" });
    await catalogue.database.transaction((db) => recordSaved(db, savedBy(claim)));
    const before = await catalogue.locations(claim.imageId);

    await catalogue.database.transaction((db) => recordSaved(db, savedBy(claim)));

    expect(await catalogue.locations(claim.imageId)).toEqual(before);
    expect((await catalogue.image(claim.imageId)).status).toBe("saving");
  });

  it("fails when a copy was never published, and saves nothing", async () => {
    const claim = await catalogue.claimedImage();
    const { imageId, epoch } = claim;
    const names = { part: "part", path: "key" };
    const holder = { node: NODE, token: randomUUID(), writer: await thisProcess(), ...names };
    await catalogue.database.transaction((db) =>
      takeLease(db, { imageId, epoch, place: "store/fast" }, holder, undefined),
    );

    const { failure, before, after } = await catalogue.failureAndRest(claim.imageId, () =>
      catalogue.database.transaction((db) => recordSaved(db, savedBy(claim))),
    );

    expect(failure.code).toBe("ImportLost");
    expect(after).toEqual(before);
  });

  it.each([
    ["was deleted", (claim: ClaimedImage) => startDeletion(claim.imageId)],
    ["was let go", (claim: ClaimedImage) => release(claim)],
  ])("fails when the image %s meanwhile, and changes nothing", async (_, happen) => {
    const claim = await catalogue.claimedImage();
    await catalogue.wholeCopy({ ...claim, store: "fast" });
    await happen(claim);

    const { failure, before, after } = await catalogue.failureAndRest(claim.imageId, () =>
      catalogue.database.transaction((db) => recordSaved(db, savedBy(claim))),
    );

    expect(failure).toMatchObject({
      code: "ImportLost",
      message: `Image "${claim.imageId}" was deleted or taken while it was imported`,
    });
    expect(after).toEqual(before);
  });
});

describe("recordStored()", () => {
  it("removes the store from the list of stores that are still being filled", async () => {
    const claim = await catalogue.claimedImage({}, ["fast", "slow"]);

    await catalogue.database.query((db) => recordStored(db, claim, "fast"));

    expect((await catalogue.image(claim.imageId)).importingToStores).toEqual(["slow"]);
  });
});

describe("recordGivenUp()", () => {
  it("moves a failed store from the list of stores being filled to the list of failed stores, once", async () => {
    const claim = await catalogue.claimedImage({}, ["fast", "slow"]);
    const giveUp = () => catalogue.database.query((db) => recordGivenUp(db, claim, "fast", true));

    await giveUp();
    await giveUp();

    expect(await catalogue.image(claim.imageId)).toMatchObject({
      importingToStores: ["slow"],
      failedImport: ["fast"],
    });
  });

  it("records no failure for a store that was dropped", async () => {
    const claim = await catalogue.claimedImage({}, ["fast", "slow"]);

    await catalogue.database.query((db) => recordGivenUp(db, claim, "fast", false));

    expect(await catalogue.image(claim.imageId)).toMatchObject({
      importingToStores: ["slow"],
      failedImport: [],
    });
  });

  it("changes nothing for an import that no longer holds the image", async () => {
    const claim = await catalogue.claimedImage({}, ["fast", "slow"]);

    await catalogue.database.query((db) =>
      recordGivenUp(db, { ...claim, epoch: claim.epoch - 1 }, "fast", true),
    );

    expect(await catalogue.image(claim.imageId)).toMatchObject({
      importingToStores: ["fast", "slow"],
      failedImport: [],
    });
  });
});

describe("activate()", () => {
  /** An import whose image is `saving`, and whose task is `processing`. */
  async function savedImport(stores: readonly string[] = ["fast"]): Promise<ClaimedImage> {
    const claim = await catalogue.claimedImage({}, stores);
    await beginByteStep(claim);
    await catalogue.save(claim, stores);
    return claim;
  }

  it("publishes the image, ends the task, frees the claim and ends the leases, all at once", async () => {
    const claim = await savedImport(["fast", "slow"]);

    const activation = await activateImage(claim);

    expect(activation).toEqual({ taskEnded: true });
    expect(await catalogue.everythingOf(claim.imageId)).toMatchObject({
      image: {
        status: "active",
        epoch: 1,
        claimTaskId: null,
        claimWorkflowId: null,
        claimRunId: null,
        claimEarlierStatus: null,
        importingToStores: [],
      },
      locations: [
        { store: "fast", status: "active" },
        { store: "slow", status: "active" },
      ],
      leases: [],
      staged: { state: "whole" },
      tasks: [
        { id: claim.taskId, status: "success", result: { image_id: claim.imageId }, message: "" },
      ],
    });
  });

  it("fails when an undo has removed a copy, and publishes nothing", async () => {
    const claim = await catalogue.claimedImage();
    await catalogue.save(claim);
    const copy = { imageId: claim.imageId, epoch: claim.epoch, place: "store/fast" } as const;
    const taker = { token: randomUUID(), writer: await thisProcess() };
    await catalogue.database.transaction((db) => takeLeaseAway(db, copy, taker));

    const { failure, before, after } = await catalogue.failureAndRest(claim.imageId, () =>
      activateImage(claim),
    );

    expect(failure.code).toBe("ImportLost");
    expect(after).toEqual(before);
  });

  it("leaves the lease of a store that was given up, because its bytes may still exist", async () => {
    const claim = await catalogue.claimedImage({}, ["fast", "slow"]);
    await beginByteStep(claim);
    await catalogue.wholeCopy({ imageId: claim.imageId, epoch: claim.epoch, store: "slow" });
    await catalogue.save(claim, ["fast"]);

    await activateImage(claim);

    expect(await catalogue.everythingOf(claim.imageId)).toMatchObject({
      leases: [{ place: "store/slow" }],
    });
  });

  it("lets the record of the task expire 48 hours after its end", async () => {
    const claim = await savedImport();

    await activateImage(claim);

    const { updatedAt, expiresAt } = await catalogue.task(claim.taskId);
    expect((expiresAt?.getTime() ?? 0) - updatedAt.getTime()).toBe(48 * 3_600_000);
  });

  it("changes nothing when it is repeated, because the answer to it was lost", async () => {
    const claim = await savedImport();
    await activateImage(claim);
    const before = await catalogue.everythingOf(claim.imageId);

    const again = await activateImage(claim);

    expect(again).toEqual({ taskEnded: true });
    expect(await catalogue.everythingOf(claim.imageId)).toEqual(before);
  });

  it("changes nothing when it is repeated after the image was deactivated", async () => {
    const claim = await savedImport();
    await activateImage(claim);
    await catalogue.database.transaction((db) => moveImage(db, claim.imageId, "deactivated"));
    const before = await catalogue.everythingOf(claim.imageId);

    await activateImage(claim);

    expect(await catalogue.everythingOf(claim.imageId)).toEqual(before);
  });

  it.each([
    ["was deleted", (claim: ClaimedImage) => startDeletion(claim.imageId)],
    ["was let go", (claim: ClaimedImage) => release(claim)],
    ["was taken", (claim: ClaimedImage) => catalogue.claim(claim.imageId)],
  ])("fails when the image %s meanwhile, and resurrects nothing", async (_, happen) => {
    const claim = await savedImport();
    await happen(claim);

    const { failure, before, after } = await catalogue.failureAndRest(claim.imageId, () =>
      activateImage(claim),
    );

    expect(failure).toMatchObject({
      code: "ImportLost",
      message: `Image "${claim.imageId}" was deleted or taken while it was imported`,
    });
    expect(after).toEqual(before);
  });

  it("fails for an image that is not saved yet, and changes nothing", async () => {
    const claim = await catalogue.claimedImage();

    const { failure, before, after } = await catalogue.failureAndRest(claim.imageId, () =>
      activateImage(claim),
    );

    expect(failure.code).toBe("ImportLost");
    expect(after).toEqual(before);
  });

  it("publishes the image even when the task is gone, and reports that", async () => {
    const claim = await savedImport();
    await catalogue.database.query((db) => db.delete(tasks).where(eq(tasks.id, claim.taskId)));

    const activation = await activateImage(claim);

    expect(activation).toEqual({ taskEnded: false });
    expect((await catalogue.image(claim.imageId)).status).toBe("active");
  });

  it("publishes the image even when the task has ended, leaves the task, and reports that", async () => {
    const claim = await savedImport();
    await catalogue.database.query((db) =>
      failTask(db, claim.taskId, { message: "Error: ended by hand" }),
    );
    const task = await catalogue.task(claim.taskId);

    const activation = await activateImage(claim);

    expect(activation).toEqual({ taskEnded: false });
    expect((await catalogue.image(claim.imageId)).status).toBe("active");
    expect(await catalogue.task(claim.taskId)).toEqual(task);
  });

  it("never shows readers a half-finished activation", async () => {
    const claims = await Promise.all(
      Array.from({ length: 20 }, () => savedImport(["fast", "slow"])),
    );
    const seen = new Set<string>();
    let isOver = false;
    const lookAtAll = async (): Promise<void> => {
      for (const { imageId } of claims) {
        const { image, locations } = await catalogue.database.query((db) => findImage(db, imageId));
        seen.add(`${image.status} with ${locations.length} locations`);
      }
    };
    const look = async (): Promise<void> => {
      while (!isOver) await lookAtAll();
    };

    await lookAtAll();
    const readers = [look(), look(), look()];
    for (const claim of claims) await activateImage(claim);
    isOver = true;
    await Promise.all(readers);
    await lookAtAll();

    expect([...seen].sort()).toEqual(["active with 2 locations", "saving with 0 locations"]);
  });
});
