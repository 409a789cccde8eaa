import { randomBytes } from "node:crypto";
import { describe, expect, vi } from "vitest";
import { ImportError } from "../../src/domain/import-failure.ts";
import { failureOf } from "../support/failure-of.ts";
import { failsWith, Hold } from "../support/faults.ts";
import { type ImportRig, it } from "../support/import-rig.ts";
import { BACK_TO_STAGED, IMPORTED } from "../support/import-states.ts";
import { MIB } from "../support/mib.ts";
import { PATIENCE } from "../support/patience.ts";

/**
 * Cancels an import, and returns the answer of its worker.
 *
 * @throws when the worker is too busy to answer in time
 */
async function answerToCancel(rig: ImportRig, imageId: string): Promise<unknown> {
  const isTakenUp = await rig.client.imports
    .cancel(imageId)
    .catch((error: unknown) => (error instanceof ImportError ? error.code : error));
  if (isTakenUp === false) throw new Error("The worker has not answered in time");
  return isTakenUp === true ? "taken up" : isTakenUp;
}

describe("importImage() that is cancelled", () => {
  it("touches nothing when that comes before its first step", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    await rig.stopWorkers();
    const run = await rig.temporal.workflow.start("importImage", {
      workflowId: `image-import/${imageId}`,
      taskQueue: "image-import",
      args: [{ image_id: imageId }],
    });

    await run.cancel();
    await rig.startWorkers();
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toBe("ImportCancelled");
    expect(rig.calls).toEqual(["releaseImport"]);
    expect(await rig.state(imageId)).toEqual({ ...BACK_TO_STAGED, task: null });
  });

  it.for([
    { call: "claimImport", where: "verify", next: "verifyStaging" },
    { call: "saveImage", where: "confirm", next: "confirmCopies" },
  ])(
    "lets $call finish, undoes it, and does not begin $next",
    async ({ call, where, next }, { rig }) => {
      const imageId = await rig.stagedImage(randomBytes(1000));
      const step = new Hold();
      rig.fail(call, step.before);

      const started = rig.client.imports.start(imageId);
      await step.reached;
      await rig.client.imports.cancel(imageId);
      step.release();
      await started;
      const failure = await failureOf(rig.client.imports.wait(imageId));

      expect(failure.code).toBe("ImportCancelled");
      expect(rig.calls).not.toContain(next);
      expect(await rig.state(imageId)).toEqual({
        ...BACK_TO_STAGED,
        task: ["failure", `Error: ImportCancelled: ${where}: it was cancelled`, null],
      });
    },
  );

  it.for([{ call: "verifyStaging" }, { call: "digestStaged" }, { call: "storeImage fast" }])(
    "stops $call and undoes everything",
    async ({ call }, { rig }) => {
      const imageId = await rig.adoptedImage(randomBytes(1000));
      // It holds the step until the cancel arrives.
      const step = new Hold();
      rig.fail(call, step.before);

      await rig.client.imports.start(imageId);
      await step.reached;
      await rig.client.imports.cancel(imageId);
      const failure = await failureOf(rig.client.imports.wait(imageId));

      expect(failure.code).toBe("ImportCancelled");
      expect(rig.calls).not.toContain("saveImage");
      expect(await rig.state(imageId)).toEqual({
        ...BACK_TO_STAGED,
        task: [
          "failure",
          expect.stringMatching(/^Error: ImportCancelled: .*: it was cancelled$/),
          null,
        ],
      });
    },
  );

  it.for([
    { call: "claimImport" },
    { call: "verifyStaging" },
    { call: "digestStaged" },
    { call: "storeImage fast" },
    { call: "saveImage" },
  ])(
    "undoes everything when that comes just after $call took effect",
    async ({ call }, { rig }) => {
      const imageId = await rig.adoptedImage(randomBytes(1000));
      const step = new Hold();
      rig.fail(call, step.after);

      const started = rig.client.imports.start(imageId);
      await step.reached;
      await rig.client.imports.cancel(imageId);
      step.release();
      await started;
      const failure = await failureOf(rig.client.imports.wait(imageId));

      expect(failure.code).toBe("ImportCancelled");
      expect(rig.calls).not.toContain("activateImage");
      expect(await rig.state(imageId)).toEqual({
        ...BACK_TO_STAGED,
        task: [
          "failure",
          expect.stringMatching(/^Error: ImportCancelled: .*: it was cancelled$/),
          null,
        ],
      });
    },
  );

  it("stops in the middle of the bytes and leaves no part", async ({ rig }) => {
    rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(8 * MIB));

    await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
    await rig.copied(imageId, "fast");
    await rig.copying(imageId, "slow");
    await rig.client.imports.cancel(imageId, { wait: true });

    expect((await rig.run(imageId).describe()).status.name).toBe("CANCELLED");
    expect(await rig.state(imageId)).toEqual({
      ...BACK_TO_STAGED,
      task: ["failure", 'Error: ImportCancelled: store "slow": it was cancelled', null],
    });
  });

  it("ends at once when that comes while a failed step waits for its next attempt", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const away = failsWith("StoreUnavailable", "it is unreachable");
    rig.fail("storeImage fast", ...Array.from({ length: 100 }, () => away));

    await rig.client.imports.start(imageId);
    await expect
      .poll(() => rig.calls.filter((call) => call === "storeImage fast").length, PATIENCE)
      .toBeGreaterThanOrEqual(3);
    await rig.client.imports.cancel(imageId, { wait: true });

    expect((await rig.run(imageId).describe()).status.name).toBe("CANCELLED");
    expect(await rig.state(imageId)).toMatchObject(BACK_TO_STAGED);
  });

  it("ends cancelled also when the step that was running fails in a way that is otherwise tried again", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const step = new Hold();
    rig.fail("storeImage fast", (run) =>
      step.before(() => failsWith("StoreUnavailable", "it is unreachable")(run)),
    );

    await rig.client.imports.start(imageId);
    await step.reached;
    await rig.client.imports.cancel(imageId, { wait: true });

    expect((await rig.run(imageId).describe()).status.name).toBe("CANCELLED");
    expect((await rig.client.imports.status(imageId)).stores).toMatchObject({
      fast: { state: "stopped" },
    });
    expect(await rig.state(imageId)).toEqual({
      ...BACK_TO_STAGED,
      task: ["failure", 'Error: ImportCancelled: store "fast": it was cancelled', null],
    });
  });

  it("ends failed when the step that was running fails permanently, and reports that in its status", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const step = new Hold();
    rig.fail("storeImage fast", (run) =>
      step.before(() => failsWith("NoSpace", "it is full")(run)),
    );

    await rig.client.imports.start(imageId);
    await step.reached;
    await rig.client.imports.cancel(imageId);
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure).toMatchObject({ code: "NoSpace", message: 'store "fast": it is full' });
    expect((await rig.client.imports.status(imageId)).phase).toBe("failed");
  });

  it.for([
    { call: "activateImage", hold: "before", answer: "taken up" },
    { call: "activateImage", hold: "after", answer: "taken up" },
    { call: "unstageImage", hold: "before", answer: "ImportEnded" },
    { call: "unstageImage", hold: "after", answer: "ImportEnded" },
  ] as const)("completes when that comes $hold the work of $call", async (each, { rig }) => {
    const { call, hold, answer } = each;
    const imageId = await rig.stagedImage(randomBytes(1000));
    const step = new Hold();
    rig.fail(call, step[hold]);

    await rig.client.imports.start(imageId);
    await step.reached;
    const cancelled = await vi.waitFor(() => answerToCancel(rig, imageId), PATIENCE);
    step.release();
    const outcome = await rig.client.imports.wait(imageId);

    expect(cancelled).toBe(answer);
    expect(outcome.status).toBe("active");
    expect((await rig.client.imports.status(imageId)).phase).toBe("done");
    expect(await rig.state(imageId)).toEqual({
      ...IMPORTED,
      task: ["success", "", { image_id: imageId }],
    });
  });

  it("changes nothing when that comes while an earlier failure is being undone", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const undoing = new Hold();
    rig.fail("saveImage", failsWith("StagedDataChanged", "it changed"));
    rig.fail("removeCopy fast", undoing.before);

    await rig.client.imports.start(imageId);
    await undoing.reached;
    await rig.client.imports.cancel(imageId);
    undoing.release();
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure).toMatchObject({ code: "StagedDataChanged", message: "save: it changed" });
    expect(await rig.state(imageId)).toEqual({
      ...BACK_TO_STAGED,
      task: ["failure", "Error: StagedDataChanged: save: it changed", null],
    });
  });
});
