import { randomBytes } from "node:crypto";
import { utimes } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { failureOf } from "../support/failure-of.ts";
import { failsWith, Hold, losesItsAnswer } from "../support/faults.ts";
import { createRig, type ImportRig, type RigOptions } from "../support/import-rig.ts";
import { BACK_TO_STAGED, IMPORTED } from "../support/import-states.ts";

const AT_ONCE = { import: { publish_at_once: "1MiB" } } satisfies RigOptions;

/** An import of a small image, and what holds its publication. */
async function startedImport(rig: ImportRig, publishing: Hold): Promise<string> {
  const imageId = await rig.stagedImage(randomBytes(1000));
  rig.fail("publishImage", publishing.before);
  await rig.client.imports.start(imageId);
  return imageId;
}

describe("importImage() of a small image", () => {
  it("saves, activates and unstages it in one step", async () => {
    const rig = await createRig(AT_ONCE);
    const imageId = await rig.stagedImage(randomBytes(1000));

    await rig.client.imports.start(imageId);
    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome).toMatchObject({ status: "active", size: 1000, unstaged: true });
    expect(rig.calls).toEqual(["claimImport", "verifyStaging", "storeImage fast", "publishImage"]);
    expect(await rig.state(imageId)).toEqual({
      ...IMPORTED,
      task: ["success", "", { image_id: imageId }],
    });
  });

  it("has a step for each if it is larger", async () => {
    const rig = await createRig({ import: { publish_at_once: 999 } });
    const imageId = await rig.stagedImage(randomBytes(1000));

    await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);

    expect(rig.calls.slice(-4)).toEqual([
      "saveImage",
      "confirmCopies",
      "activateImage",
      "unstageImage",
    ]);
  });

  it("is active once if the answer of that step was lost", async () => {
    const rig = await createRig(AT_ONCE);
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("publishImage", losesItsAnswer);

    await rig.client.imports.start(imageId);
    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome).toMatchObject({ status: "active", unstaged: true });
    expect(rig.calls.filter((call) => call === "publishImage")).toHaveLength(2);
    expect(await rig.state(imageId)).toEqual({
      ...IMPORTED,
      task: ["success", "", { image_id: imageId }],
    });
  });

  it("confirms a copy in a step of its own that may have changed", async () => {
    const rig = await createRig(AT_ONCE);
    const publishing = new Hold();
    const imageId = await startedImport(rig, publishing);
    await publishing.reached;
    await utimes(join(rig.directory, "fast", `${imageId}.1`), 1, 1);
    publishing.release();

    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome).toMatchObject({ status: "active", unstaged: true });
    expect(rig.calls.slice(-4)).toEqual([
      "publishImage",
      "confirmCopies",
      "activateImage",
      "unstageImage",
    ]);
  });

  it("is undone if that step fails permanently", async () => {
    const rig = await createRig(AT_ONCE);
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("publishImage", failsWith("StagedDataChanged", "it changed"));

    await rig.client.imports.start(imageId);
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure).toMatchObject({ code: "StagedDataChanged", step: "publish" });
    expect(await rig.state(imageId)).toMatchObject({
      image: BACK_TO_STAGED.image,
      isClaimed: false,
      locations: [],
      leases: [],
      fast: [],
    });
  });

  it("cannot be cancelled or paused while that step runs", async () => {
    const rig = await createRig(AT_ONCE);
    const publishing = new Hold();
    const imageId = await startedImport(rig, publishing);
    await publishing.reached;

    await rig.client.imports.pause(imageId);
    await rig.client.imports.cancel(imageId);
    await rig.cancelRequested(imageId);
    publishing.release();

    expect(await rig.client.imports.wait(imageId)).toMatchObject({ status: "active" });
    expect(await rig.state(imageId)).toMatchObject({ image: "active", isClaimed: false });
  });

  it("is active if that step had published it when it was cancelled", async () => {
    const rig = await createRig(AT_ONCE);
    const publishing = new Hold();
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("publishImage", publishing.afterUntilCancelled);
    await rig.client.imports.start(imageId);
    await publishing.reached;

    await rig.client.imports.cancel(imageId);

    const outcome = await rig.client.imports.wait(imageId);
    expect(outcome).toMatchObject({ status: "active", unstaged: true });
    expect(rig.calls.slice(-3)).toEqual(["publishImage", "settlePublication", "unstageImage"]);
    expect(await rig.state(imageId)).toEqual({
      ...IMPORTED,
      task: ["success", "", { image_id: imageId }],
    });
  });

  it("is undone if that step had not published it when it was cancelled", async () => {
    const rig = await createRig(AT_ONCE);
    const publishing = new Hold();
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("publishImage", publishing.insteadUntilCancelled);
    await rig.client.imports.start(imageId);
    await publishing.reached;

    await rig.client.imports.cancel(imageId, { wait: true });

    expect(rig.calls).toContain("settlePublication");
    expect(await rig.state(imageId)).toMatchObject({
      image: "uploading",
      isClaimed: false,
      locations: [],
      leases: [],
      fast: [],
    });
  });

  it("waits before that step while it is paused, and can be cancelled then", async () => {
    const rig = await createRig(AT_ONCE);
    const imageId = await rig.stagedImage(randomBytes(1000));
    const storing = new Hold();
    rig.fail("storeImage fast", storing.after);
    await rig.client.imports.start(imageId);
    await storing.reached;
    await rig.client.imports.pause(imageId);
    storing.release();
    await rig.paused(imageId);

    await rig.client.imports.cancel(imageId, { wait: true });

    expect(rig.calls).not.toContain("publishImage");
    expect(await rig.state(imageId)).toMatchObject({ image: "uploading", fast: [], leases: [] });
  });
});
