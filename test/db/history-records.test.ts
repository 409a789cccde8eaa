import { randomUUID } from "node:crypto";
import { sql } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import { beginCopyRemoval, beginDeletion } from "../../src/db/deletion-records.ts";
import { listHistory } from "../../src/db/history-records.ts";
import { moveImage } from "../../src/db/image-records.ts";
import { activate, publish } from "../../src/db/outcome-records.ts";
import { failureOf } from "../support/failure-of.ts";
import { SOME_DIGESTS, useCatalogue } from "../support/catalogue.ts";

const catalogue = useCatalogue();

async function historyOf(imageId: string) {
  return catalogue.database.query((db) => listHistory(db, imageId));
}

const DIGESTS = {
  size: SOME_DIGESTS.sizeBytes,
  checksum: SOME_DIGESTS.checksum,
  os_hash_algo: SOME_DIGESTS.osHashAlgo,
  os_hash_value: SOME_DIGESTS.osHashValue,
};

describe("listHistory()", () => {
  it("has the publication, with what the rows of the import had", async () => {
    const claim = await catalogue.activeImage({ name: "debian", owner: "team-a" });
    await catalogue.execute(sql`DELETE FROM tasks WHERE id = ${claim.taskId}`);

    expect(await historyOf(claim.imageId)).toEqual([
      {
        at: expect.stringMatching(/^\d{4}-.*Z$/) as string,
        event: "imported",
        name: "debian",
        task_id: claim.taskId,
        run_id: claim.runId,
        request_id: null,
        owner: "team-a",
        user_id: null,
        roles: [],
        method: "glance-direct",
        source: null,
        expected_checksum: null,
        accepted_at: expect.stringMatching(/Z$/) as string,
        version: null,
        stores: [{ store: "fast", url: `file:///fast/${claim.imageId}` }],
        disk_format: "raw",
        container_format: "bare",
        virtual_size: null,
        before: DIGESTS,
        after: DIGESTS,
        verdict: null,
        transforms: null,
      },
    ]);
  });

  it("keeps texts of a verdict with any characters", async () => {
    const claim = await catalogue.claimedImage();
    await catalogue.save(claim);
    const verdict = { detected_format: "raw", checks: { odd: "it names \0 and \ud800" } };

    await catalogue.database.transaction((db) =>
      activate(db, claim, { preparation: { verdict, transforms: [] }, version: "1.2.3" }),
    );

    expect(await historyOf(claim.imageId)).toMatchObject([
      { version: "1.2.3", verdict, transforms: [] },
    ]);
  });

  it("has the publication once when the activation is repeated", async () => {
    const claim = await catalogue.activeImage();

    await catalogue.database.transaction((db) => activate(db, claim));

    expect(await historyOf(claim.imageId)).toHaveLength(1);
  });

  it("has the publication of an image that is published in one step", async () => {
    const claim = await catalogue.claimedImage();
    await catalogue.wholeCopy({ ...claim, store: "fast" });
    const saved = {
      ...claim,
      ...{ digests: SOME_DIGESTS, virtualSizeBytes: 8192 },
      locations: [{ store: "fast", url: "file:///fast/copy" }],
    };

    await catalogue.database.transaction((db) => publish(db, saved));
    await catalogue.database.transaction((db) => publish(db, saved));

    expect(await historyOf(claim.imageId)).toMatchObject([
      { event: "imported", virtual_size: 8192, stores: [{ url: "file:///fast/copy" }] },
    ]);
  });

  it("has the publication of an import whose task is gone", async () => {
    const claim = await catalogue.claimedImage();
    await catalogue.save(claim);
    await catalogue.execute(sql`DELETE FROM tasks WHERE id = ${claim.taskId}`);

    await catalogue.database.transaction((db) => activate(db, claim));

    expect(await historyOf(claim.imageId)).toMatchObject([
      { event: "imported", task_id: claim.taskId, run_id: null, method: null, after: DIGESTS },
    ]);
  });

  it("has nothing of a transaction that was rolled back", async () => {
    const claim = await catalogue.claimedImage();
    await catalogue.save(claim);

    const activation = catalogue.database.transaction(async (db) => {
      await activate(db, claim);
      throw new Error("The process dies here");
    });

    await expect(activation).rejects.toThrow();
    expect(await historyOf(claim.imageId)).toEqual([]);
  });

  it("has the removal of a copy once, and who may read the image", async () => {
    const { imageId } = await catalogue.activeImage({}, ["fast", "slow"]);

    await catalogue.database.transaction((db) => beginCopyRemoval(db, imageId, "slow"));
    await catalogue.database.transaction((db) => beginCopyRemoval(db, imageId, "slow"));
    await catalogue.database.transaction((db) => moveImage(db, imageId, "deactivated"));
    await catalogue.database.transaction((db) => moveImage(db, imageId, "active"));

    expect((await historyOf(imageId)).slice(1)).toMatchObject([
      { event: "copy_removed", stores: [{ store: "slow", url: `file:///slow/${imageId}` }] },
      { event: "deactivated" },
      { event: "reactivated" },
    ]);
  });

  it("is empty before the publication", async () => {
    expect(await historyOf(await catalogue.newImage())).toEqual([]);
  });

  it("is that of an image while it is deleted, and of no image after that", async () => {
    const { imageId } = await catalogue.activeImage();
    await catalogue.database.transaction((db) => beginDeletion(db, imageId));
    expect(await historyOf(imageId)).toHaveLength(1);

    await catalogue.execute(sql`UPDATE images SET status = 'deleted' WHERE id = ${imageId}`);

    expect((await failureOf(historyOf(imageId))).code).toBe("ImageNotFound");
    expect((await failureOf(historyOf(randomUUID()))).code).toBe("ImageNotFound");
  });
});
