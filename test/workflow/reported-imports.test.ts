import { randomBytes } from "node:crypto";
import { eq } from "drizzle-orm";
import { describe, expect, inject, onTestFinished } from "vitest";
import { ImageImportClient } from "../../src/client/image-import-client.ts";
import { images, tasks } from "../../src/db/schema.ts";
import { CONTROL_QUEUE, importWorkflowId } from "../../src/workflow/contract.ts";
import { changeBetweenReads } from "../support/change-between-reads.ts";
import { failureOf } from "../support/failure-of.ts";
import { Hold } from "../support/faults.ts";
import { createRig, type ImportRig, it, liveReport } from "../support/import-rig.ts";
import { resetRun } from "../support/reset-run.ts";

/** A rig with an import whose copy is held. */
async function heldImport() {
  const rig = await createRig();
  const imageId = await rig.stagedImage(randomBytes(1000));
  const storing = new Hold();
  rig.fail("storeImage fast", storing.before);
  const accepted = await rig.client.imports.start(imageId);
  await storing.reached;
  return { rig, imageId, storing, accepted };
}

async function importedImage() {
  const rig = await createRig();
  const imageId = await rig.stagedImage(randomBytes(1000));
  const accepted = await rig.client.imports.start(imageId);
  await rig.client.imports.wait(imageId);
  return { rig, imageId, accepted };
}

/** A client for which Temporal has no run any more: it looks into a namespace that has none. */
async function clientOfAnotherTemporal(rig: ImportRig): Promise<ImageImportClient> {
  const { databaseUrl, config } = rig;
  const temporal = { address: inject("temporalAddress"), namespace: "default" };
  const client = await ImageImportClient.connect({ temporal, databaseUrl, config });
  onTestFinished(() => client.close());
  return client;
}

describe("the report of an import", () => {
  it("says that its run was terminated, and so does who waits for it", async () => {
    const { rig, imageId, storing, accepted } = await heldImport();

    await rig.run(imageId).terminate();

    expect(await rig.client.imports.report(imageId)).toMatchObject({
      state: "abandoned",
      run_id: accepted.run_id,
      live: null,
      message:
        "Error: ImportAbandoned: its run was terminated; the reconciler undoes within minutes what it left",
    });
    expect(await failureOf(rig.client.imports.wait(imageId, accepted.run_id))).toMatchObject({
      code: "ImportAbandoned",
    });
    storing.release();
  });

  it("says that its run passed the time limit of a plain start", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const storing = new Hold();
    rig.fail("storeImage fast", storing.before);
    const workflowId = importWorkflowId(imageId);
    await rig.temporal.workflow.start("importImage", {
      workflowId,
      taskQueue: CONTROL_QUEUE,
      args: [{ image_id: imageId }],
      workflowExecutionTimeout: "20s",
    });
    await storing.reached;

    expect(await failureOf(rig.client.imports.wait(imageId))).toMatchObject({
      code: "ImportAbandoned",
      message: expect.stringContaining("passed the time limit") as string,
    });
    expect(await rig.client.imports.report(imageId)).toMatchObject({
      state: "abandoned",
      message: expect.stringContaining("its run passed the time limit") as string,
    });
    storing.release();
  });

  it("says that Temporal has no run of it any more", async () => {
    const { rig, imageId, storing, accepted } = await heldImport();

    const client = await clientOfAnotherTemporal(rig);

    expect(await client.imports.report(imageId)).toMatchObject({
      state: "abandoned",
      run_id: accepted.run_id,
      message: expect.stringContaining("Temporal has no run of this import any more") as string,
    });
    expect(await failureOf(client.imports.wait(imageId, accepted.run_id))).toMatchObject({
      code: "ImportAbandoned",
    });
    storing.release();
    await rig.client.imports.wait(imageId);
  });

  it("says how an import ended whose run is not kept any more", async () => {
    const { rig, imageId, accepted } = await importedImage();

    const client = await clientOfAnotherTemporal(rig);

    expect(await client.imports.report(imageId)).toMatchObject({
      state: "succeeded",
      status: "active",
      stores: ["fast"],
      live: null,
    });
    expect(await client.imports.wait(imageId, accepted.run_id)).toMatchObject({
      ...accepted,
      status: "active",
      size: 1000,
      stores: ["fast"],
    });
  });

  it("has an image and its task as they are at one moment", async () => {
    const { rig, imageId, storing } = await heldImport();

    const report = await changeBetweenReads(rig, tasks, {
      read: () => rig.client.imports.report(imageId),
      change: async (db) => {
        const unclaimed = { claimTaskId: null, claimWorkflowId: null, claimRunId: null };
        await db
          .update(images)
          .set({ status: "queued", ...unclaimed, claimEarlierStatus: null })
          .where(eq(images.id, imageId));
        await db
          .update(tasks)
          .set({ status: "failure", message: "undone" })
          .where(eq(tasks.imageId, imageId));
      },
    });

    expect(report).toMatchObject({
      state: "running",
      status: "importing",
      task: { message: "" },
    });
    storing.release();
  });

  it("follows an import that continues after a reset", async () => {
    const { rig, imageId, storing, accepted } = await heldImport();
    const again = new Hold();
    rig.fail("storeImage fast", again.before);
    const outcome = rig.client.imports.wait(imageId, accepted.run_id);

    await resetRun(rig, imageId, "last");
    await again.reached;

    const report = await liveReport(rig, imageId);
    expect(report).toMatchObject({
      state: "running",
      task: { id: accepted.task_id },
      live: { task_id: accepted.task_id, phase: "storing" },
    });
    expect(report.run_id).not.toBe(accepted.run_id);
    storing.release();
    again.release();
    expect(await outcome).toMatchObject({ status: "active", task_id: accepted.task_id });
  });

  it("reports the import, not of a start that was refused after it", async () => {
    const { rig, imageId, accepted } = await importedImage();

    const refusal = await failureOf(rig.client.imports.start(imageId));

    expect(refusal.code).toBe("ImageConflict");
    expect(await liveReport(rig, imageId)).toMatchObject({
      state: "succeeded",
      run_id: accepted.run_id,
      live: { task_id: accepted.task_id, phase: "done", size: 1000 },
      message: null,
    });
  });

  it("reports the import, not of its run that was reset and refused after it", async () => {
    const { rig, imageId, accepted } = await importedImage();

    await resetRun(rig, imageId, "first");
    await failureOf(rig.client.imports.wait(imageId));

    expect(await liveReport(rig, imageId)).toMatchObject({
      state: "succeeded",
      run_id: accepted.run_id,
      live: { task_id: accepted.task_id, phase: "done" },
      message: null,
    });
  });

  it("says of a start that no worker has accepted that it waits", async () => {
    const { rig, imageId } = await importedImage();
    await rig.stopWorkers();
    const workflowId = importWorkflowId(imageId);
    const { firstExecutionRunId } = await rig.temporal.workflow.start("importImage", {
      workflowId,
      taskQueue: CONTROL_QUEUE,
      args: [{ image_id: imageId }],
    });

    expect(await rig.client.imports.report(imageId)).toMatchObject({
      state: "waiting",
      status: "active",
      run_id: firstExecutionRunId,
      task: null,
      live: null,
    });
  });

  it("reports a copy that was removed later as removed", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
    await rig.client.imports.wait(imageId);

    await rig.client.images.removeCopy(imageId, "slow");

    expect(await liveReport(rig, imageId)).toMatchObject({
      state: "succeeded",
      stores: ["fast"],
      live: { stores: { fast: { state: "stored" }, slow: { state: "removed" } } },
    });
  });
});
