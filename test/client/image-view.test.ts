import { describe, expect } from "vitest";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import { imageView, taskView, type ImageView } from "../../src/client/image-view.ts";
import { findImage, moveImage } from "../../src/db/image-records.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { type NodeRig, onNode, someBytes } from "../support/node-rig.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);
const aTime = expect.stringMatching(/^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/) as string;

async function viewOf(imageId: string): Promise<ImageView> {
  return imageView(await catalogue.database.query((db) => findImage(db, imageId)));
}

describe("imageView()", () => {
  it("shows a new image, under Glance's names", async () => {
    const imageId = await catalogue.newImage({
      name: "web",
      owner: "ann",
      diskFormat: "qcow2",
      properties: { os_distro: "debian" },
      tags: ["lts"],
    });

    expect(await viewOf(imageId)).toEqual({
      id: imageId,
      name: "web",
      owner: "ann",
      status: "queued",
      disk_format: "qcow2",
      container_format: "bare",
      visibility: "shared",
      protected: false,
      os_hidden: false,
      min_disk: 0,
      min_ram: 0,
      is_direct_upload: false,
      size: null,
      virtual_size: null,
      checksum: null,
      os_hash_algo: null,
      os_hash_value: null,
      stores: [],
      locations: [],
      os_glance_importing_to_stores: [],
      os_glance_failed_import: [],
      os_glance_import_task: null,
      properties: { os_distro: "debian" },
      tags: ["lts"],
      created_at: aTime,
      updated_at: aTime,
    });
  });

  it("shows which task imports the image, and into which stores", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(100), ["fast", "slow"]);

    expect(await viewOf(plan.image_id)).toMatchObject({
      status: "importing",
      os_glance_importing_to_stores: ["fast", "slow"],
      os_glance_import_task: plan.task_id,
      stores: [],
    });
  });

  it.for([
    ["active", async () => undefined],
    ["deactivated", deactivate],
  ] as const)("shows the locations of an image in status %s", async ([status, happen], { rig }) => {
    const plan = await rig.saved(someBytes(100), ["fast", "slow"]);
    await rig.activate(plan);
    await happen(plan);

    expect(await viewOf(plan.image_id)).toMatchObject({
      status,
      size: 100,
      stores: ["fast", "slow"],
      locations: [
        { store: "fast", url: `file://${rig.copyPath(plan, "fast")}` },
        { store: "slow", url: `file://${rig.copyPath(plan, "slow")}` },
      ],
    });
  });

  async function deactivate({ image_id }: ImportPlan): Promise<void> {
    await catalogue.database.transaction((db) => moveImage(db, image_id, "deactivated"));
  }

  it.for([
    ["is not published yet", async (rig: NodeRig) => rig.saved(someBytes(100))],
    ["is being deleted", beginToDelete],
  ] as const)("shows no location of an image that %s", async ([_, make], { rig }) => {
    const { image_id } = await make(rig);

    expect(await viewOf(image_id)).toMatchObject({ stores: [], locations: [] });
  });

  async function beginToDelete(rig: NodeRig): Promise<ImportPlan> {
    const plan = await rig.import(someBytes(100));
    await rig.beginDeletion(plan.image_id);
    return plan;
  }

  it("shows which stores failed", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(100), ["slow"]);
    await rig.release(plan, "Error: NoSpace: full", ["slow"]);

    expect((await viewOf(plan.image_id)).os_glance_failed_import).toEqual(["slow"]);
  });
});

describe("taskView()", () => {
  it("shows a task that runs, under Glance's names", async ({ rig }) => {
    const plan = await rig.claim(await rig.stage(someBytes(100), { owner: "ann" }));

    expect(taskView(await catalogue.task(plan.task_id))).toEqual({
      id: plan.task_id,
      type: "api_image_import",
      status: "pending",
      image_id: plan.image_id,
      owner: "ann",
      workflow_id: `image-import/${plan.image_id}`,
      run_id: plan.run_id,
      request_id: null,
      user_id: null,
      input: { image_id: plan.image_id, stores: ["fast"], backend: ["fast"] },
      result: null,
      message: "",
      failure: null,
      created_at: aTime,
      updated_at: aTime,
      expires_at: null,
    });
  });

  it("shows the result of a task that succeeded", async ({ rig }) => {
    const plan = await rig.import(someBytes(100));

    expect(taskView(await catalogue.task(plan.task_id))).toMatchObject({
      status: "success",
      result: { image_id: plan.image_id },
      expires_at: aTime,
    });
  });

  it("shows why a task failed", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(100));
    await rig.release(plan, 'Error: NoSpace: store "fast": full');

    expect(taskView(await catalogue.task(plan.task_id))).toMatchObject({
      status: "failure",
      message: 'Error: NoSpace: store "fast": full',
    });
  });
});
