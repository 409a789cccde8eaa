import { randomBytes, randomUUID } from "node:crypto";
import { describe, expect } from "vitest";
import { ImportError } from "../../src/domain/import-failure.ts";
import { failureOf } from "../support/failure-of.ts";
import { failsWith, Hold } from "../support/faults.ts";
import { createRig, type ImportRig, it } from "../support/import-rig.ts";
import { PATIENCE } from "../support/patience.ts";

describe("acceptImport", () => {
  it("answers with the task and the run once the image is claimed", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));

    const accepted = await rig.client.imports.start(imageId);

    const { runId } = await rig.run(imageId).describe();
    const [task] = await rig.client.admin.listTasks({ imageId });
    expect(accepted).toEqual({
      image_id: imageId,
      task_id: task?.id,
      workflow_id: `image-import/${imageId}`,
      run_id: runId,
    });
  });

  it("names the importing task to all other callers", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const storing = new Hold();
    rig.fail("storeImage fast", storing.before);
    const { task_id: taskId } = await rig.client.imports.start(imageId);
    await storing.reached;

    const second = failureOf(rig.client.imports.start(imageId));

    expect(await second).toMatchObject({
      code: "ImageBusy",
      message: `Image "${imageId}" has an active task: ${taskId} imports it`,
    });
    storing.release();
    await rig.client.imports.wait(imageId);
  });

  it("lets one of fifty concurrent starts win, and names its task to the others", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const storing = new Hold();
    rig.fail("storeImage fast", storing.before);

    const starts = await Promise.allSettled(
      Array.from({ length: 50 }, () => rig.client.imports.start(imageId)),
    );
    storing.release();
    await rig.client.imports.wait(imageId);

    const accepted = starts.flatMap((start) =>
      start.status === "fulfilled" ? [start.value.task_id] : [],
    );
    const refused = starts.flatMap((start) =>
      start.status === "rejected" ? [refusal(start.reason)] : [],
    );
    expect(accepted).toHaveLength(1);
    expect(refused).toEqual(
      Array.from(
        { length: 49 },
        () => `ImageBusy: Image "${imageId}" has an active task: ${accepted[0] ?? ""} imports it`,
      ),
    );
    expect(await rig.client.admin.listTasks({ imageId })).toHaveLength(1);
  });

  it("gives the same request the same answer while the import runs", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const requestId = randomUUID();
    const storing = new Hold();
    rig.fail("storeImage fast", storing.before);
    const first = await rig.client.imports.start(imageId, { requestId });
    await storing.reached;

    const again = await rig.client.imports.start(imageId, { requestId });

    expect(again).toEqual(first);
    storing.release();
    await rig.client.imports.wait(imageId);
  });

  it("gives the same request the same answer after the import has ended", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const requestId = randomUUID();
    const first = await rig.client.imports.start(imageId, { requestId });
    await rig.client.imports.wait(imageId);

    const again = await rig.client.imports.start(imageId, { requestId });

    expect(again).toEqual(first);
  });

  it("gives the same request the same refusal", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const requestId = randomUUID();
    rig.fail("claimImport", failsWith("ImageConflict", "it may not be"));
    await failureOf(rig.client.imports.start(imageId, { requestId }));

    const again = failureOf(rig.client.imports.start(imageId, { requestId }));

    expect(await again).toMatchObject({ code: "ImageConflict", message: "it may not be" });
  });

  it("waits for a run that is just ending, and then begins the next", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const ending = new Hold();
    rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));
    rig.fail("releaseImport", ending.after);
    const first = await rig.client.imports.start(imageId);
    await ending.reached;

    const second = rig.client.imports.start(imageId);
    await expect.poll(() => questions(rig, imageId), PATIENCE).toBe(2);
    ending.release();

    expect((await second).run_id).not.toBe(first.run_id);
    await rig.client.imports.wait(imageId);
    expect(await rig.state(imageId)).toMatchObject({ image: "active" });
  });

  it("gives a request that had to wait for an ending run the same answer again", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const [ending, storing] = [new Hold(), new Hold()];
    rig.fail("storeImage fast", failsWith("NoSpace", "it is full"), storing.before);
    rig.fail("releaseImport", ending.after);
    const requestId = randomUUID();
    await rig.client.imports.start(imageId);
    await ending.reached;
    const waiting = rig.client.imports.start(imageId, { requestId });
    await expect.poll(() => questions(rig, imageId), PATIENCE).toBe(2);
    ending.release();
    const accepted = await waiting;

    const again = await rig.client.imports.start(imageId, { requestId });

    expect(again).toEqual(accepted);
    storing.release();
    await rig.client.imports.wait(imageId);
  });

  it("refuses what has become active while it waited for the run before", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const ending = new Hold();
    rig.fail("unstageImage", ending.before);
    await rig.client.imports.start(imageId);
    await ending.reached;

    const second = failureOf(rig.client.imports.start(imageId));
    await expect.poll(() => questions(rig, imageId), PATIENCE).toBe(2);
    ending.release();

    expect(await second).toMatchObject({
      code: "ImageConflict",
      message: `Image with status active cannot be target for import (image "${imageId}")`,
    });
  });

  it("refuses a store that is not configured", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));

    const refused = failureOf(rig.client.imports.start(imageId, { stores: ["fast", "nowhere"] }));

    expect(await refused).toMatchObject({
      code: "UnknownStore",
      message: 'Cannot find store "nowhere": the configured stores are "fast", "slow"',
    });
    expect(await rig.state(imageId)).toMatchObject({ image: "uploading", task: null });
  });

  it("refuses an image that does not exist", async ({ rig }) => {
    const imageId = randomUUID();

    const refused = failureOf(rig.client.imports.start(imageId));

    expect(await refused).toMatchObject({
      code: "ImageNotFound",
      message: `No image has the id "${imageId}"`,
    });
  });

  it.for(["http://example.org/disk.raw", "file:disk.raw", "file://host/disk.raw", "/disk.raw"])(
    "refuses the staging URI %s in Glance's words before anything is touched",
    async (uri, { rig }) => {
      const imageId = await rig.stagedImage(randomBytes(1000));

      const refused = await failureOf(rig.client.imports.start(imageId, { uri }));

      expect(refused.code).toBe("BadTaskConfiguration");
      expect(refused.message).toMatch(
        /^[0-9a-f-]{36} of api_image_import not configured properly\. Value of node_staging_uri must be in format 'file:\/\/<absolute-path>'$/,
      );
      expect(await rig.state(imageId)).toMatchObject({ image: "uploading", task: null });
    },
  );

  it("refuses everything in Glance's words on a worker whose node_staging_uri is not a file URI", async () => {
    const rig = await createRig({ nodeStagingUri: "swift://staging" });
    const image = await rig.client.images.create({ diskFormat: "raw", containerFormat: "bare" });

    const refused = await failureOf(
      rig.client.imports.start(image.id, { uri: "file:///disk.raw" }),
    );

    expect(refused.code).toBe("BadTaskConfiguration");
    expect(refused.message).toMatch(
      /^[0-9a-f-]{36} of api_image_import not configured properly\. Value of node_staging_uri must be in format 'file:\/\/<absolute-path>'$/,
    );
  });

  it("refuses everything in Glance's words, with the reason, on a worker whose staging directory is missing", async () => {
    const rig = await createRig({ nodeStagingUri: "file:///nonexistent/staging" });
    const image = await rig.client.images.create({ diskFormat: "raw", containerFormat: "bare" });

    const refused = await failureOf(
      rig.client.imports.start(image.id, { uri: "file:///disk.raw" }),
    );

    expect(refused.code).toBe("BadTaskConfiguration");
    expect(refused.message).toMatch(
      /^[0-9a-f-]{36} of api_image_import not configured properly\. Could not load the filesystem store: ENOENT: .*'\/nonexistent\/staging'$/,
    );
  });
});

function refusal(reason: unknown): string {
  if (reason instanceof ImportError) return `${reason.code}: ${reason.message}`;
  throw reason;
}

/** The number of updates that the newest run of an image has accepted. */
async function questions(rig: ImportRig, imageId: string): Promise<number> {
  const { events } = await rig.run(imageId).fetchHistory();
  const accepted = (events ?? []).filter(
    (event) => event.workflowExecutionUpdateAcceptedEventAttributes != null,
  );
  return accepted.length;
}
