import { randomBytes, randomUUID } from "node:crypto";
import { utimes, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { cancelled } from "@temporalio/activity";
import { sql } from "drizzle-orm";
import { describe, expect } from "vitest";
import { newPartName } from "../../src/bytes/part-name.ts";
import { beginCopyRemoval, beginDeletion } from "../../src/db/deletion-records.ts";
import type { Reconciled } from "../../src/workflow/contract.ts";
import { failureOf } from "../support/failure-of.ts";
import { failsWith, Hold } from "../support/faults.ts";
import { type ImportRig, it } from "../support/import-rig.ts";
import { BACK_TO_STAGED } from "../support/import-states.ts";
import { MIB } from "../support/mib.ts";
import { PATIENCE } from "../support/patience.ts";

const ABANDONED = "Error: ImportAbandoned: its run was ended without an undo";

/** Runs the reconciler as the Schedule does, and says what it undid, without the sweeps. */
async function reconcile(rig: ImportRig) {
  const { claims, copies, deletions, failures } = (await rig.reconcile()) as Reconciled;
  return { claims, copies, deletions, failures };
}

/** An image that is active in both stores. */
async function activeTwice(rig: ImportRig): Promise<string> {
  const imageId = await rig.stagedImage(randomBytes(1000));
  await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
  await rig.client.imports.wait(imageId);
  return imageId;
}

/** Makes a deletion of an image or of a copy look as if it had begun an hour ago. */
async function age(rig: ImportRig, imageId: string): Promise<void> {
  await rig.database.query((db) =>
    db.execute(sql`UPDATE images SET updated_at = now() - interval '1 hour' WHERE id = ${imageId}`),
  );
}

describe("reconcileImports()", () => {
  it("undoes an import that was terminated in the middle of its bytes", async ({ rig }) => {
    rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(8 * MIB));
    await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
    await rig.copied(imageId, "fast");
    await rig.copying(imageId, "slow");
    await rig.run(imageId).terminate();

    const reconciled = await reconcile(rig);

    expect(reconciled).toEqual({ claims: 1, copies: 2, deletions: 0, failures: [] });
    expect(await rig.state(imageId)).toEqual({
      ...BACK_TO_STAGED,
      task: ["failure", ABANDONED, null],
    });
  });

  it("undoes an import that was terminated when all its copies were published", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const saving = new Hold();
    rig.fail("saveImage", saving.after);
    await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
    await saving.reached;
    await rig.run(imageId).terminate();
    saving.release();

    const reconciled = await reconcile(rig);

    expect(reconciled).toEqual({ claims: 1, copies: 2, deletions: 0, failures: [] });
    expect(await rig.state(imageId)).toEqual({
      ...BACK_TO_STAGED,
      task: ["failure", ABANDONED, null],
    });
  });

  it("leaves what a terminated import has published", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const activating = new Hold();
    rig.fail("activateImage", activating.after);
    await rig.client.imports.start(imageId);
    await activating.reached;
    await rig.run(imageId).terminate();
    activating.release();

    const reconciled = await reconcile(rig);

    expect(reconciled).toEqual({ claims: 0, copies: 0, deletions: 0, failures: [] });
    expect(await rig.state(imageId)).toEqual({
      ...BACK_TO_STAGED,
      image: "active",
      task: ["success", "", { image_id: imageId }],
      locations: ["fast active"],
      // The sweep of the node removes the upload of a published image.
      staging: [],
      fast: ["@.1"],
    });
  });

  it("leaves alone an import that is paused", async ({ rig }) => {
    const slow = rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(3 * MIB));
    await rig.client.imports.start(imageId, { stores: ["slow"] });
    await rig.copying(imageId, "slow");
    await rig.client.imports.pause(imageId);
    await rig.paused(imageId);

    const reconciled = await reconcile(rig);

    expect(reconciled).toEqual({ claims: 0, copies: 0, deletions: 0, failures: [] });
    slow.release();
    await rig.client.imports.resume(imageId);
    expect(await rig.client.imports.wait(imageId)).toMatchObject({ status: "active" });
  });

  it("says what it could not undo, and undoes it the next time", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const saving = new Hold();
    rig.fail("saveImage", saving.before);
    await rig.client.imports.start(imageId);
    await saving.reached;
    await rig.run(imageId).terminate();
    saving.release();
    rig.fail("removeCopy fast", failsWith("PermissionDenied", "it is read-only"));

    const first = await reconcile(rig);
    const second = await reconcile(rig);

    expect([first, second]).toEqual([
      {
        claims: 1,
        copies: 0,
        deletions: 0,
        failures: [`copy of ${imageId} in fast: PermissionDenied: it is read-only`],
      },
      { claims: 0, copies: 1, deletions: 0, failures: [] },
    ]);
    expect(await rig.state(imageId)).toMatchObject(BACK_TO_STAGED);
  });

  it("removes what an earlier import left while a later one runs, and nothing of the later one", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const [first, second] = [new Hold(), new Hold()];
    rig.fail("saveImage", first.before, second.before);
    await rig.client.imports.start(imageId);
    await first.reached;
    await rig.run(imageId).terminate();
    first.release();
    await rig.client.imports.start(imageId);
    await second.reached;

    const reconciled = await reconcile(rig);
    second.release();
    await rig.client.imports.wait(imageId);

    expect(reconciled).toEqual({ claims: 0, copies: 1, deletions: 0, failures: [] });
    expect(await rig.state(imageId)).toEqual({
      ...BACK_TO_STAGED,
      image: "active",
      task: ["success", "", { image_id: imageId }],
      locations: ["fast active"],
      staging: [],
      fast: ["@.2"],
    });
  });

  it("continues with a deletion whose workflow was lost", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);
    await rig.database.query((db) =>
      db.execute(
        sql`UPDATE images SET status = 'pending_delete', updated_at = now() - interval '1 hour' WHERE id = ${imageId}`,
      ),
    );
    await rig.database.query((db) =>
      db.execute(
        sql`UPDATE image_locations SET status = 'pending_delete' WHERE image_id = ${imageId}`,
      ),
    );

    const reconciled = await reconcile(rig);

    expect(reconciled).toEqual({ claims: 0, copies: 0, deletions: 1, failures: [] });
    await expect
      .poll(() => rig.state(imageId), PATIENCE)
      .toMatchObject({ image: "deleted", locations: [], fast: [] });
  });

  it("continues with the removal of a copy whose workflow was never started", async ({ rig }) => {
    const imageId = await activeTwice(rig);
    await rig.database.transaction((db) => beginCopyRemoval(db, imageId, "slow"));
    await age(rig, imageId);

    const reconciled = await reconcile(rig);

    expect(reconciled).toEqual({ claims: 0, copies: 0, deletions: 1, failures: [] });
    await expect
      .poll(() => rig.state(imageId), PATIENCE)
      .toMatchObject({ image: "active", locations: ["fast active"], fast: ["@.1"], slow: [] });
  });

  it("continues with the removal of a copy whose workflow was terminated", async ({ rig }) => {
    const imageId = await activeTwice(rig);
    const removing = new Hold();
    rig.fail("removePublishedCopy slow", () => removing.before(cancelled));
    await rig.client.images.removeCopy(imageId, "slow", 0);
    await removing.reached;
    const removal = rig.temporal.workflow.getHandle(`image-remove-copy/${imageId}/slow/1`);
    await removal.terminate();
    await age(rig, imageId);

    const reconciled = await reconcile(rig);
    await removal.result();
    removing.release();

    expect(reconciled).toEqual({ claims: 0, copies: 0, deletions: 1, failures: [] });
    expect(await rig.state(imageId)).toMatchObject({ locations: ["fast active"], slow: [] });
  });

  it("leaves the removal of a copy to its workflow that runs", async ({ rig }) => {
    const imageId = await activeTwice(rig);
    const removing = new Hold();
    rig.fail("removePublishedCopy slow", removing.before);
    const removal = rig.client.images.removeCopy(imageId, "slow");
    await removing.reached;
    await age(rig, imageId);

    const reconciled = await reconcile(rig);
    removing.release();

    expect([reconciled, await removal]).toEqual([
      { claims: 0, copies: 0, deletions: 1, failures: [] },
      "removed",
    ]);
    expect(rig.calls.filter((call) => call === "removePublishedCopy slow")).toHaveLength(1);
  });

  it("sweeps the staging volumes", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    await rig.database.query((db) =>
      db.execute(sql`UPDATE staged_files SET expires_at = now() - interval '1 second'`),
    );

    await reconcile(rig);

    expect(await rig.state(imageId)).toMatchObject({ image: "queued", staging: [] });
  });

  it("bounds every step that it retries", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const storing = new Hold();
    rig.fail("storeImage fast", () => storing.before(cancelled));
    await rig.client.imports.start(imageId);
    await storing.reached;
    await rig.run(imageId).terminate();
    await rig.reconcile();

    const { events } = await rig.temporal.workflow.getHandle("reconcile").fetchHistory();

    const scheduled = (events ?? []).flatMap(
      ({ activityTaskScheduledEventAttributes: step }) => step ?? [],
    );
    const bounded = scheduled.filter(
      ({ scheduleToCloseTimeout: bound }) => Number(bound?.seconds ?? 0) > 0,
    );
    const names = bounded.map(({ activityType }) => activityType?.name);
    expect(names).toEqual(expect.arrayContaining(["releaseImport", "expireTasks"]));
    expect(bounded).toHaveLength(scheduled.length - 1);
  });

  it("finds nothing when all imports have ended and undone their steps", async ({ rig }) => {
    const [imported, failed] = [
      await rig.stagedImage(randomBytes(1000)),
      await rig.stagedImage(randomBytes(1000)),
    ];
    await rig.client.imports.start(imported);
    await rig.client.imports.wait(imported);
    rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));
    await rig.client.imports.start(failed);
    await failureOf(rig.client.imports.wait(failed));

    const reconciled = await reconcile(rig);

    expect(reconciled).toEqual({ claims: 0, copies: 0, deletions: 0, failures: [] });
  });
});

describe("reconcileImports() that a user asks for", () => {
  it("reports what it did, after it was found without a change", async ({ rig }) => {
    const expired = await rig.stagedImage(randomBytes(1000));
    await rig.database.query((db) =>
      db.execute(sql`UPDATE staged_files SET expires_at = now() - interval '1 second'`),
    );
    const failed = await rig.stagedImage(randomBytes(1000));
    rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));
    await rig.client.imports.start(failed);
    await failureOf(rig.client.imports.wait(failed));
    await rig.database.query((db) =>
      db.execute(sql`UPDATE tasks SET expires_at = now() - interval '1 second'`),
    );
    const imageId = await rig.stagedImage(randomBytes(1000));
    const saving = new Hold();
    rig.fail("saveImage", saving.after);
    await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
    await saving.reached;
    await rig.run(imageId).terminate();
    saving.release();
    const part = newPartName(randomUUID(), 3);
    for (const directory of ["staging", "slow"]) await oldFile(rig, directory, part);
    const [node] = (await rig.leases(imageId)).map((lease) => lease.node);
    const before = [await rig.state(imageId), await rig.state(expired)];

    const found = await rig.client.admin.findLeftovers();
    const between = [await rig.state(imageId), await rig.state(expired)];
    const reconciled = await rig.client.admin.reconcile();
    const after = await rig.client.admin.findLeftovers();

    const leftover = { image_id: null, store: null, node, name: null };
    expect(between).toEqual(before);
    expect(found).toEqual({
      leftovers: expect.arrayContaining([
        { ...leftover, kind: "claim", image_id: imageId, node: null },
        { ...leftover, kind: "copy", image_id: imageId, store: "fast" },
        { ...leftover, kind: "copy", image_id: imageId, store: "slow" },
        { ...leftover, kind: "staged", image_id: expired, name: "upload" },
        { ...leftover, kind: "part", name: part },
        { ...leftover, kind: "part", store: "slow", name: part },
      ]) as unknown,
      left_out: 0,
      expired_tasks: 1,
      failures: [],
    });
    expect(found.leftovers).toHaveLength(6);
    expect(reconciled).toEqual({
      ...{ claims: 1, copies: 2, deletions: 0, staged: 1, parts: 2, tasks: 1 },
      failures: [],
    });
    expect(after).toEqual({ leftovers: [], left_out: 0, expired_tasks: 0, failures: [] });
  });

  it("names deletions of images and of copies that did not end", async ({ rig }) => {
    const [deleted, kept] = [await activeTwice(rig), await activeTwice(rig)];
    await rig.database.transaction((db) => beginDeletion(db, deleted));
    await rig.database.transaction((db) => beginCopyRemoval(db, kept, "slow"));
    await age(rig, deleted);
    await age(rig, kept);

    const { leftovers } = await rig.client.admin.findLeftovers();

    expect(leftovers).toMatchObject([
      { kind: "deletion", image_id: deleted, store: null },
      { kind: "copy_removal", image_id: kept, store: "slow" },
    ]);
  });

  it("fails when no worker has answered in time, and ends later", async ({ rig }) => {
    await rig.stopWorkers();

    const failure = await failureOf(rig.client.admin.reconcile(100));
    await rig.startWorkers();

    expect(failure.code).toBe("NotAcceptedYet");
    expect(await rig.client.admin.reconcile()).toMatchObject({ failures: [] });
  });

  it("reports a staging volume without a worker", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    await rig.database.query((db) =>
      db.execute(sql`UPDATE leases SET node = 'gone' WHERE image_id = ${imageId}`),
    );

    const { failures } = await rig.client.admin.findLeftovers();

    expect(failures).toEqual([expect.stringMatching(/^sweep of gone: /)]);
  });
});

/** A private file that looks as if it had last been written a minute ago. */
async function oldFile(rig: ImportRig, directory: string, name: string): Promise<void> {
  const path = join(rig.directory, directory, name);
  await writeFile(path, "part");
  const then = new Date(Date.now() - 60_000);
  await utimes(path, then, then);
}

describe("importImage() after a run that was terminated", () => {
  it("takes over the claim at once and imports the image", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const storing = new Hold();
    rig.fail("storeImage fast", () => storing.before(cancelled));
    const first = await rig.client.imports.start(imageId);
    await storing.reached;
    await rig.run(imageId).terminate();

    const second = await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);

    const abandoned = await rig.client.admin.showTask(first.task_id);
    expect([abandoned.status, abandoned.message]).toEqual(["failure", ABANDONED]);
    expect(second.task_id).not.toBe(first.task_id);
    expect(await rig.state(imageId)).toMatchObject({
      image: "active",
      locations: ["fast active"],
      fast: ["@.2"],
    });
  });

  it("keeps its claim when the terminated run's own claim comes late", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const [claiming, storing] = [new Hold(), new Hold()];
    const late: Promise<unknown>[] = [];
    rig.fail("claimImport", (step) => {
      late.push(claiming.standsStill(step));
      return Promise.all(late);
    });
    rig.fail("storeImage fast", storing.before);
    await rig.temporal.workflow.start("importImage", {
      workflowId: `image-import/${imageId}`,
      taskQueue: "image-import",
      args: [{ image_id: imageId }],
    });
    await claiming.reached;
    await rig.run(imageId).terminate();
    const { task_id: taskId } = await rig.client.imports.start(imageId);
    await storing.reached;

    claiming.release();
    const failure = await failureOf(Promise.all(late));
    storing.release();
    const outcome = await rig.client.imports.wait(imageId);

    expect(failure.code).toBe("ImportLost");
    expect(outcome.task_id).toBe(taskId);
    expect(await rig.state(imageId)).toMatchObject({
      task: ["success", "", { image_id: imageId }],
      locations: ["fast active"],
      fast: ["@.1"],
    });
  });
});
