import { execFile } from "node:child_process";
import { randomBytes, randomUUID } from "node:crypto";
import { promisify } from "node:util";
import { WorkflowFailedError } from "@temporalio/client";
import { ApplicationFailure } from "@temporalio/common";
import { describe, expect, inject } from "vitest";
import { failureOf } from "../support/failure-of.ts";
import { failsWith, Hold } from "../support/faults.ts";
import { type ImportRig, it } from "../support/import-rig.ts";

/** Runs a command of the `temporal` CLI to its end; what it answers is JSON. */
async function temporal(
  rig: ImportRig,
  ...command: readonly string[]
): Promise<{ readonly exitCode: number; readonly answer: unknown }> {
  const address = ["--address", inject("temporalAddress"), "--namespace", rig.namespace];
  const args = [...command, ...address, "--output", "json"];
  try {
    const { stdout } = await promisify(execFile)(inject("temporalCli"), args);
    return { exitCode: 0, answer: JSON.parse(stdout) as unknown };
  } catch (error) {
    const { code, stdout } = error as { readonly code: number; readonly stdout: string };
    return { exitCode: code, answer: JSON.parse(stdout) as unknown };
  }
}

/** The command that the documentation names, with this input. */
async function executeImport(rig: ImportRig, imageId: string, input: unknown) {
  return temporal(
    rig,
    ...["workflow", "execute", "--type", "importImage", "--task-queue", "image-import"],
    ...["--workflow-id", `image-import/${imageId}`, "--input", JSON.stringify(input)],
  );
}

/** The failure of a run that any Temporal client starts with this input. */
async function failureOfInput(
  rig: ImportRig,
  args: unknown[],
  workflowId = `image-import/${randomUUID()}`,
): Promise<ApplicationFailure> {
  const error: unknown = await rig.temporal.workflow
    .execute("importImage", { workflowId, taskQueue: "image-import", args })
    .catch((reason: unknown) => reason);
  if (error instanceof WorkflowFailedError && error.cause instanceof ApplicationFailure) {
    return error.cause;
  }
  throw error;
}

describe("`temporal workflow execute --type importImage`", () => {
  it("imports the image and answers with the outcome", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));

    const { exitCode, answer } = await executeImport(rig, imageId, {
      image_id: imageId,
      stores: ["fast", "slow"],
    });

    expect(exitCode).toBe(0);
    expect(answer).toMatchObject({
      status: "COMPLETED",
      result: { image_id: imageId, status: "active", size: 1000, stores: ["fast", "slow"] },
    });
    expect(await rig.state(imageId)).toMatchObject({
      image: "active",
      task: ["success", "", { image_id: imageId }],
      locations: ["fast active", "slow active"],
    });
  });

  it("fails with the type and the text of the failure", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));

    const { exitCode, answer } = await executeImport(rig, imageId, { image_id: imageId });

    expect(exitCode).toBe(1);
    expect(answer).toMatchObject({
      status: "FAILED",
      closeEvent: {
        workflowExecutionFailedEventAttributes: {
          failure: {
            message: 'store "fast": it is full',
            applicationFailureInfo: { type: "NoSpace", nonRetryable: true },
          },
        },
      },
    });
  });

  it("is refused by Temporal while an import of the image runs", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const storing = new Hold();
    rig.fail("storeImage fast", storing.before);
    await rig.client.imports.start(imageId);
    await storing.reached;

    const second = rig.temporal.workflow.start("importImage", {
      workflowId: `image-import/${imageId}`,
      taskQueue: "image-import",
      args: [{ image_id: imageId }],
    });

    await expect(second).rejects.toThrow("Workflow execution already started");
    storing.release();
    await rig.client.imports.wait(imageId);
  });
});

describe("importImage() that is started plainly", () => {
  it("can be followed and steered by the client, and refuses its starts", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const storing = new Hold();
    rig.fail("storeImage fast", storing.before);
    await rig.temporal.workflow.start("importImage", {
      workflowId: `image-import/${imageId}`,
      taskQueue: "image-import",
      args: [{ image_id: imageId }],
    });
    await storing.reached;

    const refused = await failureOf(rig.client.imports.start(imageId));
    await rig.client.imports.cancel(imageId, { wait: true });

    expect(refused.code).toBe("ImageBusy");
    expect(await rig.state(imageId)).toMatchObject({ image: "uploading", isClaimed: false });
  });

  it("refuses to run under another workflow id, which would go around the lock", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));

    const failure = await failureOfInput(rig, [{ image_id: imageId }], "my-import");

    expect(failure).toMatchObject({
      type: "BadRequest",
      message: `An import of image "${imageId}" must run under the workflow id "image-import/${imageId}", not "my-import"`,
    });
    expect(await rig.state(imageId)).toMatchObject({ image: "uploading", task: null });
  });

  it("does not release the claim of the import that really holds the image", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const storing = new Hold();
    rig.fail("storeImage fast", storing.before);
    await rig.client.imports.start(imageId);
    await storing.reached;

    await failureOfInput(rig, [{ image_id: imageId }], "my-import");

    expect(await rig.state(imageId)).toMatchObject({ image: "importing", isClaimed: true });
    storing.release();
    await rig.client.imports.wait(imageId);
  });

  const NOT_AN_OBJECT = 'An import request must be one object such as {"image_id": "<uuid>"}';

  it.for([
    { what: "nothing", args: [], message: NOT_AN_OBJECT },
    { what: "null", args: [null], message: NOT_AN_OBJECT },
    { what: "a number", args: [7], message: NOT_AN_OBJECT },
    { what: "a text", args: ["6d2f0c1e"], message: NOT_AN_OBJECT },
    { what: "a list", args: [[{}]], message: NOT_AN_OBJECT },
    {
      what: "an empty object",
      args: [{}],
      message: "Cannot import: image_id must be a UUID, not absent",
    },
    {
      what: "an object full of mistakes",
      args: [{ image_id: 7, method: "copy", stores: [], uri: "", request_id: {}, length: 1 }],
      message:
        'Cannot import: "length" is not a field of an import (image_id, method, uri, stores, detect_format, all_stores, all_stores_must_succeed, checksum, size, takes_over, source_failure, roles, transforms, user_id, expected_owner, direct_upload, api_request, request_id); image_id must be a UUID, not 7; method must be glance-direct or web-download or copy-image, not "copy"; uri must be a non-empty string, not ""; stores must be a list of store names, not empty, none twice, not []; request_id must be a non-empty string, not {}',
    },
  ])("refuses $what once, and never tries it again", async ({ args, message }, { rig }) => {
    const failure = await failureOfInput(rig, args);

    expect(failure).toMatchObject({ type: "BadRequest", message, nonRetryable: true });
    expect(rig.calls).toEqual(["claimImport", "releaseImport"]);
  });
});
