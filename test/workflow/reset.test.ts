import { randomBytes } from "node:crypto";
import { describe, expect } from "vitest";
import { failureOf } from "../support/failure-of.ts";
import { Hold } from "../support/faults.ts";
import { it } from "../support/import-rig.ts";
import { IMPORTED } from "../support/import-states.ts";
import { resetRun } from "../support/reset-run.ts";

const CANCELLED_AT_A_STEP = /^Error: ImportCancelled: (store "fast"|save): it was cancelled$/;

describe("importImage() that is reset", () => {
  it("continues with its claim and completes once when that comes after the acceptance", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const [before, after] = [new Hold(), new Hold()];
    rig.fail("storeImage fast", before.before, after.before);
    const { task_id: taskId } = await rig.client.imports.start(imageId);
    await before.reached;

    await resetRun(rig, imageId, "last");
    await after.reached;
    before.release();
    after.release();
    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome.task_id).toBe(taskId);
    expect(rig.calls.filter((call) => call === "claimImport")).toHaveLength(1);
    expect(await rig.state(imageId)).toEqual({
      ...IMPORTED,
      task: ["success", "", { image_id: imageId }],
    });
  });

  it("undoes with its first claim when it fails after that", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const [before, after] = [new Hold(), new Hold()];
    rig.fail("storeImage fast", before.before, after.before);
    await rig.client.imports.start(imageId);
    await before.reached;

    await resetRun(rig, imageId, "last");
    await after.reached;
    before.release();
    await rig.client.imports.cancel(imageId, { wait: true });

    expect(await rig.state(imageId)).toEqual({
      image: "uploading",
      isClaimed: false,
      failedStores: [],
      // The attempt of the run before may have made the copy just then; the cancel is met a step
      // later.
      task: ["failure", expect.stringMatching(CANCELLED_AT_A_STEP) as string, null],
      locations: [],
      leases: [],
      staging: ["@"],
      fast: [],
      slow: [],
    });
  });

  it("claims again and completes once when that comes at its beginning", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const [before, after] = [new Hold(), new Hold()];
    rig.fail("saveImage", before.before, after.before);
    const { task_id: taskId } = await rig.client.imports.start(imageId);
    await before.reached;

    await resetRun(rig, imageId, "first");
    await after.reached;
    before.release();
    after.release();
    const outcome = await rig.client.imports.wait(imageId);
    await rig.reconcile();

    expect(outcome.task_id).not.toBe(taskId);
    expect((await rig.client.admin.showTask(taskId)).status).toBe("failure");
    expect(await rig.state(imageId)).toEqual({
      ...IMPORTED,
      task: ["success", "", { image_id: imageId }],
      fast: ["@.2"],
    });
  });

  it("does not harm an image that it had made active", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);

    await resetRun(rig, imageId, "first");
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure).toMatchObject({
      code: "ImageConflict",
      message: `Image with status active cannot be target for import (image "${imageId}")`,
    });
    expect(await rig.state(imageId)).toEqual({
      ...IMPORTED,
      task: ["success", "", { image_id: imageId }],
    });
    expect(await rig.client.files.verify(imageId)).toMatchObject([{ store: "fast", ok: true }]);
  });
});
