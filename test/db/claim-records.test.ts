import { randomUUID } from "node:crypto";
import { sql } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import { type Claim, listClaims, releaseClaim, takeClaim } from "../../src/db/claim-records.ts";
import { beginDeletion } from "../../src/db/deletion-records.ts";
import { changeImage, findImage } from "../../src/db/image-records.ts";
import { activate, recordSaved, recordStored } from "../../src/db/outcome-records.ts";
import { failTask, listTasks } from "../../src/db/task-records.ts";
import type { ImportRequest } from "../../src/domain/import-request.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import { claimantOf, SOME_DIGESTS, useCatalogue, type ClaimedImage } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";

const catalogue = useCatalogue();

const REASON = "Error: NoSpace: the step store, store fast: it is full";

async function take(request: ImportRequest, claimant = claimantOf(request.image_id)) {
  return catalogue.database.transaction((db) =>
    takeClaim(db, NO_LIMITS, request, ["fast"], claimant),
  );
}

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

async function startDeletion(imageId: string): Promise<void> {
  await catalogue.database.transaction((db) => beginDeletion(db, imageId));
}

async function tasksOf(imageId: string) {
  return catalogue.database.query((db) => listTasks(db, { imageId, limit: 100 }));
}

describe("takeClaim()", () => {
  it("takes an image with an upload, under a new epoch", async () => {
    const imageId = await catalogue.stagedImage({
      owner: "ada",
      diskFormat: "qcow2",
      containerFormat: "bare",
    });
    const claimant = claimantOf(imageId);

    const claim = await catalogue.claim(imageId, claimant, ["slow", "fast"]);

    expect(claim).toEqual({
      taskId: claimant.taskId,
      epoch: 1,
      isNew: true,
      earlierStatus: "uploading",
      owner: "ada",
      name: null,
      diskFormat: "qcow2",
      containerFormat: "bare",
    } satisfies Claim);
    expect(await catalogue.image(imageId)).toMatchObject({
      status: "importing",
      epoch: 1,
      claimTaskId: claimant.taskId,
      claimWorkflowId: claimant.workflowId,
      claimRunId: claimant.runId,
      claimEarlierStatus: "uploading",
      importingToStores: ["fast", "slow"],
    });
  });

  it("inserts a pending task with the request and its stores", async () => {
    const imageId = await catalogue.stagedImage({ owner: "ada" });
    const claimant = claimantOf(imageId);

    await take({ image_id: imageId, method: "glance-direct", request_id: "17" }, claimant);

    expect(await catalogue.task(claimant.taskId)).toMatchObject({
      type: "api_image_import",
      status: "pending",
      owner: "ada",
      imageId,
      requestId: "17",
      workflowId: claimant.workflowId,
      runId: claimant.runId,
      input: {
        image_id: imageId,
        method: "glance-direct",
        request_id: "17",
        stores: ["fast"],
        backend: ["fast"],
      },
      result: null,
      message: "",
      expiresAt: null,
    });
  });

  it("records who asked for it over HTTP, and how, without what may be a secret", async () => {
    const imageId = await catalogue.newImage();
    const claimant = claimantOf(imageId);
    const uri = "https://ann:word@example.org/disk.raw?signature=secret#secret";
    const request = {
      method: { name: "web-download", uri },
      stores: ["fast"],
      nested: [{ deep: `see ${uri}` }, 7, null, true],
    };

    await take(
      {
        image_id: imageId,
        method: "web-download",
        uri: "sealed",
        user_id: "ann",
        api_request: request,
      },
      claimant,
    );

    const { userId, input } = await catalogue.task(claimant.taskId);
    expect(userId).toBe("ann");
    expect(input).toEqual({
      image_id: imageId,
      method: "web-download",
      uri: "sealed",
      user_id: "ann",
      stores: ["fast"],
      backend: ["fast"],
      import_req: {
        method: { name: "web-download", uri: "https://[hidden]@example.org/disk.raw?[hidden]" },
        stores: ["fast"],
        nested: [{ deep: "see https://[hidden]@example.org/disk.raw?[hidden]" }, 7, null, true],
      },
    });
  });

  it("takes the image of the owner that the request expects, and no other", async () => {
    for (const owner of ["ada", undefined]) {
      const imageId = await catalogue.stagedImage({ owner });
      for (const expected of ["bob", owner === undefined ? "ada" : null]) {
        const request = { image_id: imageId, expected_owner: expected };
        expect(await failureOf(take(request))).toMatchObject({ code: "ImageNotFound" });
      }
      expect((await take({ image_id: imageId, expected_owner: owner ?? null })).epoch).toBe(1);
    }
  });

  it("takes a queued image when the request names a URI", async () => {
    const imageId = await catalogue.newImage();

    await take({ image_id: imageId, uri: `file:///staging/other` });

    expect(await catalogue.image(imageId)).toMatchObject({
      status: "importing",
      claimEarlierStatus: "queued",
    });
  });

  it("forgets earlier failures of the requested stores, and of no other store", async () => {
    const imageId = await catalogue.stagedImage();
    await catalogue.execute(
      sql`UPDATE images SET os_glance_failed_import = '{fast,slow}' WHERE id = ${imageId}`,
    );

    await catalogue.claim(imageId);

    expect((await catalogue.image(imageId)).failedImport).toEqual(["slow"]);
  });

  it("refuses an image that does not exist", async () => {
    const imageId = randomUUID();

    expect(await failureOf(take({ image_id: imageId }))).toMatchObject({
      code: "ImageNotFound",
      message: `No image has the id "${imageId}"`,
    });
  });

  it.each([
    [
      "an image without a container format",
      { containerFormat: undefined, diskFormat: undefined },
      "'container_format' needs to be set before import",
    ],
    [
      "an image without a disk format",
      { diskFormat: undefined },
      "'disk_format' needs to be set before import",
    ],
  ])("refuses %s", async (_, fields, message) => {
    const imageId = await catalogue.stagedImage(fields);

    const { failure, before, after } = await catalogue.failureAndRest(imageId, () =>
      take({ image_id: imageId }),
    );

    expect(failure).toMatchObject({
      code: "ImageConflict",
      message,
      hint: `\`image-import image set ${imageId} --disk-format FORMAT --container-format bare\` sets them.`,
    });
    expect(after).toEqual(before);
  });

  it("refuses a queued image without staged data", async () => {
    const imageId = await catalogue.newImage();

    const { failure, before, after } = await catalogue.failureAndRest(imageId, () =>
      take({ image_id: imageId }),
    );

    expect(failure).toMatchObject({
      code: "ImageConflict",
      message: `Image needs to be staged before 'glance-direct' method can be used (image "${imageId}")`,
      hint: `\`image-import image stage ${imageId} FILE\` stages its data.`,
    });
    expect(after).toEqual(before);
  });

  it("refuses an image whose data is still being staged", async () => {
    const imageId = await catalogue.newImage();
    await catalogue.beginStaging(imageId);

    const { failure, before, after } = await catalogue.failureAndRest(imageId, () =>
      take({ image_id: imageId }),
    );

    expect(failure).toMatchObject({
      code: "StagingBusy",
      message: `Cannot import image "${imageId}": its data is still being staged`,
    });
    expect(after).toEqual(before);
  });

  it.each(["active", "deactivated"] as const)("refuses an image that is %s", async (status) => {
    const { imageId } = await catalogue.activeImage();
    await catalogue.execute(sql`UPDATE images SET status = ${status} WHERE id = ${imageId}`);

    const { failure, before, after } = await catalogue.failureAndRest(imageId, () =>
      take({ image_id: imageId, uri: "file:///staging/other" }),
    );

    expect(failure).toMatchObject({
      code: "ImageConflict",
      message: `Image with status ${status} cannot be target for import (image "${imageId}")`,
      hint: `\`image-import image show ${imageId}\` shows the state of the image.`,
    });
    expect(after).toEqual(before);
  });

  it.each(["pending_delete", "deleted"] as const)(
    "does not find an image in %s",
    async (status) => {
      const imageId = await catalogue.stagedImage();
      await catalogue.execute(sql`UPDATE images SET status = ${status} WHERE id = ${imageId}`);

      const { failure, before, after } = await catalogue.failureAndRest(imageId, () =>
        take({ image_id: imageId }),
      );

      expect(failure.code).toBe("ImageNotFound");
      expect(after).toEqual(before);
    },
  );

  it("refuses an image that another import holds, naming its task", async () => {
    const held = await catalogue.claimedImage();
    const stranger = { ...claimantOf(held.imageId), workflowId: "another" };

    const { failure, before, after } = await catalogue.failureAndRest(held.imageId, () =>
      take({ image_id: held.imageId }, stranger),
    );

    expect(failure).toMatchObject({
      code: "ImageBusy",
      message: `Image "${held.imageId}" has an active task: ${held.taskId} imports it`,
    });
    expect(after).toEqual(before);
  });

  it("returns the same result again to the run that holds the image, and changes nothing", async () => {
    const imageId = await catalogue.stagedImage();
    const claimant = claimantOf(imageId);
    const claim = await catalogue.claim(imageId, claimant);
    const before = await catalogue.everythingOf(imageId);

    const again = await catalogue.claim(imageId, { ...claimant, taskId: randomUUID() });

    expect(again).toEqual({ ...claim, isNew: false });
    expect(await catalogue.everythingOf(imageId)).toEqual(before);
  });

  it("gives a new epoch to the next import after an undo", async () => {
    const first = await catalogue.claimedImage();
    await release(first);

    const second = await catalogue.claim(first.imageId);

    expect(second.epoch).toBe(2);
  });

  it("lets one of fifty simultaneous imports win, and names its task to the others", async () => {
    const imageId = await catalogue.stagedImage();
    const claimants = Array.from({ length: 50 }, (_, index) => ({
      ...claimantOf(imageId),
      workflowId: `workflow-${index}`,
    }));

    const outcomes = await Promise.all(
      claimants.map((claimant) =>
        catalogue.claim(imageId, claimant).then(
          ({ taskId, epoch }) => `won by ${taskId} under epoch ${epoch}`,
          (error: unknown) => (error as Error).message,
        ),
      ),
    );

    const [task, ...others] = await tasksOf(imageId);
    const winner = task?.id ?? "";
    expect(others).toEqual([]);
    expect(outcomes.sort()).toEqual([
      ...Array.from(
        { length: 49 },
        () => `Image "${imageId}" has an active task: ${winner} imports it`,
      ),
      `won by ${winner} under epoch 1`,
    ]);
  });

  describe("when the run that holds the image has closed without its undo", () => {
    it("gives the image to the next run of the workflow, with its earlier status", async () => {
      const first = await catalogue.claimedImage();
      const next = claimantOf(first.imageId);

      const { epoch } = await catalogue.claim(first.imageId, next);

      expect(epoch).toBe(2);
      expect(await catalogue.image(first.imageId)).toMatchObject({
        status: "importing",
        epoch: 2,
        claimTaskId: next.taskId,
        claimRunId: next.runId,
        claimEarlierStatus: "uploading",
      });
    });

    it("ends its task as abandoned", async () => {
      const first = await catalogue.claimedImage();

      await catalogue.claim(first.imageId);

      expect(await catalogue.task(first.taskId)).toMatchObject({
        status: "failure",
        message: "Error: ImportAbandoned: its run was ended without an undo",
      });
    });

    it("forgets the locations that it saved, so that those of the next run count", async () => {
      const first = await catalogue.claimedImage();
      await catalogue.save(first);
      const next = claimantOf(first.imageId);
      const claim = await catalogue.claim(first.imageId, next);

      await catalogue.save({ imageId: first.imageId, epoch: claim.epoch });

      expect(await catalogue.locations(first.imageId)).toMatchObject([
        { store: "fast", epoch: 2, status: "pending" },
      ]);
    });

    it("lets the closed run save, record and activate nothing", async () => {
      const first = await catalogue.claimedImage({}, ["fast", "slow"]);
      await catalogue.wholeCopy({ ...first, store: "fast" });
      await catalogue.claim(first.imageId, claimantOf(first.imageId), ["fast", "slow"]);
      const before = await catalogue.everythingOf(first.imageId);

      const saving = await failureOf(
        catalogue.database.transaction((db) =>
          recordSaved(db, {
            ...first,
            digests: SOME_DIGESTS,
            virtualSizeBytes: null,
            locations: [{ store: "fast", url: "file:///fast/copy" }],
          }),
        ),
      );
      const activating = await failureOf(activateImage(first));
      await catalogue.database.query((db) => recordStored(db, first, "fast"));
      await release(first);

      expect([saving.code, activating.code]).toEqual(["ImportLost", "ImportLost"]);
      expect(await catalogue.everythingOf(first.imageId)).toEqual(before);
    });
  });
});

describe("releaseClaim()", () => {
  it("moves an image with an upload back to uploading, and ends the task with the reason", async () => {
    const claim = await catalogue.claimedImage();

    await release(claim);

    expect(await catalogue.everythingOf(claim.imageId)).toMatchObject({
      image: {
        status: "uploading",
        epoch: 1,
        claimTaskId: null,
        claimWorkflowId: null,
        claimRunId: null,
        claimEarlierStatus: null,
        importingToStores: [],
        failedImport: [],
        sizeBytes: 4096,
      },
      staged: { state: "whole" },
      tasks: [{ id: claim.taskId, status: "failure", message: REASON, result: null }],
    });
  });

  it("moves an image that was queued back to queued", async () => {
    const imageId = await catalogue.newImage();
    const claimant = claimantOf(imageId);
    const claim = await take({ image_id: imageId, uri: "file:///staging/other" }, claimant);

    await release({ imageId, ...claim, ...claimant });

    expect(await catalogue.image(imageId)).toMatchObject({ status: "queued", sizeBytes: null });
  });

  it("moves an image back to queued when its upload is gone", async () => {
    const claim = await catalogue.claimedImage();
    await catalogue.execute(sql`DELETE FROM leases WHERE image_id = ${claim.imageId}`);

    await release(claim);

    expect(await catalogue.image(claim.imageId)).toMatchObject({
      status: "queued",
      sizeBytes: null,
    });
  });

  it("removes the saved digests and locations", async () => {
    const claim = await catalogue.claimedImage();
    await catalogue.save(claim);

    await release(claim);

    expect(await catalogue.everythingOf(claim.imageId)).toMatchObject({
      image: {
        status: "uploading",
        sizeBytes: 4096,
        virtualSizeBytes: null,
        checksum: null,
        osHashAlgo: null,
        osHashValue: null,
      },
      locations: [],
    });
  });

  it("adds each failed store once, in order", async () => {
    const claim = await catalogue.claimedImage();
    await catalogue.execute(
      sql`UPDATE images SET os_glance_failed_import = '{slow}' WHERE id = ${claim.imageId}`,
    );

    await release(claim, REASON, ["slow", "fast"]);

    expect((await catalogue.image(claim.imageId)).failedImport).toEqual(["fast", "slow"]);
  });

  it("changes nothing when it is repeated, also with another reason", async () => {
    const claim = await catalogue.claimedImage();
    await release(claim, REASON, ["fast"]);
    const before = await catalogue.everythingOf(claim.imageId);

    await release(claim, "Error: ImportCancelled: it was cancelled", ["slow"]);

    expect(await catalogue.everythingOf(claim.imageId)).toEqual(before);
  });

  it("never changes the claim of another run", async () => {
    const claim = await catalogue.claimedImage();
    const before = await catalogue.everythingOf(claim.imageId);

    await release({ ...claim, runId: randomUUID() });

    expect(await catalogue.everythingOf(claim.imageId)).toEqual(before);
  });

  it("never changes an image that its import has published", async () => {
    const claim = await catalogue.activeImage();
    const before = await catalogue.everythingOf(claim.imageId);

    await release(claim);

    expect(await catalogue.everythingOf(claim.imageId)).toEqual(before);
  });

  it("does nothing for an image that does not exist", async () => {
    const imageId = randomUUID();
    const claim = { imageId, workflowId: "w", runId: "r" };

    await expect(
      catalogue.database.transaction((db) => releaseClaim(db, claim, { message: REASON }, [])),
    ).resolves.toBeUndefined();
  });

  it("frees an image that is being deleted, and leaves it so", async () => {
    const claim = await catalogue.claimedImage();
    await catalogue.save(claim);
    await startDeletion(claim.imageId);

    await release(claim);

    expect(await catalogue.everythingOf(claim.imageId)).toMatchObject({
      image: { status: "pending_delete", claimTaskId: null },
      locations: [{ status: "pending_delete" }],
      tasks: [{ status: "failure", message: REASON }],
    });
  });

  it("leaves a task that has ended as it is", async () => {
    const claim = await catalogue.claimedImage();
    await catalogue.database.query((db) =>
      failTask(db, claim.taskId, { message: "Error: ended by hand" }),
    );

    await release(claim);

    expect((await catalogue.task(claim.taskId)).message).toBe("Error: ended by hand");
  });
});

describe("a change that a user makes while an import runs", () => {
  async function edit(imageId: string): Promise<void> {
    await catalogue.database.transaction((db) =>
      changeImage(db, NO_LIMITS, imageId, {
        name: "edited",
        setProperties: { os_distro: "debian" },
        removeProperties: ["old"],
        addTags: ["edited"],
        removeTags: ["old"],
      }),
    );
  }

  const FIELDS = { name: "old", properties: { old: "1" }, tags: ["old"] };

  it("survives its activation", async () => {
    const claim = await catalogue.claimedImage(FIELDS);
    await edit(claim.imageId);
    await catalogue.save(claim);

    await activateImage(claim);

    expect(await catalogue.database.query((db) => findImage(db, claim.imageId))).toMatchObject({
      image: { name: "edited", status: "active" },
      properties: { os_distro: "debian" },
      tags: ["edited"],
    });
  });

  it("survives its undo", async () => {
    const claim = await catalogue.claimedImage(FIELDS);
    await catalogue.save(claim);
    await edit(claim.imageId);

    await release(claim);

    expect(await catalogue.database.query((db) => findImage(db, claim.imageId))).toMatchObject({
      image: { name: "edited", status: "uploading" },
      properties: { os_distro: "debian" },
      tags: ["edited"],
    });
  });
});

describe("listClaims()", () => {
  it("lists the claims that exist, also those of images that are being deleted", async () => {
    const [running, deleted, undone] = await Promise.all([
      catalogue.claimedImage(),
      catalogue.claimedImage(),
      catalogue.claimedImage(),
    ]);
    await startDeletion(deleted.imageId);
    await release(undone);
    const { imageId: published } = await catalogue.activeImage();
    const ours = [running, deleted, undone].map(({ imageId }) => imageId).concat(published);

    const claims = await catalogue.database.query(listClaims);

    expect(claims.filter(({ imageId }) => ours.includes(imageId))).toEqual(
      expect.arrayContaining(
        [running, deleted].map(({ imageId, workflowId, runId, epoch }) => ({
          imageId,
          workflowId,
          runId,
          epoch,
        })),
      ),
    );
    expect(claims.filter(({ imageId }) => ours.includes(imageId))).toHaveLength(2);
  });
});
