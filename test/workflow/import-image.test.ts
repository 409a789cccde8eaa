import { createHash, randomBytes } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { eq } from "drizzle-orm";
import { describe, expect } from "vitest";
import { tasks } from "../../src/db/schema.ts";
import { failureOf } from "../support/failure-of.ts";
import { failsWith, Hold } from "../support/faults.ts";
import { createRig, it, stagingUri } from "../support/import-rig.ts";
import { PATIENCE } from "../support/patience.ts";

const A_CHECKSUM: unknown = expect.stringMatching(/^[0-9a-f]{32}$/);
const A_HASH_VALUE: unknown = expect.stringMatching(/^[0-9a-f]{128}$/);

describe("importImage()", () => {
  it("publishes staged bytes in every requested store", async ({ rig }) => {
    const bytes = randomBytes(1_500_017);
    const imageId = await rig.stagedImage(bytes);

    await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
    await rig.client.imports.wait(imageId);

    expect(await rig.state(imageId)).toEqual({
      image: "active",
      isClaimed: false,
      failedStores: [],
      task: ["success", "", { image_id: imageId }],
      locations: ["fast active", "slow active"],
      leases: [],
      staging: [],
      fast: ["@.1"],
      slow: ["@.1"],
    });
    const inFast = await readFile(join(rig.directory, "fast", `${imageId}.1`));
    const inSlow = await readFile(join(rig.directory, "slow", `${imageId}.1`));
    expect([inFast.equals(bytes), inSlow.equals(bytes)]).toEqual([true, true]);
  });

  it("returns the facts of the image and its stores", async ({ rig }) => {
    const bytes = randomBytes(70_000);
    const imageId = await rig.stagedImage(bytes);

    const accepted = await rig.client.imports.start(imageId);
    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome).toEqual({
      ...accepted,
      status: "active",
      size: 70_000,
      virtual_size: 70_144,
      detected_format: "raw",
      checksum: createHash("md5").update(bytes).digest("hex"),
      os_hash_algo: "sha512",
      os_hash_value: createHash("sha512").update(bytes).digest("hex"),
      stores: ["fast"],
      unstaged: true,
    });
  });

  it("goes through its steps in order, without a digest step for bytes that our staging digested", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));

    await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);

    expect(rig.calls).toEqual([
      "claimImport",
      "verifyStaging",
      "storeImage fast",
      "saveImage",
      "confirmCopies",
      "activateImage",
      "unstageImage",
    ]);
  });

  it("digests bytes that another program put into staging", async ({ rig }) => {
    const bytes = randomBytes(90_000);
    const imageId = await rig.adoptedImage(bytes);

    await rig.client.imports.start(imageId);
    const outcome = await rig.client.imports.wait(imageId);

    expect(rig.calls).toContain("digestStaged");
    expect(outcome.os_hash_value).toBe(createHash("sha512").update(bytes).digest("hex"));
  });

  it("imports the file below the staging root that the URI names, of an image that is still queued", async ({
    rig,
  }) => {
    const bytes = randomBytes(5000);
    await writeFile(join(rig.directory, "staging", "disk.raw"), bytes);
    const image = await rig.client.images.create({ diskFormat: "raw", containerFormat: "bare" });

    await rig.client.imports.start(image.id, { uri: stagingUri(rig, "disk.raw") });
    await rig.client.imports.wait(image.id);

    expect(await readFile(join(rig.directory, "fast", `${image.id}.1`))).toEqual(bytes);
  });

  it("shares what our staging wrote with one store by a link, or with both by clones where the file system can", async () => {
    const zeroCopy = { type: "file", zero_copy: true };
    const rig = await createRig({
      stores: { fast: { ...zeroCopy, path: "fast" }, slow: { ...zeroCopy, path: "slow" } },
    });
    const imageId = await rig.stagedImage(randomBytes(5000));

    await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
    await rig.client.imports.wait(imageId);

    const { stores } = await rig.client.imports.status(imageId);
    const methods = [stores["fast"]?.method, stores["slow"]?.method].sort();
    expect([
      ["copy", "link"],
      ["reflink", "reflink"],
    ]).toContainEqual(methods);
    expect(await rig.state(imageId)).toMatchObject({
      image: "active",
      staging: [],
      fast: ["@.1"],
      slow: ["@.1"],
    });
    expect(await rig.client.files.verify(imageId)).toMatchObject([{ ok: true }, { ok: true }]);
  });

  it("keeps the upload when a link to it is undone, and imports it the next time", async () => {
    const rig = await createRig({
      stores: { fast: { type: "file", path: "fast", zero_copy: true } },
    });
    const imageId = await rig.stagedImage(randomBytes(5000));
    rig.fail("saveImage", failsWith("StagedDataChanged", "it changed"));
    await rig.client.imports.start(imageId);
    await failureOf(rig.client.imports.wait(imageId));
    const undone = await rig.state(imageId);

    await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);

    expect(undone).toMatchObject({ image: "uploading", staging: ["@"], fast: [], leases: [] });
    expect(await rig.state(imageId)).toMatchObject({ image: "active", staging: [], fast: ["@.2"] });
    expect(await rig.client.files.verify(imageId)).toMatchObject([{ store: "fast", ok: true }]);
  });

  it("passes importing and saving on its way to active", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const [storing, activating] = [new Hold(), new Hold()];
    rig.fail("storeImage fast", storing.before);
    rig.fail("activateImage", activating.before);

    await rig.client.imports.start(imageId);
    await storing.reached;
    const whileStoring = await rig.client.images.show(imageId);
    storing.release();
    await activating.reached;
    const whileActivating = await rig.client.images.show(imageId);
    activating.release();
    await rig.client.imports.wait(imageId);

    expect(whileStoring).toMatchObject({
      status: "importing",
      checksum: null,
      stores: [],
      os_glance_importing_to_stores: ["fast"],
    });
    expect(whileActivating).toMatchObject({
      status: "saving",
      size: 1000,
      checksum: A_CHECKSUM,
      os_hash_algo: "sha512",
      os_hash_value: A_HASH_VALUE,
      stores: [],
      os_glance_importing_to_stores: [],
    });
  });

  it("keeps its task pending until the first byte step, then processing", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const [verifying, storing] = [new Hold(), new Hold()];
    rig.fail("verifyStaging", verifying.before);
    rig.fail("storeImage fast", storing.after);

    const { task_id: taskId } = await rig.client.imports.start(imageId);
    await verifying.reached;
    const whileVerifying = await rig.client.admin.showTask(taskId);
    verifying.release();
    await storing.reached;
    const whileStoring = await rig.client.admin.showTask(taskId);
    storing.release();
    await rig.client.imports.wait(imageId);

    expect([whileVerifying.status, whileStoring.status]).toEqual(["pending", "processing"]);
  });

  it("keeps what a person writes on the image while it runs", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const storing = new Hold();
    rig.fail("storeImage fast", storing.after);

    await rig.client.imports.start(imageId);
    await storing.reached;
    await rig.client.images.change(imageId, {
      name: "renamed",
      setProperties: { os_distro: "debian" },
      addTags: ["golden"],
    });
    storing.release();
    await rig.client.imports.wait(imageId);

    expect(await rig.client.images.show(imageId)).toMatchObject({
      status: "active",
      name: "renamed",
      properties: { os_distro: "debian" },
      tags: ["golden"],
    });
  });

  it("becomes active when its staged data cannot be deleted, and says so", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("unstageImage", failsWith("PermissionDenied", "it is read-only"));

    await rig.client.imports.start(imageId);
    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome.unstaged).toBe(false);
    expect(await rig.state(imageId)).toMatchObject({ image: "active", staging: ["@"] });
  });

  it("becomes active when its task is gone", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const activating = new Hold();
    rig.fail("activateImage", activating.before);

    const { task_id: taskId } = await rig.client.imports.start(imageId);
    await activating.reached;
    await rig.database.query((db) => db.delete(tasks).where(eq(tasks.id, taskId)));
    activating.release();
    await rig.client.imports.wait(imageId);

    expect(await rig.state(imageId)).toMatchObject({ image: "active", task: null });
  });

  it("becomes active when its task has ended already, and leaves the task as it is", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const activating = new Hold();
    rig.fail("activateImage", activating.before);

    const { task_id: taskId } = await rig.client.imports.start(imageId);
    await activating.reached;
    await rig.database.query((db) =>
      db.update(tasks).set({ status: "failure", message: "Expired" }).where(eq(tasks.id, taskId)),
    );
    activating.release();
    await rig.client.imports.wait(imageId);

    expect(await rig.state(imageId)).toMatchObject({
      image: "active",
      task: ["failure", "Expired", null],
    });
  });

  it("undoes itself and resurrects nothing when its image is deleted meanwhile", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const activating = new Hold();
    rig.fail("activateImage", activating.before);

    await rig.client.imports.start(imageId);
    await activating.reached;
    const deleted = rig.client.images.delete(imageId);
    await expect
      .poll(async () => (await rig.state(imageId)).image, PATIENCE)
      .toBe("pending_delete");
    activating.release();

    expect(await failureOf(rig.client.imports.wait(imageId))).toMatchObject({
      code: "ImportLost",
      message: `activate: Image "${imageId}" was deleted or taken while it was imported`,
    });
    expect(await deleted).toBe("deleted");
    expect(await rig.state(imageId)).toMatchObject({
      image: "deleted",
      isClaimed: false,
      locations: [],
      leases: [],
      staging: [],
      fast: [],
      slow: [],
    });
  });

  it("refuses bytes that are not in the declared format before it touches a store", async ({
    rig,
  }) => {
    const qcow2 = Buffer.concat([
      Buffer.from("QFI\xfb\0\0\0\x03", "latin1"),
      Buffer.alloc(1 << 16),
    ]);
    const imageId = await rig.stagedImage(qcow2);

    await rig.client.imports.start(imageId);
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toBe("FormatMismatch");
    expect(rig.calls).toEqual(["claimImport", "verifyStaging", "releaseImport"]);
  });
});
