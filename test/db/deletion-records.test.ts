import { randomBytes, randomUUID } from "node:crypto";
import { sql } from "drizzle-orm";
import { uploadOf } from "../../src/domain/place.ts";
import { describe, expect, it } from "vitest";
import { releaseClaim } from "../../src/db/claim-records.ts";
import {
  beginCopyRemoval,
  beginDiscarding,
  listUnfinishedDeletions,
  beginDeletion,
  dropLocation,
  endDeletion,
  findCopyToRemove,
  findNodeBytes,
  findRemains,
  listDeletionSites,
  listUnfinishedCopyRemovals,
  type Remains,
} from "../../src/db/deletion-records.ts";
import { changeImage, findImage } from "../../src/db/image-records.ts";
import { dropLease } from "../../src/db/lease-records.ts";
import { IMAGE_STATUSES } from "../../src/domain/image-status.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import { NODE, useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import { HeldRows } from "../support/held-rows.ts";

const catalogue = useCatalogue();

const OTHER_NODE = "ba9876543210";

async function startDeletion(imageId: string): Promise<void> {
  await catalogue.database.transaction((db) => beginDeletion(db, imageId));
}

async function remainsOf(imageId: string): Promise<Remains | undefined> {
  return catalogue.database.query((db) => findRemains(db, imageId));
}

async function startRemoval(imageId: string, store: string) {
  return catalogue.database.transaction((db) => beginCopyRemoval(db, imageId, store));
}

/** Store and status of each location. */
async function locationsOf(imageId: string): Promise<string[]> {
  const locations = await catalogue.locations(imageId);
  return locations.map(({ store, status }) => `${store} ${status}`);
}

/** An image in two stores on two nodes, whose deletion has begun. */
async function deletedImage(): Promise<{ imageId: string; epoch: number }> {
  const claim = await catalogue.activeImage({}, ["far", "near"]);
  await catalogue.execute(sql`
    UPDATE image_locations SET node = ${OTHER_NODE}
    WHERE image_id = ${claim.imageId} AND store = 'far'`);
  await startDeletion(claim.imageId);
  return claim;
}

/** Leases in the order of their import: those of the upload first. */
async function nodeBytes(imageId: string, node = NODE) {
  const bytes = await catalogue.database.query((db) => findNodeBytes(db, imageId, node));
  return { ...bytes, leases: bytes.leases.toSorted((one, other) => one.epoch - other.epoch) };
}

async function unstage(imageId: string): Promise<void> {
  const token = (await catalogue.staged(imageId))?.token ?? "";
  await catalogue.database.transaction((db) => dropLease(db, uploadOf(imageId), token));
}

describe("beginDeletion()", () => {
  it("hides the image and all its copies from readers at once", async () => {
    const { imageId } = await catalogue.activeImage({}, ["fast", "slow"]);

    await startDeletion(imageId);

    expect((await catalogue.image(imageId)).status).toBe("pending_delete");
    expect(await catalogue.locations(imageId)).toMatchObject([
      { store: "fast", status: "pending_delete" },
      { store: "slow", status: "pending_delete" },
    ]);
  });

  it.each(IMAGE_STATUSES.filter((status) => status !== "deleted"))(
    "begins for an image in status %s",
    async (status) => {
      const imageId = await catalogue.imageIn(status);

      await startDeletion(imageId);

      expect((await catalogue.image(imageId)).status).toBe("pending_delete");
    },
  );

  it("leaves the claim of an import that still has to undo itself", async () => {
    const claim = await catalogue.claimedImage();

    await startDeletion(claim.imageId);

    expect(await catalogue.image(claim.imageId)).toMatchObject({
      status: "pending_delete",
      claimTaskId: claim.taskId,
      claimRunId: claim.runId,
    });
  });

  it("changes nothing when it is repeated", async () => {
    const { imageId } = await catalogue.activeImage();
    await startDeletion(imageId);
    const before = await catalogue.image(imageId);

    await startDeletion(imageId);

    expect(await catalogue.image(imageId)).toEqual(before);
  });

  it("refuses an image that is protected, and changes nothing", async () => {
    const { imageId } = await catalogue.activeImage({ protected: true });

    expect(await failureOf(startDeletion(imageId))).toMatchObject(isProtected(imageId));
    expect((await catalogue.image(imageId)).status).toBe("active");
    expect(await locationsOf(imageId)).toEqual(["fast active"]);
  });

  it("does not discard an image that is protected", async () => {
    const imageId = await catalogue.newImage({ protected: true });

    expect(await catalogue.database.transaction((db) => beginDiscarding(db, imageId))).toBe(false);
    expect((await catalogue.image(imageId)).status).toBe("queued");
  });

  it("refuses an image that is protected while it waits for it", async () => {
    const imageId = await catalogue.newImage();
    const row = await HeldRows.hold(catalogue, sql`SELECT 1 FROM images WHERE id = ${imageId}`);
    const protecting = catalogue.database.transaction((db) =>
      changeImage(db, NO_LIMITS, imageId, { protected: true }),
    );
    await row.awaitWaiters(1);
    const refusal = failureOf(startDeletion(imageId));
    await row.awaitWaiters(2);

    await row.release();

    await protecting;
    expect(await refusal).toMatchObject(isProtected(imageId));
  });

  function isProtected(imageId: string): object {
    return {
      code: "ImageProtected",
      message: `Image "${imageId}" is protected and cannot be deleted.`,
    };
  }

  it("does not find an image that is deleted", async () => {
    const imageId = await catalogue.imageIn("deleted");

    expect(await failureOf(startDeletion(imageId))).toMatchObject({
      code: "ImageNotFound",
      message: `No image has the id "${imageId}"`,
    });
  });
});

describe("endDeletion()", () => {
  it("ends the deletion of an image, and returns true", async () => {
    const imageId = await catalogue.imageIn("pending_delete");

    const moved = await catalogue.database.query((db) => endDeletion(db, imageId));

    expect(moved).toBe(true);
    expect(await catalogue.image(imageId)).toMatchObject({
      status: "deleted",
      deletedAt: expect.any(Date) as Date,
    });
  });

  it.each(IMAGE_STATUSES.filter((status) => status !== "pending_delete"))(
    "leaves an image in status %s, and returns false",
    async (status) => {
      const imageId = await catalogue.imageIn(status);
      const before = await catalogue.image(imageId);

      const moved = await catalogue.database.query((db) => endDeletion(db, imageId));

      expect(moved).toBe(false);
      expect(await catalogue.image(imageId)).toEqual(before);
    },
  );
});

describe("listUnfinishedDeletions()", () => {
  it("lists images whose deletion began long enough ago", async () => {
    const [old, recent, other] = [
      await catalogue.imageIn("pending_delete"),
      await catalogue.imageIn("pending_delete"),
      await catalogue.imageIn("deleted"),
    ];
    await catalogue.execute(sql`
      UPDATE images SET updated_at = now() - interval '31 seconds' WHERE id IN (${old}, ${other})`);

    const ids = await catalogue.database.query((db) => listUnfinishedDeletions(db, 30_000));

    expect(ids.filter((id) => [old, recent, other].includes(id))).toEqual([old]);
  });
});

describe("findRemains()", () => {
  it("names each node with bytes once, in order", async () => {
    const { imageId } = await deletedImage();

    expect(await remainsOf(imageId)).toEqual({
      claimWorkflowId: undefined,
      nodes: [NODE, OTHER_NODE],
    });
  });

  it("names a node that has only an upload", async () => {
    const imageId = await catalogue.stagedImage();
    await startDeletion(imageId);

    expect(await remainsOf(imageId)).toEqual({ claimWorkflowId: undefined, nodes: [NODE] });
  });

  it("names a node that has only a copy that an import was writing", async () => {
    const claim = await catalogue.claimedImage();
    await catalogue.wholeCopy({ ...claim, store: "fast" });
    await unstage(claim.imageId);
    await startDeletion(claim.imageId);

    expect((await remainsOf(claim.imageId))?.nodes).toEqual([NODE]);
  });

  it("names the import that still holds the image", async () => {
    const claim = await catalogue.claimedImage();
    await startDeletion(claim.imageId);

    expect((await remainsOf(claim.imageId))?.claimWorkflowId).toBe(claim.workflowId);
  });

  it("names no import after it has released the image", async () => {
    const claim = await catalogue.claimedImage();
    await startDeletion(claim.imageId);
    await catalogue.database.transaction((db) =>
      releaseClaim(db, claim, { message: "Error: x" }, []),
    );

    expect((await remainsOf(claim.imageId))?.claimWorkflowId).toBeUndefined();
  });

  it("finds nothing of an image that had no bytes", async () => {
    const imageId = await catalogue.newImage();
    await startDeletion(imageId);

    expect(await remainsOf(imageId)).toEqual({ claimWorkflowId: undefined, nodes: [] });
  });

  it("is undefined for an image that is not being deleted", async () => {
    const { imageId } = await catalogue.activeImage();

    expect(await remainsOf(imageId)).toBeUndefined();
  });

  it("is undefined for a deleted image", async () => {
    const imageId = await catalogue.newImage();
    await startDeletion(imageId);
    await catalogue.database.query((db) => endDeletion(db, imageId));

    expect(await remainsOf(imageId)).toBeUndefined();
  });

  it("is undefined for an image that does not exist", async () => {
    expect(await remainsOf(randomUUID())).toBeUndefined();
  });
});

describe("findNodeBytes()", () => {
  it("finds the copies on a node, and not those on another", async () => {
    const { imageId } = await deletedImage();

    const here = await nodeBytes(imageId);
    const there = await nodeBytes(imageId, OTHER_NODE);

    expect(here).toEqual({
      locations: [expect.objectContaining({ store: "near", node: NODE })],
      leases: [expect.objectContaining({ imageId, place: "upload", node: NODE })],
    });
    expect(there).toEqual({
      locations: [expect.objectContaining({ store: "far", node: OTHER_NODE })],
      leases: [],
    });
  });

  it("finds the copies that an import was writing", async () => {
    const claim = await catalogue.claimedImage();
    await catalogue.wholeCopy({ ...claim, store: "fast" });
    await startDeletion(claim.imageId);

    expect((await nodeBytes(claim.imageId)).leases).toMatchObject([
      { place: "upload" },
      { imageId: claim.imageId, epoch: 1, place: "store/fast", node: NODE },
    ]);
  });

  it("finds data that is still being staged", async () => {
    const imageId = await catalogue.newImage();
    await catalogue.beginStaging(imageId);
    await startDeletion(imageId);

    expect((await nodeBytes(imageId)).leases).toMatchObject([{ state: "writing" }]);
  });

  it("never finds a copy that readers see", async () => {
    const { imageId } = await catalogue.activeImage();

    expect((await nodeBytes(imageId)).locations).toEqual([]);
  });
});

describe("beginCopyRemoval()", () => {
  it("never takes the last copy that is not known to be damaged, and takes a damaged one", async () => {
    const { imageId } = await catalogue.activeImage({}, ["fast", "slow"]);
    await catalogue.execute(
      sql`UPDATE image_locations SET damage = 'spoilt' WHERE image_id = ${imageId} AND store = 'slow'`,
    );

    expect(await failureOf(startRemoval(imageId, "fast"))).toMatchObject({
      code: "ImageConflict",
      message: expect.stringContaining("the other copies are known to be damaged") as unknown,
    });
    await startRemoval(imageId, "slow");
    expect(await locationsOf(imageId)).toEqual(["fast active", "slow pending_delete"]);
  });

  it.each(["active", "deactivated"])(
    "hides one copy from readers of an image in status %s",
    async (status) => {
      const { imageId } = await catalogue.activeImage({}, ["fast", "slow", "third"]);
      await catalogue.execute(sql`UPDATE images SET status = ${status} WHERE id = ${imageId}`);

      await startRemoval(imageId, "slow");

      expect(await locationsOf(imageId)).toEqual([
        "fast active",
        "slow pending_delete",
        "third active",
      ]);
    },
  );

  it("returns the copy as it is now", async () => {
    const { imageId } = await catalogue.activeImage({}, ["fast", "slow"]);

    const copy = await startRemoval(imageId, "slow");

    expect([copy]).toEqual(
      (await catalogue.locations(imageId)).filter(({ store }) => store === "slow"),
    );
  });

  it("changes nothing that readers see but the copy and the time", async () => {
    const { imageId } = await catalogue.activeImage({}, ["fast", "slow"]);
    const before = await catalogue.database.query((db) => findImage(db, imageId));

    await startRemoval(imageId, "slow");

    const after = await catalogue.database.query((db) => findImage(db, imageId));
    expect(after).toEqual({
      ...before,
      image: { ...before.image, updatedAt: after.image.updatedAt },
      locations: before.locations.filter(({ store }) => store === "fast"),
    });
    expect(after.image.updatedAt.getTime()).toBeGreaterThan(before.image.updatedAt.getTime());
  });

  it("refuses the last copy, and leaves it", async () => {
    const { imageId } = await catalogue.activeImage({}, ["fast"]);

    const failure = await failureOf(startRemoval(imageId, "fast"));

    expect(failure).toMatchObject({
      code: "ImageConflict",
      message: `Cannot remove the copy of image "${imageId}" in store "fast": it is the last one`,
      hint: "`image-import image delete <image-id>` deletes the image with its last copy.",
    });
    expect(await locationsOf(imageId)).toEqual(["fast active"]);
  });

  it("does not count a copy that is being removed or is not published", async () => {
    const { imageId } = await catalogue.activeImage({}, ["fast", "slow", "third"]);
    await startRemoval(imageId, "slow");
    await catalogue.execute(sql`
      UPDATE image_locations SET status = 'pending' WHERE image_id = ${imageId} AND store = 'third'`);

    const failure = await failureOf(startRemoval(imageId, "fast"));

    expect(failure.code).toBe("ImageConflict");
    expect(await locationsOf(imageId)).toEqual([
      "fast active",
      "slow pending_delete",
      "third pending",
    ]);
  });

  it.each(["fast", "slow"])(
    "leaves one of the last two copies when both are removed at once, first %s",
    async (first) => {
      const { imageId } = await catalogue.activeImage({}, ["fast", "slow"]);
      const second = first === "fast" ? "slow" : "fast";
      const held = await HeldRows.hold(catalogue, sql`SELECT 1 FROM images WHERE id = ${imageId}`);
      const firstRemoval = startRemoval(imageId, first);
      await held.awaitWaiters(1);
      const refusal = failureOf(startRemoval(imageId, second));
      await held.awaitWaiters(2);

      await held.release();

      expect(await firstRemoval).toMatchObject({ store: first, status: "pending_delete" });
      expect(await refusal).toMatchObject({
        code: "ImageConflict",
        message: `Cannot remove the copy of image "${imageId}" in store "${second}": it is the last one`,
      });
      expect(await locationsOf(imageId)).toEqual(
        ["fast", "slow"].map(
          (store) => `${store} ${store === first ? "pending_delete" : "active"}`,
        ),
      );
    },
  );

  it("returns the same copy, and changes nothing, when it is repeated", async () => {
    const { imageId } = await catalogue.activeImage({}, ["fast", "slow"]);
    const first = await startRemoval(imageId, "slow");
    const before = await catalogue.image(imageId);

    const second = await startRemoval(imageId, "slow");

    expect(second).toEqual(first);
    expect(await catalogue.image(imageId)).toEqual(before);
  });

  it("does not find a copy after its removal", async () => {
    const { imageId } = await catalogue.activeImage({}, ["fast", "slow"]);
    const copy = await startRemoval(imageId, "slow");
    await catalogue.database.query((db) => dropLocation(db, copy));

    expect(await failureOf(startRemoval(imageId, "slow"))).toMatchObject({
      code: "CopyNotFound",
      message: `Image "${imageId}" has no copy in store "slow"; it has copies in "fast"`,
    });
  });

  it("finds no copy in a store that has none, and names the stores that have one", async () => {
    const { imageId } = await catalogue.activeImage({}, ["fast", "slow"]);

    expect(await failureOf(startRemoval(imageId, "nowhere"))).toMatchObject({
      code: "CopyNotFound",
      message: `Image "${imageId}" has no copy in store "nowhere"; it has copies in "fast", "slow"`,
      hint: "`image-import image show <image-id>` lists the stores that have it.",
    });
  });

  it("refuses an image while an import holds it, and leaves its copies", async () => {
    const claim = await catalogue.claimedImage({}, ["fast", "slow"]);
    await catalogue.save(claim, ["fast", "slow"]);

    const failure = await failureOf(startRemoval(claim.imageId, "slow"));

    expect(failure).toMatchObject({
      code: "ImageConflict",
      message: `Cannot remove a copy of image "${claim.imageId}": it is saving, and only a published image has copies`,
    });
    expect(await locationsOf(claim.imageId)).toEqual(["fast pending", "slow pending"]);
  });

  it("does not find an image that is being deleted", async () => {
    const { imageId } = await deletedImage();

    expect(await failureOf(startRemoval(imageId, "near"))).toMatchObject({
      code: "ImageNotFound",
      message: `No image has the id "${imageId}"`,
    });
  });

  it("does not find an image that does not exist", async () => {
    expect(await failureOf(startRemoval(randomUUID(), "fast"))).toMatchObject({
      code: "ImageNotFound",
    });
  });

  it("leaves the copy to a deletion of the image, which finds it, too", async () => {
    const { imageId } = await catalogue.activeImage({}, ["fast", "slow"]);
    await startRemoval(imageId, "slow");

    await startDeletion(imageId);

    expect((await nodeBytes(imageId)).locations.map(({ store }) => store).sort()).toEqual([
      "fast",
      "slow",
    ]);
  });
});

describe("findCopyToRemove()", () => {
  async function find(imageId: string, { store = "slow", epoch = 1, node = NODE } = {}) {
    return catalogue.database.query((db) => findCopyToRemove(db, { imageId, epoch, store }, node));
  }

  it("finds a copy whose removal has begun", async () => {
    const { imageId } = await catalogue.activeImage({}, ["fast", "slow"]);
    const copy = await startRemoval(imageId, "slow");

    expect(await find(imageId)).toEqual(copy);
  });

  it("never finds a copy that readers see", async () => {
    const { imageId } = await catalogue.activeImage({}, ["fast", "slow"]);

    expect(await find(imageId)).toBeUndefined();
  });

  it.each([{ store: "fast" }, { epoch: 2 }, { node: OTHER_NODE }])(
    "finds no other copy: %j",
    async (other) => {
      const { imageId } = await catalogue.activeImage({}, ["fast", "slow"]);
      await startRemoval(imageId, "slow");

      expect(await find(imageId, other)).toBeUndefined();
    },
  );
});

describe("listUnfinishedCopyRemovals()", () => {
  /** An image and the given age of the removal of one of its copies. */
  async function removalSince(seconds: number): Promise<string> {
    const { imageId } = await catalogue.activeImage({}, ["fast", "slow"]);
    await startRemoval(imageId, "slow");
    await age(imageId, seconds);
    return imageId;
  }

  async function age(imageId: string, seconds: number): Promise<void> {
    await catalogue.execute(
      sql`UPDATE images SET updated_at = now() - make_interval(secs => ${seconds}) WHERE id = ${imageId}`,
    );
  }

  async function listOf(imageId: string) {
    const all = await catalogue.database.query((db) => listUnfinishedCopyRemovals(db, 30_000));
    return all.filter((location) => location.imageId === imageId);
  }

  it("lists a copy whose removal began long enough ago, and no other copy of its image", async () => {
    const imageId = await removalSince(31);

    const listed = await listOf(imageId);

    expect(listed).toEqual(
      (await catalogue.locations(imageId)).filter(({ store }) => store === "slow"),
    );
  });

  it("does not list a copy whose removal began just now", async () => {
    expect(await listOf(await removalSince(29))).toEqual([]);
  });

  it("leaves the copies of a deleted image to its deletion", async () => {
    const imageId = await removalSince(31);
    await startDeletion(imageId);
    await age(imageId, 31);

    expect(await listOf(imageId)).toEqual([]);
  });
});

describe("dropLocation()", () => {
  it("forgets one copy that is being deleted", async () => {
    const { imageId } = await deletedImage();
    const [location] = (await nodeBytes(imageId)).locations;
    if (location === undefined) throw new Error("There is no copy to forget");

    await catalogue.database.query((db) => dropLocation(db, location));

    expect((await catalogue.locations(imageId)).map(({ store }) => store)).toEqual(["far"]);
  });

  it("never forgets a copy that readers see", async () => {
    const { imageId } = await catalogue.activeImage();
    const before = await catalogue.locations(imageId);

    for (const location of before) {
      await catalogue.database.query((db) => dropLocation(db, location));
    }

    expect(await catalogue.locations(imageId)).toEqual(before);
  });
});

describe("listDeletionSites()", () => {
  /** A separate node for the running test, so that the rows of other tests do not count. */
  function newNode(): string {
    return randomBytes(6).toString("hex");
  }

  async function sites(): Promise<string[]> {
    return catalogue.database.query(listDeletionSites);
  }

  it("names nodes with uploads", async () => {
    const node = newNode();
    const imageId = await catalogue.stagedImage();
    await catalogue.execute(sql`UPDATE leases SET node = ${node} WHERE image_id = ${imageId}`);

    expect(await sites()).toContain(node);
  });

  it("names nodes with copies that were never activated, until they are gone", async () => {
    const node = newNode();
    const claim = await catalogue.claimedImage();
    const copy = { imageId: claim.imageId, epoch: claim.epoch, store: "fast" };
    await catalogue.wholeCopy(copy);
    await catalogue.execute(
      sql`UPDATE leases SET node = ${node} WHERE image_id = ${claim.imageId} AND epoch > 0`,
    );
    const before = await sites();

    await catalogue.database.query((db) => dropLease(db, { ...copy, place: "store/fast" }));

    expect([before.includes(node), (await sites()).includes(node)]).toEqual([true, false]);
  });

  it("names nodes with copies that are being deleted, and not those that readers see", async () => {
    const node = newNode();
    const { imageId } = await catalogue.activeImage();
    await catalogue.execute(
      sql`UPDATE image_locations SET node = ${node} WHERE image_id = ${imageId}`,
    );
    const before = await sites();

    await startDeletion(imageId);

    expect([before.includes(node), (await sites()).includes(node)]).toEqual([false, true]);
  });

  it("names each node once", async () => {
    await deletedImage();
    await deletedImage();

    const all = await sites();

    expect(all).toEqual([...new Set(all)]);
  });
});
