import { randomUUID } from "node:crypto";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { pathToFileURL } from "node:url";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { CommandLine } from "../../support/command-line.ts";
import { SharedStack, writeDisk } from "../../support/shared-stack.ts";
import { makeTemporaryDirectory } from "../../support/temporary-directory.ts";
import { PATIENCE } from "../../support/patience.ts";

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const stack = new SharedStack();
const { commandLine } = stack;

const someId = expect.stringMatching(UUID) as unknown;

/** Puts a file under the staging root, as another program would. Returns its URI. */
function fileInStaging(): string {
  const path = join(stack.staging, `${randomUUID()}.raw`);
  writeFileSync(path, Buffer.alloc(16, 7));
  onTestFinished(() => {
    rmSync(path, { force: true });
  });
  return pathToFileURL(path).href;
}

describe("start", () => {
  it("ends with 2 for a transform that the worker does not have configured", async () => {
    const imageId = await stack.stagedImage();

    const { exitCode, failure } = await commandLine.json("start", imageId, "--transform", "own");

    expect(exitCode).toBe(2);
    expect(failure).toMatchObject({
      code: "BadRequest",
      message: 'There is no transform "own"; none is configured',
      image_id: imageId,
    });
  });

  it.each([[["start"]], [["image", "start"]]])(
    "returns once the import is accepted: %j",
    async (command) => {
      const imageId = await stack.stagedImage();

      const result = await commandLine.json(...command, imageId);

      expect(result).toEqual({
        exitCode: 0,
        answer: {
          image_id: imageId,
          task_id: someId,
          workflow_id: `image-import/${imageId}`,
          run_id: someId,
          status: "importing",
        },
        failure: undefined,
      });
    },
  );

  it("shows people the ids of the import", async () => {
    const imageId = await stack.stagedImage();

    const { exitCode, stdout, stderr } = await commandLine.run("start", imageId);

    const task = await stack.newestTask(imageId);
    expect({ exitCode, stdout, stderr }).toEqual({
      exitCode: 0,
      stdout: [
        `image_id     ${imageId}`,
        "status       importing",
        `task_id      ${task?.id ?? ""}`,
        `workflow_id  image-import/${imageId}`,
        `run_id       ${task?.run_id ?? ""}`,
        "",
      ].join("\n"),
      stderr: "",
    });
  });

  it("returns the result with --wait", async () => {
    const imageId = await stack.stagedImage();

    const answer = await commandLine.answer("start", imageId, "--wait", "--store", "local");

    expect(answer).toMatchObject({ image_id: imageId, status: "active", stores: ["local"] });
  });

  it("needs nothing but Temporal", async () => {
    const imageId = await stack.stagedImage();
    const elsewhere = new CommandLine({
      dataDir: join(makeTemporaryDirectory(), "none"),
      env: { TEMPORAL_ADDRESS: stack.file.temporal_address },
    });

    const answer = await elsewhere.answer("start", imageId, "--wait");

    expect(answer).toMatchObject({ image_id: imageId, status: "active" });
  });

  it("imports with --uri a file that lies under the staging root already", async () => {
    const imageId = await stack.queuedImage();

    const answer = await commandLine.answer("start", imageId, "--wait", "--uri", fileInStaging());

    expect(answer).toMatchObject({ image_id: imageId, status: "active", size: 16 });
  });

  it("accepts one of 50 that start at once, and names in each refusal the task that imports the image", async () => {
    const client = await stack.connect();
    // The import lasts until the server has answered all 50.
    const imageId = await stack.heldImage();
    const starts = Array.from({ length: 50 }, () =>
      client.imports.start(imageId, { stores: ["slow"] }),
    );

    const ends = await Promise.allSettled(starts);

    const accepted = ends.flatMap((end) => (end.status === "fulfilled" ? [end.value] : []));
    const refused = ends.flatMap((end) =>
      end.status === "rejected" ? [end.reason as unknown] : [],
    );
    expect(accepted).toEqual([
      {
        image_id: imageId,
        task_id: someId,
        workflow_id: `image-import/${imageId}`,
        run_id: someId,
      },
    ]);
    expect(refused).toEqual(
      Array.from(
        { length: 49 },
        () =>
          expect.objectContaining({
            code: "ImageBusy",
            message: `Image "${imageId}" has an active task: ${accepted[0]?.task_id ?? ""} imports it`,
          }) as unknown,
      ),
    );
    expect(await client.admin.listTasks({ imageId })).toHaveLength(1);
    await client.imports.cancel(imageId, { wait: true });
  });
});

describe("start into several stores", () => {
  it("fills all of them with --all-stores", async () => {
    const imageId = await stack.stagedImage();

    const { exitCode, answer } = await commandLine.json("start", imageId, "--all-stores", "--wait");

    expect({ exitCode, answer }).toMatchObject({
      exitCode: 0,
      answer: { status: "active", stores: ["local", "slow", "tiny"] },
    });
  });

  it("refuses --all-stores together with --store", async () => {
    const { exitCode, stderr } = await commandLine.run(
      ...["start", randomUUID(), "--all-stores", "--store", "local"],
    );

    expect(exitCode).toBe(2);
    expect(stderr).toContain("--all-stores");
  });
});

describe("start that is refused", () => {
  it("names an image that does not exist", async () => {
    const imageId = randomUUID();

    expect(await commandLine.json("start", imageId)).toEqual({
      exitCode: 3,
      answer: undefined,
      failure: {
        code: "ImageNotFound",
        image_id: imageId,
        message: `No image has the id "${imageId}"`,
        hint: "`image-import image list` lists the images.",
        step: "claim",
      },
    });
  });

  it("asks for data where none is staged", async () => {
    const imageId = await stack.queuedImage();

    expect(await commandLine.json("start", imageId)).toMatchObject({
      exitCode: 4,
      answer: undefined,
      failure: {
        code: "ImageConflict",
        message: `Image needs to be staged before 'glance-direct' method can be used (image "${imageId}")`,
      },
    });
  });

  it.each([
    ["disk_format", { containerFormat: "bare" }],
    ["container_format", { diskFormat: "raw" }],
  ] as const)("asks for %s where it is not set", async (field, formats) => {
    const { id } = await (await stack.connect()).images.create(formats);

    expect(await commandLine.json("start", id)).toMatchObject({
      exitCode: 4,
      answer: undefined,
      failure: { code: "ImageConflict", message: `'${field}' needs to be set before import` },
    });
  });

  it("names the store that is not configured", async () => {
    const imageId = await stack.stagedImage();

    expect(await commandLine.json("start", imageId, "--store", "nowhere")).toMatchObject({
      exitCode: 2,
      answer: undefined,
      failure: {
        code: "UnknownStore",
        hint: "`image-import stores` lists the stores that are configured.",
      },
    });
  });

  it.each([["start"], ["import"]])(
    "explains that only the configuration of this host has the store: %s",
    async (command) => {
      const config = join(makeTemporaryDirectory(), "image-import.yaml");
      const local = { type: "file", path: stack.store("local") };
      const later = { type: "file", path: makeTemporaryDirectory() };
      const staging = pathToFileURL(stack.staging).href;
      writeFileSync(
        config,
        JSON.stringify({ node_staging_uri: staging, stores: { local, later } }),
      );
      const subject = command === "start" ? await stack.stagedImage() : writeDisk();

      const result = await commandLine.json(
        ...[command, subject, "--config", config, "--store", "later"],
      );

      expect(result).toMatchObject({
        exitCode: 2,
        failure: {
          code: "UnknownStore",
          hint: expect.stringContaining(
            `"${config}" has this store, and the worker runs with`,
          ) as unknown,
        },
      });
    },
  );

  it("rejects an image that is active", async () => {
    const imageId = await stack.activeImage();

    expect(await commandLine.json("start", imageId)).toMatchObject({
      exitCode: 4,
      answer: undefined,
      failure: {
        code: "ImageConflict",
        message: `Image with status active cannot be target for import (image "${imageId}")`,
      },
    });
  });

  it("names the task that imports the image", async () => {
    const { image_id: imageId, task_id: taskId } = await stack.runningImport();

    expect(await commandLine.json("start", imageId)).toEqual({
      exitCode: 4,
      answer: undefined,
      failure: {
        code: "ImageBusy",
        image_id: imageId,
        message: `Image "${imageId}" has an active task: ${taskId} imports it`,
        hint: "Wait for it (`image-import watch <image-id>`), or stop it (`image-import cancel <image-id>`).",
      },
    });
  });

  it("does not wait for the end of a running upload", async () => {
    const client = await stack.connect();
    const imageId = await stack.queuedImage();
    const bytes = new PassThrough();
    const staging = client.files.stage(imageId, bytes);
    await vi.waitUntil(
      async () => (await client.images.show(imageId)).status === "uploading",
      PATIENCE,
    );

    const result = await commandLine.json("start", imageId);

    bytes.end("the rest");
    await staging;
    expect(result).toMatchObject({
      exitCode: 4,
      answer: undefined,
      failure: {
        code: "StagingBusy",
        message: `Cannot import image "${imageId}": its data is still being staged`,
      },
    });
  });

  it("rejects a staging URI that is not file:///", async () => {
    const imageId = await stack.queuedImage();

    const result = await commandLine.json("start", imageId, "--uri", "http://127.0.0.1/disk.raw");

    expect(result).toMatchObject({
      exitCode: 1,
      answer: undefined,
      failure: {
        code: "BadTaskConfiguration",
        message: expect.stringMatching(
          /^[0-9a-f-]{36} of api_image_import not configured properly\. Value of node_staging_uri must be in format 'file:\/\/<absolute-path>'$/,
        ) as unknown,
      },
    });
  });

  it("reads nothing outside the staging root", async () => {
    const imageId = await stack.queuedImage();

    const result = await commandLine.json(
      "start",
      imageId,
      "--wait",
      "--uri",
      "file:///etc/hostname",
    );

    expect(result).toMatchObject({
      exitCode: 1,
      answer: undefined,
      failure: {
        code: "StagedDataRefused",
        message: `verify: Cannot use "/etc/hostname": it does not lie below "${stack.staging}"`,
      },
    });
    expect((await stack.showImage(imageId)).status).toBe("queued");
  });
});
