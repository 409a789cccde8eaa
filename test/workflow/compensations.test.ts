import { randomBytes } from "node:crypto";
import { WorkflowFailedError } from "@temporalio/client";
import { ApplicationFailure } from "@temporalio/common";
import { describe, expect } from "vitest";
import { failureOf } from "../support/failure-of.ts";
import { failsWith, Hold, losesItsAnswer, type Fault } from "../support/faults.ts";
import { type ImportRig, it } from "../support/import-rig.ts";
import { BACK_TO_STAGED } from "../support/import-states.ts";

const savingFails = failsWith("StagedDataChanged", "it changed");

/** An import into two stores that fails when both have their copies. */
async function importThatFailsLate(
  rig: ImportRig,
  faults: Readonly<Record<string, Fault>> = {},
): Promise<string> {
  const imageId = await rig.stagedImage(randomBytes(1000));
  rig.fail("saveImage", savingFails);
  for (const [call, fault] of Object.entries(faults)) rig.fail(call, fault);
  await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
  return imageId;
}

/** The failure that a run ended with, as Temporal has it. */
async function runFailure(rig: ImportRig, imageId: string): Promise<ApplicationFailure> {
  const error: unknown = await rig
    .run(imageId)
    .result()
    .catch((reason: unknown) => reason);
  if (error instanceof WorkflowFailedError && error.cause instanceof ApplicationFailure) {
    return error.cause;
  }
  throw error;
}

describe("Compensations", () => {
  it("run in reverse order, those of the copies beside each other, the claim's last", async ({
    rig,
  }) => {
    const imageId = await importThatFailsLate(rig);
    await failureOf(rig.client.imports.wait(imageId));

    const [save, one, other, release] = rig.calls.slice(rig.calls.indexOf("saveImage"));
    expect([save, release]).toEqual(["saveImage", "releaseImport"]);
    expect([one, other].sort()).toEqual(["removeCopy fast", "removeCopy slow"]);
  });

  it("do not wait for the undo in a store that does not answer to undo another copy", async ({
    rig,
  }) => {
    const [first, second] = [new Hold(), new Hold()];
    rig.fail("removeCopy fast", first.before);
    rig.fail("removeCopy slow", second.before);

    const imageId = await importThatFailsLate(rig);
    await Promise.all([first.reached, second.reached]);
    first.release();
    second.release();
    await failureOf(rig.client.imports.wait(imageId));

    expect(await rig.state(imageId)).toMatchObject({ leases: [], fast: [], slow: [] });
  });

  it("include only the steps that were about to begin", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("verifyStaging", failsWith("UnsafeImage", "it refers to another file"));

    await rig.client.imports.start(imageId);
    await failureOf(rig.client.imports.wait(imageId));

    expect(rig.calls).toEqual(["claimImport", "verifyStaging", "releaseImport"]);
  });

  it("continue after one that fails, and name what was left behind", async ({ rig }) => {
    const imageId = await importThatFailsLate(rig, {
      "removeCopy slow": failsWith("PermissionDenied", "it is read-only"),
    });
    const failure = await runFailure(rig, imageId);

    expect(failure).toMatchObject({
      type: "CompensationIncomplete",
      message: 'Error: StagedDataChanged: save: it changed; left behind: copy in store "slow"',
      details: [[{ undo: 'copy in store "slow"', reason: "PermissionDenied: it is read-only" }]],
    });
    expect(await rig.state(imageId)).toEqual({
      ...BACK_TO_STAGED,
      task: [
        "failure",
        'Error: StagedDataChanged: save: it changed; left behind: copy in store "slow" (PermissionDenied: it is read-only)',
        null,
      ],
      leases: ["slow whole"],
      slow: ["@.1"],
    });
  });

  it("leave to the reconciler what one that fails leaves behind", async ({ rig }) => {
    const imageId = await importThatFailsLate(rig, {
      "removeCopy slow": failsWith("PermissionDenied", "it is read-only"),
    });
    await failureOf(rig.client.imports.wait(imageId));

    const reconciled: unknown = await rig.reconcile();

    expect(reconciled).toMatchObject({ claims: 0, copies: 1, deletions: 0, failures: [] });
    expect(await rig.state(imageId)).toMatchObject(BACK_TO_STAGED);
  });

  it("that fail make a cancelled import a failed one", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const storing = new Hold();
    rig.fail("storeImage fast", storing.after);
    rig.fail("removeCopy fast", failsWith("PermissionDenied", "it is read-only"));

    await rig.client.imports.start(imageId);
    await storing.reached;
    // The cancel alone ends the hold: a release beside it would let the import end first.
    const cancelled = await failureOf(rig.client.imports.cancel(imageId, { wait: true }));

    expect(cancelled.code).toBe("CompensationIncomplete");
    expect((await rig.client.imports.status(imageId)).phase).toBe("failed");
  });

  it.for([{ call: "removeCopy slow" }, { call: "removeCopy fast" }, { call: "releaseImport" }])(
    "try $call again when it fails for the moment",
    async ({ call }, { rig }) => {
      const imageId = await importThatFailsLate(rig, {
        [call]: failsWith("StoreUnavailable", "it is unreachable"),
      });
      const failure = await failureOf(rig.client.imports.wait(imageId));

      expect(failure.code).toBe("StagedDataChanged");
      expect(rig.calls.filter((each) => each === call)).toHaveLength(2);
      expect(await rig.state(imageId)).toMatchObject(BACK_TO_STAGED);
    },
  );

  it.for([{ call: "removeCopy slow" }, { call: "removeCopy fast" }, { call: "releaseImport" }])(
    "are not disturbed when the answer of $call is lost",
    async ({ call }, { rig }) => {
      const imageId = await importThatFailsLate(rig, { [call]: losesItsAnswer });
      await failureOf(rig.client.imports.wait(imageId));

      expect(rig.calls.filter((each) => each === call)).toHaveLength(2);
      expect(await rig.state(imageId)).toEqual({
        ...BACK_TO_STAGED,
        task: ["failure", "Error: StagedDataChanged: save: it changed", null],
      });
    },
  );
});
