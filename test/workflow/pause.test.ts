import { randomBytes } from "node:crypto";
import { readdir, readFile, stat } from "node:fs/promises";
import { join } from "node:path";
import { cancelled } from "@temporalio/activity";
import { describe, expect } from "vitest";
import { MARK_NAME } from "../../src/stores/store-mark.ts";
import { importWorkflowId } from "../../src/workflow/contract.ts";
import { failureOf } from "../support/failure-of.ts";
import { failsWith, Hold, type Fault } from "../support/faults.ts";
import { createRig, type ImportRig, it } from "../support/import-rig.ts";
import { MIB } from "../support/mib.ts";
import { PATIENCE } from "../support/patience.ts";

/** The file of the only copy of an image in the store `slow`, finished or not. */
async function copyInSlow(rig: ImportRig): Promise<{ name: string; ino: number; size: number }> {
  const names = await readdir(join(rig.directory, "slow"));
  const name = names.find((each) => each !== MARK_NAME) ?? "";
  const { ino, size } = await stat(join(rig.directory, "slow", name));
  return { name, ino, size };
}

describe("pauseImport", () => {
  it("stops in the middle of the bytes, keeps the part and undoes nothing", async ({ rig }) => {
    rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(8 * MIB));

    await rig.client.imports.start(imageId, { stores: ["slow"] });
    await rig.copying(imageId, "slow");
    await rig.client.imports.pause(imageId);
    await rig.paused(imageId);

    const part = await copyInSlow(rig);
    expect(part.size).toBeGreaterThan(0);
    expect(part.size).toBeLessThan(8 * MIB);
    // The bytes of the copy, from the step that was stopped.
    const { paused_at: pausedAt, stores } = await rig.client.imports.status(imageId);
    expect(Date.parse(pausedAt ?? "")).toBeLessThanOrEqual(Date.now());
    expect(stores["slow"]?.done_bytes).toBeGreaterThan(0);
    expect(stores["slow"]?.done_bytes).toBeLessThanOrEqual(part.size);
    expect(await rig.state(imageId)).toEqual({
      image: "importing",
      isClaimed: true,
      failedStores: [],
      task: ["processing", "", null],
      locations: [],
      leases: ["slow writing"],
      staging: ["@"],
      fast: [],
      slow: [expect.stringMatching(/^@\.1\.[0-9a-f]{8}\.part$/)],
    });
    expect(rig.calls).toEqual(["claimImport", "verifyStaging", "storeImage slow"]);
  });

  it("lets a short step finish, says so, and waits before the next one", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const saving = new Hold();
    rig.fail("saveImage", saving.before);

    await rig.client.imports.start(imageId);
    await saving.reached;
    await rig.client.imports.pause(imageId);
    await rig.paused(imageId, "pausing after this step");
    saving.release();
    await rig.paused(imageId);

    expect(await rig.client.imports.status(imageId)).toMatchObject({ phase: "activating" });
    expect(rig.calls).not.toContain("activateImage");
  });

  it.for([{ call: "verifyStaging" }, { call: "digestStaged" }])(
    "stops $call, which begins again on resume",
    async ({ call }, { rig }) => {
      const imageId = await rig.adoptedImage(randomBytes(1000));
      const step = new Hold();
      // It holds the step until it is stopped.
      rig.fail(call, () => step.before(cancelled));

      await rig.client.imports.start(imageId);
      await step.reached;
      await rig.client.imports.pause(imageId);
      await rig.paused(imageId);
      await rig.client.imports.resume(imageId);
      await rig.client.imports.wait(imageId);

      expect(rig.calls.filter((each) => each === call)).toHaveLength(2);
    },
  );

  it("stops the import before its first byte step when it comes during the acceptance", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const claiming = new Hold();
    rig.fail("claimImport", claiming.before);

    const started = rig.client.imports.start(imageId);
    await claiming.reached;
    await rig.client.imports.pause(imageId);
    claiming.release();
    await started;
    await rig.paused(imageId);

    expect(rig.calls).toEqual(["claimImport"]);
  });

  it("stops a step that waits for its next attempt at once", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const away = failsWith("StoreUnavailable", "it is unreachable");
    let isAway = true;
    const fault: Fault = async (step) => (isAway ? away(step) : step());
    rig.fail("storeImage fast", ...Array.from({ length: 100 }, () => fault));

    await rig.client.imports.start(imageId);
    await expect
      .poll(() => rig.calls.filter((call) => call === "storeImage fast").length, PATIENCE)
      .toBeGreaterThanOrEqual(3);
    await rig.client.imports.pause(imageId);
    await rig.paused(imageId);
    isAway = false;
    await rig.client.imports.resume(imageId);
    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome.status).toBe("active");
  });

  it("holds also when the step fails just then in a way that is otherwise tried again", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const step = new Hold();
    rig.fail("storeImage fast", (run) =>
      step.before(() => failsWith("StoreUnavailable", "its worker died")(run)),
    );

    await rig.client.imports.start(imageId);
    await step.reached;
    await rig.client.imports.pause(imageId);
    await rig.paused(imageId);
    await rig.client.imports.resume(imageId);
    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome.status).toBe("active");
  });

  it("does not keep an import whose step fails permanently", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const step = new Hold();
    rig.fail("storeImage fast", (run) =>
      step.before(() => failsWith("NoSpace", "it is full")(run)),
    );

    await rig.client.imports.start(imageId);
    await step.reached;
    // The request alone: the import may have failed before a client could read that it is paused.
    await rig.temporal.workflow.getHandle(importWorkflowId(imageId)).signal("pauseImport");
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure).toMatchObject({ code: "NoSpace", message: 'store "fast": it is full' });
    expect(await rig.client.imports.status(imageId)).toMatchObject({
      phase: "failed",
      pause: "running",
    });
  });

  it("comes too late once the activation has begun", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const activating = new Hold();
    rig.fail("activateImage", activating.before);

    await rig.client.imports.start(imageId);
    await activating.reached;
    await rig.client.imports.pause(imageId);
    activating.release();
    await rig.client.imports.wait(imageId);

    expect(await rig.client.imports.status(imageId)).toMatchObject({
      phase: "done",
      pause: "running",
    });
  });

  it("does not stop the deadline", async () => {
    // Long enough to reach the copy on a busy machine.
    const rig = await createRig({ import: { deadline: "20s" } });
    rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(8 * MIB));

    await rig.client.imports.start(imageId, { stores: ["slow"] });
    await rig.copying(imageId, "slow");
    await rig.client.imports.pause(imageId);
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toBe("ImportDeadlineExceeded");
    expect(await rig.state(imageId)).toMatchObject({ image: "uploading", leases: [], slow: [] });
  });

  it("does not keep an import from being cancelled", async ({ rig }) => {
    rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(8 * MIB));

    await rig.client.imports.start(imageId, { stores: ["slow"] });
    await rig.copying(imageId, "slow");
    await rig.client.imports.pause(imageId);
    await rig.paused(imageId);
    await rig.client.imports.cancel(imageId, { wait: true });

    expect(await rig.client.imports.status(imageId)).toMatchObject({
      phase: "cancelled",
      pause: "running",
    });
    expect(await rig.state(imageId)).toEqual({
      image: "uploading",
      isClaimed: false,
      failedStores: [],
      task: ["failure", 'Error: ImportCancelled: store "slow": it was cancelled', null],
      locations: [],
      leases: [],
      staging: ["@"],
      fast: [],
      slow: [],
    });
  });
});

describe("resumeImport", () => {
  it("resumes from the part", async ({ rig }) => {
    const slow = rig.holdCopies("slow");
    const bytes = randomBytes(4 * MIB);
    const imageId = await rig.stagedImage(bytes);

    await rig.client.imports.start(imageId, { stores: ["slow"] });
    await rig.copying(imageId, "slow");
    await rig.client.imports.pause(imageId);
    await rig.paused(imageId);
    const part = await copyInSlow(rig);
    slow.release();
    await rig.client.imports.resume(imageId);
    await rig.client.imports.wait(imageId);

    const copy = await copyInSlow(rig);
    expect([copy.name, copy.ino]).toEqual([`${imageId}.1`, part.ino]);
    const stored = await readFile(join(rig.directory, "slow", copy.name));
    expect(stored.equals(bytes)).toBe(true);
  });

  it("resumes from the part when all workers were stopped and started meanwhile", async ({
    rig,
  }) => {
    const slow = rig.holdCopies("slow");
    const bytes = randomBytes(4 * MIB);
    const imageId = await rig.stagedImage(bytes);

    await rig.client.imports.start(imageId, { stores: ["slow"] });
    await rig.copying(imageId, "slow");
    await rig.client.imports.pause(imageId);
    await rig.paused(imageId);
    const part = await copyInSlow(rig);
    await rig.stopWorkers();
    await rig.startWorkers();
    await rig.paused(imageId);
    slow.release();
    await rig.client.imports.resume(imageId);
    await rig.client.imports.wait(imageId);

    const copy = await copyInSlow(rig);
    expect([copy.name, copy.ino]).toEqual([`${imageId}.1`, part.ino]);
    const stored = await readFile(join(rig.directory, "slow", copy.name));
    expect(stored.equals(bytes)).toBe(true);
  });

  it("does not write again what another store had finished", async ({ rig }) => {
    const slow = rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(4 * MIB));

    await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
    await rig.copying(imageId, "slow");
    await rig.copied(imageId, "fast");
    await rig.client.imports.pause(imageId);
    await rig.paused(imageId);
    slow.release();
    await rig.client.imports.resume(imageId);
    await rig.client.imports.wait(imageId);

    expect(rig.calls.filter((call) => call === "storeImage fast")).toHaveLength(1);
    expect(rig.calls.filter((call) => call === "storeImage slow")).toHaveLength(2);
  });

  it("changes nothing when nothing is paused, and one is enough after two pauses", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const storing = new Hold();
    rig.fail("storeImage fast", storing.before);

    await rig.client.imports.start(imageId);
    await storing.reached;
    await rig.client.imports.resume(imageId);
    await rig.client.imports.pause(imageId);
    await rig.client.imports.pause(imageId);
    await rig.paused(imageId);
    await rig.client.imports.resume(imageId);
    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome.status).toBe("active");
  });

  it("may come before the step has stopped", async ({ rig }) => {
    const slow = rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(3 * MIB));

    await rig.client.imports.start(imageId, { stores: ["slow"] });
    await rig.copying(imageId, "slow");
    await rig.client.imports.pause(imageId);
    await rig.client.imports.resume(imageId);
    slow.release();
    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome.status).toBe("active");
  });
});
