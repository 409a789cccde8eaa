import { randomBytes } from "node:crypto";
import { WorkflowUpdateFailedError } from "@temporalio/client";
import { describe, expect } from "vitest";
import { Hold } from "../support/faults.ts";
import { type ImportRig, it } from "../support/import-rig.ts";
import { MIB } from "../support/mib.ts";

/** An import that runs until it is released. */
async function runningImport(rig: ImportRig): Promise<{ imageId: string; release: () => void }> {
  const imageId = await rig.stagedImage(randomBytes(1000));
  const storing = new Hold();
  rig.fail("storeImage fast", storing.before);
  await rig.client.imports.start(imageId);
  await storing.reached;
  return {
    imageId,
    release: () => {
      storing.release();
    },
  };
}

async function detailsOf(rig: ImportRig, imageId: string): Promise<string> {
  const { currentDetails } = await rig
    .run(imageId)
    .query<{ readonly currentDetails: string }>("__temporal_workflow_metadata");
  return currentDetails;
}

/** The number of failed workflow tasks of the newest import of an image. */
async function failedTasks(rig: ImportRig, imageId: string): Promise<number> {
  const { events } = await rig.run(imageId).fetchHistory();
  return (events ?? []).filter((event) => event.workflowTaskFailedEventAttributes != null).length;
}

describe("an update with wrong arguments", () => {
  it.for([
    {
      update: "dropStore",
      args: [],
      message:
        "Cannot drop store nothing: dropStore takes one argument, the name of a store, which is a string",
    },
    {
      update: "dropStore",
      args: [{ store: "fast" }],
      message:
        'Cannot drop store {"store":"fast"}: dropStore takes one argument, the name of a store, which is a string',
    },
    {
      update: "dropStore",
      args: ["fast", "slow"],
      message:
        'Cannot drop store "fast", "slow": dropStore takes one argument, the name of a store, which is a string',
    },
    {
      update: "acceptImport",
      args: [7],
      message:
        "Cannot answer request 7: acceptImport takes one argument, the id of the request, which is a string",
    },
  ])(
    "is rejected with the value and the rule: $update $args",
    async ({ update, args, message }, { rig }) => {
      const { imageId, release } = await runningImport(rig);

      const failure: unknown = await rig
        .run(imageId)
        .executeUpdate(update, { args: args as [] })
        .catch((error: unknown) => error);
      release();
      await rig.client.imports.wait(imageId);

      expect(failure).toBeInstanceOf(WorkflowUpdateFailedError);
      expect(failure).toMatchObject({ cause: { type: "BadRequest", message } });
    },
  );
});

describe("a query with wrong arguments", () => {
  it("is answered with the value and the rule", async ({ rig }) => {
    const { imageId, release } = await runningImport(rig);

    const failing = rig.run(imageId).query("importStatus", "fast");

    await expect(failing).rejects.toThrow(
      'Cannot answer importStatus with "fast": the query takes no argument',
    );
    expect(await rig.run(imageId).query("importStatus", null)).toMatchObject({ phase: "storing" });
    release();
    await rig.client.imports.wait(imageId);
  });
});

describe("a signal with wrong arguments", () => {
  it("has its effect, and the current details say that the arguments have none", async ({
    rig,
  }) => {
    const slow = rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(3 * MIB));
    await rig.client.imports.start(imageId, { stores: ["slow"] });
    await rig.copying(imageId, "slow");

    await rig.run(imageId).signal("pauseImport", "slow", 7);
    await rig.paused(imageId);
    const details = await detailsOf(rig, imageId);
    slow.release();
    await rig.client.imports.resume(imageId);
    await rig.client.imports.wait(imageId);

    expect(details.split("\n\n")).toContain(
      '- Ignored the arguments "slow", 7 of pauseImport: it takes none, and acts on the complete import',
    );
  });

  it("does not stop the import if it cannot be read", async ({ rig }) => {
    const { imageId, release } = await runningImport(rig);
    const unreadable = {
      metadata: { encoding: Buffer.from("binary/unknown") },
      data: Buffer.from("{"),
    };

    await rig.temporal.workflowService.signalWorkflowExecution({
      namespace: rig.namespace,
      workflowExecution: { workflowId: rig.run(imageId).workflowId },
      signalName: "resumeImport",
      input: { payloads: [unreadable] },
    });
    const status = await rig.run(imageId).query("importStatus");
    release();
    await rig.client.imports.wait(imageId);

    expect(status).toMatchObject({ phase: "storing" });
    expect(await failedTasks(rig, imageId)).toBe(0);
  });
});
