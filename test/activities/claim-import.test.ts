import { randomUUID } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { sql } from "drizzle-orm";
import { describe, expect } from "vitest";
import { claimImportActivities, type ImportPlan } from "../../src/activities/claim-import.ts";
import { adoptStagedFile } from "../../src/client/stage-image.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import { StagingArea } from "../../src/staging/staging-area.ts";
import { claimantOf, NODE, useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import { type NodeRig, onNode, openNode, runStep, someBytes } from "../support/node-rig.ts";
import { planOf } from "../support/step-orders.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);

/** The staging area of a worker with a wrong node staging URI. */
async function unusableStaging(uri: string): Promise<ImportError> {
  const failure: unknown = await StagingArea.open(uri).catch((error: unknown) => error);
  if (failure instanceof ImportError) return failure;
  throw new Error("It is usable");
}

async function claimWithout(rig: NodeRig, staging: ImportError, imageId: string) {
  const control = claimImportActivities({ ...rig.dependencies, staging });
  const claimant = claimantOf(imageId);
  const failure = await failureOf(control.claimImport({ image_id: imageId }, claimant));
  return { failure, claimant };
}

describe("claimImport()", () => {
  it("freezes all that the import needs later", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100), { owner: "ann", diskFormat: "raw" });
    const claimant = claimantOf(imageId);

    const plan = await rig.control.claimImport(
      { image_id: imageId, stores: ["slow", "fast"] },
      claimant,
    );

    expect(plan).toEqual({
      image_id: imageId,
      all_stores_must_succeed: true,
      task_id: claimant.taskId,
      run_id: claimant.runId,
      epoch: 1,
      owner: "ann",
      disk_format: "raw",
      container_format: "bare",
      stores: ["slow", "fast"],
      method: "glance-direct",
      uri: null,
      hash_algo: "sha512",
      node: rig.dependencies.staging.node,
      at_once_bytes: 0,
      times: { deadlineMs: 60_000, heartbeatTimeoutMs: 15_000 },
    });
  });

  it("moves the image to importing, held by this run", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));

    const plan = await rig.claim(imageId, { stores: ["slow", "fast"] });

    expect(await catalogue.image(imageId)).toMatchObject({
      status: "importing",
      epoch: 1,
      claimTaskId: plan.task_id,
      claimWorkflowId: `image-import/${imageId}`,
      claimRunId: plan.run_id,
      claimEarlierStatus: "uploading",
      importingToStores: ["fast", "slow"],
    });
  });

  it("inserts the task as pending, with the request", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100), { owner: "ann" });
    const claimant = claimantOf(imageId);
    const request = { image_id: imageId, stores: ["slow"], request_id: "req-1" };

    await rig.control.claimImport(request, claimant);

    expect(await catalogue.task(claimant.taskId)).toMatchObject({
      type: "api_image_import",
      status: "pending",
      owner: "ann",
      imageId,
      requestId: "req-1",
      workflowId: claimant.workflowId,
      runId: claimant.runId,
      input: request,
      result: null,
      message: "",
    });
  });

  it("fills the default store when none is named", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));

    const plan = planOf(await rig.control.claimImport({ image_id: imageId }, claimantOf(imageId)));

    expect(plan.stores).toEqual(["fast"]);
  });

  it("sends the byte steps to the node of the staged data", async ({ rig }) => {
    const imageId = await catalogue.stagedImage();

    expect((await rig.claim(imageId)).node).toBe(NODE);
  });

  it("accepts a queued image whose bytes are elsewhere in staging", async ({ rig }) => {
    const imageId = await catalogue.newImage();

    const plan = await rig.claim(imageId, { uri: rig.uri("disk.raw") });

    expect(plan).toMatchObject({ uri: rig.uri("disk.raw"), node: rig.dependencies.staging.node });
    expect(await catalogue.image(imageId)).toMatchObject({
      status: "importing",
      claimEarlierStatus: "queued",
    });
  });

  it("freezes the URI of a file that was adopted earlier", async ({ rig }) => {
    const imageId = await catalogue.newImage();
    await writeFile(rig.staged("a disk.raw"), someBytes(100));
    await adoptStagedFile(rig.stagingTools, imageId, rig.uri("a disk.raw"));

    expect((await rig.claim(imageId)).uri).toBe(rig.uri("a disk.raw"));
  });

  it("returns the same plan to the same run again, and inserts no second task", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));
    const claimant = claimantOf(imageId);
    const first = planOf(await rig.control.claimImport({ image_id: imageId }, claimant));
    const before = await rig.snapshot(first);

    const second = await rig.control.claimImport(
      { image_id: imageId },
      { ...claimant, taskId: randomUUID() },
    );

    expect(second).toEqual(first);
    expect(await rig.snapshot(first)).toEqual(before);
  });

  it("takes over from a run that ended without its undo, under a new epoch, and fails its task", async ({
    rig,
  }) => {
    const earlier = await rig.stageAndClaim(someBytes(100));

    const plan = await rig.claim(earlier.image_id);

    expect(plan.epoch).toBe(earlier.epoch + 1);
    expect(await catalogue.image(plan.image_id)).toMatchObject({
      claimTaskId: plan.task_id,
      claimEarlierStatus: "uploading",
    });
    expect(await catalogue.task(earlier.task_id)).toMatchObject({
      status: "failure",
      message: "Error: ImportAbandoned: its run was ended without an undo",
    });
  });

  it("takes nothing over for a run that has closed meanwhile", async () => {
    const closed = randomUUID();
    const rig = await openNode(catalogue, { closedRuns: [closed] });
    const plan = await rig.stageAndClaim(someBytes(100));
    const before = await rig.snapshot(plan);

    const failure = await failureOf(rig.claim(plan.image_id, {}, closed));

    expect(failure.code).toBe("ImportLost");
    expect(await rig.snapshot(plan)).toEqual(before);
    await rig.finish(plan, 100);
    expect((await catalogue.image(plan.image_id)).status).toBe("active");
  });
});

describe("claimImport() of a request that it refuses", () => {
  it("names every mistake in it", async ({ rig }) => {
    const request = { image_id: "nope", stores: [] };

    expect(await failureOf(rig.control.claimImport(request, claimantOf("nope")))).toMatchObject({
      code: "BadRequest",
      message:
        'Cannot import: image_id must be a UUID, not "nope"; stores must be a list of store names, not empty, none twice, not []',
    });
  });

  it("insists on the workflow id that keeps a second run from starting", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));
    const claimant = { ...claimantOf(imageId), workflowId: "my-import" };

    expect(await failureOf(rig.control.claimImport({ image_id: imageId }, claimant))).toMatchObject(
      {
        code: "BadRequest",
        message: `An import of image "${imageId}" must run under the workflow id "image-import/${imageId}", not "my-import"`,
      },
    );
  });

  it("refuses a store that is not configured", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));

    const failure = await failureOf(rig.claim(imageId, { stores: ["fast", "nowhere"] }));

    expect(failure).toMatchObject({ code: "UnknownStore" });
    expect((await catalogue.image(imageId)).status).toBe("uploading");
  });

  it.for(["http://host/disk", "file:/staging/disk", "file://host/disk", "/staging/disk"])(
    "refuses the staging URI %s in Glance's words",
    async (uri, { rig }) => {
      const imageId = await catalogue.newImage();
      const claimant = claimantOf(imageId);

      const failure = await failureOf(
        rig.control.claimImport({ image_id: imageId, uri }, claimant),
      );

      expect(failure).toMatchObject({
        code: "BadTaskConfiguration",
        message: `${claimant.taskId} of api_image_import not configured properly. Value of node_staging_uri must be in format 'file://<absolute-path>'`,
      });
    },
  );

  it("refuses every import on a worker whose own staging URI is not a file URI", async ({
    rig,
  }) => {
    const imageId = await rig.stage(someBytes(100));

    const { failure, claimant } = await claimWithout(
      rig,
      await unusableStaging("s3://bucket"),
      imageId,
    );

    expect(failure).toMatchObject({
      code: "BadTaskConfiguration",
      message: `${claimant.taskId} of api_image_import not configured properly. Value of node_staging_uri must be in format 'file://<absolute-path>'`,
    });
    expect((await catalogue.image(imageId)).status).toBe("uploading");
  });

  it("refuses every import on a worker whose staging directory is not there", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));
    const missing = await unusableStaging(rig.uri("missing"));

    const { failure, claimant } = await claimWithout(rig, missing, imageId);

    expect(failure).toMatchObject({
      code: "BadTaskConfiguration",
      message: `${claimant.taskId} of api_image_import not configured properly. Could not load the filesystem store: ENOENT: no such file or directory, access '${rig.staged("missing")}'`,
    });
  });

  it("refuses an id that no image has", async ({ rig }) => {
    const imageId = randomUUID();

    expect(await failureOf(rig.claim(imageId))).toMatchObject({
      code: "ImageNotFound",
      message: `No image has the id "${imageId}"`,
    });
  });

  it("refuses an image that is being deleted, as not found", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));
    await rig.beginDeletion(imageId);

    expect(await failureOf(rig.claim(imageId))).toMatchObject({ code: "ImageNotFound" });
  });

  it("refuses an image without staged data", async ({ rig }) => {
    const imageId = await catalogue.newImage();

    expect(await failureOf(rig.claim(imageId))).toMatchObject({
      code: "ImageConflict",
      message: `Image needs to be staged before 'glance-direct' method can be used (image "${imageId}")`,
    });
  });

  it.for([
    ["disk_format", { diskFormat: undefined }],
    ["container_format", { containerFormat: undefined }],
  ] as const)("requires %s first", async ([field, fields], { rig }) => {
    const imageId = await rig.stage(someBytes(100), fields);

    expect(await failureOf(rig.claim(imageId))).toMatchObject({
      code: "ImageConflict",
      message: `'${field}' needs to be set before import`,
    });
  });

  it("refuses an image that is still being staged", async ({ rig }) => {
    const imageId = await catalogue.newImage();
    await catalogue.beginStaging(imageId);

    expect(await failureOf(rig.claim(imageId))).toMatchObject({
      code: "StagingBusy",
      message: `Cannot import image "${imageId}": its data is still being staged`,
    });
  });

  it("refuses an image that is published already", async ({ rig }) => {
    const { image_id } = await rig.import(someBytes(100));

    expect(await failureOf(rig.claim(image_id))).toMatchObject({
      code: "ImageConflict",
      message: `Image with status active cannot be target for import (image "${image_id}")`,
    });
  });

  it("refuses an image that another workflow holds, and names its task", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));
    const other = { ...claimantOf(imageId), workflowId: "other-import" };
    await catalogue.claim(imageId, other);

    expect(await failureOf(rig.claim(imageId))).toMatchObject({
      code: "ImageBusy",
      message: `Image "${imageId}" has an active task: ${other.taskId} imports it`,
    });
  });
});

describe("releaseImport()", () => {
  it("moves a staged image back to uploading, as it was staged", async ({ rig }) => {
    const plan = await rig.saved(someBytes(100));

    await rig.release(plan);

    expect(await catalogue.image(plan.image_id)).toMatchObject({
      status: "uploading",
      sizeBytes: 100,
      virtualSizeBytes: null,
      checksum: null,
      osHashAlgo: null,
      osHashValue: null,
      epoch: plan.epoch,
      claimTaskId: null,
      claimWorkflowId: null,
      claimRunId: null,
      claimEarlierStatus: null,
      importingToStores: [],
    });
  });

  it("moves an image back to queued when nothing was staged for it", async ({ rig }) => {
    const plan = await rig.adoptAndClaim(someBytes(100));

    await rig.release(plan);

    expect(await catalogue.image(plan.image_id)).toMatchObject({
      status: "queued",
      sizeBytes: null,
    });
  });

  it("fails the task with the reason, and records the failed stores", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(100), ["fast", "slow"]);

    await rig.release(plan, 'Error: NoSpace: store "slow": full', ["slow"]);

    expect(await catalogue.task(plan.task_id)).toMatchObject({
      status: "failure",
      message: 'Error: NoSpace: store "slow": full',
      result: null,
    });
    expect((await catalogue.image(plan.image_id)).failedImport).toEqual(["slow"]);
  });

  it("leaves an image that can be imported again", async ({ rig }) => {
    const plan = await rig.saved(someBytes(100));
    await rig.removeCopy(plan);
    await rig.release(plan);

    const next = await rig.claim(plan.image_id);
    await rig.finish(next, 100);

    expect((await catalogue.image(plan.image_id)).status).toBe("active");
  });

  it("changes nothing when it is run again", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(100));
    await rig.release(plan);
    const before = await rig.snapshot(plan);

    await rig.release(plan, "Error: another reason");

    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it.for([
    ["a published image", publish],
    ["an image that another run holds", claimAgain],
  ] as const)("changes nothing of %s", async ([_, happen], { rig }) => {
    const plan = await rig.saved(someBytes(100));
    await happen(rig, plan);
    const before = await rig.snapshot(plan);

    await rig.release(plan);

    expect(await rig.snapshot(plan)).toEqual(before);
  });

  async function publish(rig: NodeRig, plan: ImportPlan): Promise<void> {
    await rig.activate(plan);
  }

  async function claimAgain(rig: NodeRig, plan: ImportPlan): Promise<void> {
    await rig.claim(plan.image_id);
  }

  it("releases an image that is being deleted, which stays pending_delete", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(100));
    await rig.beginDeletion(plan.image_id);

    await rig.release(plan);

    expect(await catalogue.image(plan.image_id)).toMatchObject({
      status: "pending_delete",
      claimTaskId: null,
    });
    expect((await catalogue.task(plan.task_id)).status).toBe("failure");
  });

  it("moves an image back to queued when its staged data is gone", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(100));
    await catalogue.execute(sql`DELETE FROM leases WHERE image_id = ${plan.image_id}`);

    await rig.release(plan);

    expect(await catalogue.image(plan.image_id)).toMatchObject({
      status: "queued",
      sizeBytes: null,
    });
  });

  it.for(["", "no uuid"])(
    "has nothing to release for a request with the id %j",
    async (id, { rig }) => {
      const order = {
        image_id: id,
        workflow_id: `image-import/${id}`,
        run_id: randomUUID(),
        message: "Error: BadRequest: claim: no image",
        failed_stores: [],
      };
      const releasing = runStep(() => rig.control.releaseImport(order));

      await expect(releasing).resolves.toBeUndefined();
    },
  );
});
