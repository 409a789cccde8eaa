import { randomBytes, randomUUID } from "node:crypto";
import { WorkflowFailedError } from "@temporalio/client";
import { describe, expect, inject } from "vitest";
import { ImageImportClient } from "../../src/client/image-import-client.ts";
import { failureOf } from "../support/failure-of.ts";
import { failsWith } from "../support/faults.ts";
import { it } from "../support/import-rig.ts";

describe("a start that is refused", () => {
  it("completes its run with the refusal once the client has it", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));

    const refused = await failureOf(rig.client.imports.start(imageId, { stores: ["nowhere"] }));
    const waited = await failureOf(rig.client.imports.wait(imageId));

    expect(await rig.run(imageId).result()).toMatchObject({
      image_id: imageId,
      task_id: null,
      status: "refused",
      message: refused.message,
      failure: { code: "UnknownStore", step: "claim" },
    });
    expect([refused, waited]).toMatchObject([{ code: "UnknownStore" }, { code: "UnknownStore" }]);
    expect(waited.message).toBe(refused.message);
    expect(await rig.client.imports.status(imageId)).toMatchObject({ phase: "refused" });
  });

  it("is reported as refused, also without a catalogue and a worker", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    await failureOf(rig.client.imports.start(imageId, { stores: ["nowhere"] }));
    await rig.run(imageId).result();
    const client = await ImageImportClient.connect({
      temporal: { address: inject("temporalAddress"), namespace: rig.namespace },
    });
    try {
      const live = await client.imports.report(imageId);
      await rig.stopWorkers();
      const { state } = await client.imports.report(imageId);
      expect([live.state, state]).toEqual(["refused", "refused"]);
    } finally {
      await client.close();
    }
  });

  it("fails a run that was started plainly, in a category that does not count as a failure", async ({
    rig,
  }) => {
    const imageId = randomUUID();

    const failed: unknown = await rig.temporal.workflow
      .execute("importImage", {
        workflowId: `image-import/${imageId}`,
        taskQueue: "image-import",
        args: [{ image_id: imageId }],
      })
      .catch((error: unknown) => error);

    expect(failed).toBeInstanceOf(WorkflowFailedError);
    expect(failed).toMatchObject({ cause: { type: "ImageNotFound", category: "BENIGN" } });
    expect(await rig.client.imports.status(imageId)).toMatchObject({ phase: "refused" });
    expect(rig.logOf(imageId).map(({ msg, level }) => [msg, level])).toContainEqual([
      "Import ended",
      "info",
    ]);
  });

  it("fails the run if the service is the cause", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("claimImport", failsWith("BadTaskConfiguration", "no staging"));

    await failureOf(rig.client.imports.start(imageId));

    await expect(rig.run(imageId).result()).rejects.toMatchObject({
      cause: { type: "BadTaskConfiguration" },
    });
    expect(await rig.client.imports.status(imageId)).toMatchObject({ phase: "failed" });
  });
});
