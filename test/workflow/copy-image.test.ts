import { createHash, randomBytes } from "node:crypto";
import { chmod, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, vi } from "vitest";
import { failureOf } from "../support/failure-of.ts";
import { failsWith, Hold } from "../support/faults.ts";
import { createRig, type ImportRig, it } from "../support/import-rig.ts";
import { COPIED, IMPORTED } from "../support/import-states.ts";

const BYTES = randomBytes(3 * 1024 * 1024 + 17);
const SUCCESS = (imageId: string) => ["success", "", { image_id: imageId }];

/** An active image in the store `fast`. */
async function importedImage(rig: ImportRig, bytes = BYTES): Promise<string> {
  const imageId = await rig.stagedImage(bytes);
  await rig.client.imports.start(imageId, { stores: ["fast"] });
  await rig.client.imports.wait(imageId);
  return imageId;
}

/** Three stores: `fast` and `slow` as always, and `spare`. */
const THREE_STORES = {
  fast: { type: "file", path: "fast", zero_copy: false },
  slow: { type: "file", path: "slow", zero_copy: false },
  // What is configured first need not be there: the directory is made by no test.
  spare: { type: "file", path: "spare" },
};

describe("importImage() by copy-image", () => {
  it("copies an active image into another store, and reads no staging", async ({ rig }) => {
    const imageId = await importedImage(rig);

    const accepted = await rig.client.imports.copy(imageId, { stores: ["slow"] });
    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome).toMatchObject({
      task_id: accepted.task_id,
      status: "active",
      stores: ["slow"],
      size: BYTES.length,
      os_hash_value: createHash("sha512").update(BYTES).digest("hex"),
    });
    expect(await rig.state(imageId)).toEqual({ ...COPIED, task: SUCCESS(imageId) });
    expect((await readFile(join(rig.directory, "slow", `${imageId}.2`))).equals(BYTES)).toBe(true);
    expect(await rig.client.files.verify(imageId)).toMatchObject([{ ok: true }, { ok: true }]);
  });

  it("stays active all the time, and can be read meanwhile", async ({ rig }) => {
    const imageId = await importedImage(rig);
    const storing = new Hold();
    rig.fail("storeImage slow", storing.before);

    await rig.client.imports.copy(imageId, { stores: ["slow"] });
    await storing.reached;
    const image = await rig.client.images.show(imageId);
    const path = join(rig.directory, "read");
    await rig.client.files.download(imageId, { to: path });

    expect(image).toMatchObject({ status: "active", os_glance_importing_to_stores: ["slow"] });
    expect((await readFile(path)).equals(BYTES)).toBe(true);
    storing.release();
    await rig.client.imports.wait(imageId);
  });

  it("may be deactivated meanwhile, and stays so", async ({ rig }) => {
    const imageId = await importedImage(rig);
    const storing = new Hold();
    rig.fail("storeImage slow", storing.before);

    await rig.client.imports.copy(imageId, { stores: ["slow"] });
    await storing.reached;
    await rig.client.images.deactivate(imageId);
    storing.release();
    await rig.client.imports.wait(imageId);

    expect(await rig.state(imageId)).toMatchObject({ ...COPIED, image: "deactivated" });
  });

  it("leaves out stores that have it when all stores are requested", async ({ rig }) => {
    const imageId = await importedImage(rig);

    await rig.client.imports.copy(imageId, { allStores: true });

    expect((await rig.client.imports.wait(imageId)).stores).toEqual(["slow"]);
  });

  it("succeeds without a task when all stores have it already", async ({ rig }) => {
    const imageId = await importedImage(rig);
    await rig.client.imports.copy(imageId, { allStores: true });
    await rig.client.imports.wait(imageId);
    const before = await rig.client.admin.listTasks({ imageId });

    const accepted = await rig.client.imports.copy(imageId, { allStores: true });
    const outcome = await rig.client.imports.wait(imageId, accepted.run_id);

    expect(accepted.task_id).toBeNull();
    expect(outcome).toMatchObject({ task_id: null, status: "active", stores: [] });
    expect(await rig.client.admin.listTasks({ imageId })).toEqual(before);
    expect(await rig.state(imageId)).toMatchObject(COPIED);
  });

  it("refuses a named store that has it", async ({ rig }) => {
    const imageId = await importedImage(rig);

    const failure = await failureOf(rig.client.imports.copy(imageId, { stores: ["fast", "slow"] }));

    expect(failure).toMatchObject({
      code: "BadRequest",
      message: `Image is already present at store 'fast' (image "${imageId}")`,
    });
    expect(await rig.state(imageId)).toMatchObject(IMPORTED);
  });

  it("refuses an image that is not active", async ({ rig }) => {
    const imageId = await rig.stagedImage(BYTES);

    const failure = await failureOf(rig.client.imports.copy(imageId, { stores: ["slow"] }));

    expect(failure).toMatchObject({
      code: "ImageConflict",
      message: `Only images with status active can be targeted for copying (image "${imageId}")`,
    });
  });

  it("refuses an active image by every other method", async ({ rig }) => {
    const imageId = await importedImage(rig);

    const failure = await failureOf(rig.client.imports.start(imageId, { stores: ["slow"] }));

    expect(failure.message).toContain("Image with status active cannot be target for import");
  });

  it("removes only its own copies when it fails, and records the failed store", async ({ rig }) => {
    const imageId = await importedImage(rig);
    rig.fail("storeImage slow", async (step) => {
      await step();
      return failsWith("NoSpace", "it is full")(step);
    });

    await rig.client.imports.copy(imageId, { stores: ["slow"] });
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toBe("NoSpace");
    expect(await rig.state(imageId)).toEqual({
      ...IMPORTED,
      failedStores: ["slow"],
      task: ["failure", 'Error: NoSpace: store "slow": it is full', null],
    });
    await rig.client.imports.copy(imageId, { stores: ["slow"] });
    await rig.client.imports.wait(imageId);
    expect(await rig.state(imageId)).toMatchObject({ ...COPIED, slow: ["@.3"] });
  });

  it("removes only what it made when it is cancelled", async ({ rig }) => {
    rig.holdCopies("slow");
    const imageId = await importedImage(rig);

    await rig.client.imports.copy(imageId, { stores: ["slow"] });
    await rig.copying(imageId, "slow");
    await rig.client.imports.cancel(imageId, { wait: true });

    expect(await rig.state(imageId)).toMatchObject(IMPORTED);
    expect(await rig.client.files.verify(imageId)).toMatchObject([{ ok: true }]);
  });

  it("is removed whole when the image is deleted meanwhile", async ({ rig }) => {
    rig.holdCopies("slow");
    const imageId = await importedImage(rig);

    await rig.client.imports.copy(imageId, { stores: ["slow"] });
    await rig.copying(imageId, "slow");
    await rig.client.images.delete(imageId, 60_000);

    expect(await rig.state(imageId)).toMatchObject({
      image: "deleted",
      isClaimed: false,
      locations: [],
      leases: [],
      fast: [],
      slow: [],
    });
  });

  it("fails when no store of those that need not all succeed did", async ({ rig }) => {
    const imageId = await importedImage(rig);
    rig.fail("storeImage slow", failsWith("NoSpace", "it is full"));

    await rig.client.imports.copy(imageId, { stores: ["slow"], allStoresMustSucceed: false });
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toBe("NoSpace");
    expect(await rig.state(imageId)).toMatchObject({ ...IMPORTED, failedStores: ["slow"] });
  });

  it("copies from another store when the copy of the first is gone", async () => {
    const rig = await createRig({ stores: THREE_STORES });
    const imageId = await importedImage(rig);
    await rig.client.imports.copy(imageId, { stores: ["slow"] });
    await rig.client.imports.wait(imageId);
    await rm(join(rig.directory, "fast", `${imageId}.1`));
    await makeSpare(rig);

    await rig.client.imports.copy(imageId, { stores: ["spare"] });
    await rig.client.imports.wait(imageId);

    const copy = await readFile(join(rig.directory, "spare", `${imageId}.3`));
    expect(copy.equals(BYTES)).toBe(true);
  });

  it("copies from another store when the copy of the first is damaged, and never publishes that", async () => {
    const rig = await createRig({ stores: THREE_STORES });
    const imageId = await importedImage(rig);
    await rig.client.imports.copy(imageId, { stores: ["slow"] });
    await rig.client.imports.wait(imageId);
    await damage(join(rig.directory, "fast", `${imageId}.1`));
    await makeSpare(rig);

    await rig.client.imports.copy(imageId, { stores: ["spare"] });
    await rig.client.imports.wait(imageId);

    const copy = await readFile(join(rig.directory, "spare", `${imageId}.3`));
    expect(copy.equals(BYTES)).toBe(true);
  });

  it("ends when every copy is damaged, names them, and continues once one is restored", async () => {
    const rig = await createRig({ stores: THREE_STORES });
    const imageId = await importedImage(rig);
    await rig.client.imports.copy(imageId, { stores: ["slow"] });
    await rig.client.imports.wait(imageId);
    await damage(join(rig.directory, "fast", `${imageId}.1`));
    await damage(join(rig.directory, "slow", `${imageId}.2`));
    await makeSpare(rig);

    await rig.client.imports.copy(imageId, { stores: ["spare"] });
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure).toMatchObject({
      code: "DigestMismatch",
      message: expect.stringMatching(/"fast": its crc32 is .*"slow": its crc32 is/) as unknown,
    });
    // One copy of each, and none of what is known to be damaged.
    expect(rig.calls.filter((call) => call === "storeImage spare")).toHaveLength(2);
    expect((await rig.client.images.show(imageId)).locations).toMatchObject([
      { store: "fast", damage: expect.stringContaining("crc32") as unknown },
      { store: "slow", damage: expect.stringContaining("crc32") as unknown },
    ]);

    await writeFile(join(rig.directory, "slow", `${imageId}.2`), BYTES);
    await rig.client.imports.copy(imageId, { stores: ["spare"] });
    await rig.client.imports.wait(imageId);
    expect((await rig.client.images.show(imageId)).locations).toMatchObject([
      { store: "fast", damage: expect.stringContaining("crc32") as unknown },
      { store: "slow", damage: null },
      { store: "spare", damage: null },
    ]);
  });

  it.for([
    { what: "damaged", spoil: damage, code: "DigestMismatch" },
    { what: "gone", spoil: (path: string) => rm(path), code: "CopyNotFound" },
  ])("fails permanently when its only copy is $what", async ({ spoil, code }, { rig }) => {
    const imageId = await importedImage(rig);
    await spoil(join(rig.directory, "fast", `${imageId}.1`));

    await rig.client.imports.copy(imageId, { stores: ["slow"] });
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toBe(code);
    expect(await rig.state(imageId)).toMatchObject({
      image: "active",
      locations: ["fast active"],
      leases: [],
      slow: [],
    });
  });

  it("is undone by the reconciler when it was terminated, which leaves the image active", async ({
    rig,
  }) => {
    rig.holdCopies("slow");
    const imageId = await importedImage(rig);
    await rig.client.imports.copy(imageId, { stores: ["slow"] });
    await rig.copying(imageId, "slow");
    await rig.run(imageId).terminate("lost");

    await vi.waitFor(
      async () => {
        await rig.reconcile();
        expect(await rig.state(imageId)).toMatchObject(IMPORTED);
      },
      { timeout: 40_000, interval: 1_000 },
    );
  });
});

/** Flips a bit of a published copy, whose size stays. */
async function damage(path: string): Promise<void> {
  const bytes = await readFile(path);
  bytes[1000] = (bytes[1000] ?? 0) ^ 1;
  await chmod(path, 0o640);
  await writeFile(path, bytes);
}

async function makeSpare(rig: ImportRig): Promise<void> {
  await mkdir(join(rig.directory, "spare"));
}
