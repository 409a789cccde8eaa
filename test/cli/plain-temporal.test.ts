import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { describe, expect, inject, it, vi } from "vitest";
import { SharedStack } from "../support/shared-stack.ts";
import { PATIENCE } from "../support/patience.ts";

const stack = new SharedStack();

/** Runs the `temporal` command, as a user does who has no client of this project. */
async function temporal(...args: readonly string[]): Promise<string> {
  const address = ["--address", stack.file.temporal_address];
  return (await promisify(execFile)(inject("temporalCli"), [...args, ...address])).stdout;
}

/** Starts an import as the README shows. */
async function startPlainly(imageId: string, fields: object = {}): Promise<void> {
  await temporal(
    ...["workflow", "start", "--type", "importImage", "--task-queue", "image-import"],
    ...["--workflow-id", `image-import/${imageId}`],
    ...["--input", JSON.stringify({ image_id: imageId, ...fields })],
  );
}

describe("temporal workflow start --type importImage", () => {
  it("imports an image, and the run returns the result", async () => {
    const imageId = await stack.stagedImage();

    await startPlainly(imageId);
    const printed = await temporal(
      ...["workflow", "result", "--workflow-id", `image-import/${imageId}`, "--output", "json"],
    );

    expect(JSON.parse(printed)).toMatchObject({
      status: "COMPLETED",
      result: { image_id: imageId, status: "active", stores: ["local"] },
    });
    expect((await stack.showImage(imageId)).status).toBe("active");
  });

  it("fails the run that is refused, with the reason", async () => {
    const imageId = await stack.queuedImage();

    await startPlainly(imageId);
    const waiting = (await stack.connect()).imports.wait(imageId);

    await expect(waiting).rejects.toMatchObject({
      code: "ImageConflict",
      message: `Image needs to be staged before 'glance-direct' method can be used (image "${imageId}")`,
    });
  });

  it("fails the run whose input makes no sense, naming every mistake", async () => {
    const imageId = await stack.stagedImage();

    await startPlainly(imageId, { stores: [], method: "magic", colour: "blue" });
    const waiting = (await stack.connect()).imports.wait(imageId);

    await expect(waiting).rejects.toMatchObject({
      code: "BadRequest",
      message:
        'Cannot import: "colour" is not a field of an import (image_id, method, uri, stores, detect_format, all_stores, all_stores_must_succeed, checksum, size, takes_over, source_failure, roles, transforms, user_id, expected_owner, direct_upload, api_request, request_id); method must be glance-direct or web-download or copy-image, not "magic"; stores must be a list of store names, not empty, none twice, not []',
    });
    expect((await stack.showImage(imageId)).status).toBe("uploading");
  });

  it("is steered by signals, the query and cancel", async () => {
    const imageId = await stack.heldImage();
    const run = ["--workflow-id", `image-import/${imageId}`];
    await startPlainly(imageId, { stores: ["slow"] });

    await temporal("workflow", "signal", ...run, "--name", "pauseImport");
    await vi.waitUntil(
      async () =>
        (await temporal("workflow", "query", ...run, "--type", "importStatus")).includes(
          '"paused"',
        ),
      PATIENCE,
    );
    await temporal("workflow", "signal", ...run, "--name", "resumeImport");
    await temporal("workflow", "cancel", ...run);

    await expect((await stack.connect()).imports.wait(imageId)).rejects.toMatchObject({
      code: "ImportCancelled",
    });
  });
});
