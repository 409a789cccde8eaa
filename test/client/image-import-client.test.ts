import { randomBytes, randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { Readable } from "node:stream";
import { describe, expect, inject, onTestFinished } from "vitest";
import type { ClientOptions } from "../../src/client/connections.ts";
import { ImageImportClient } from "../../src/client/image-import-client.ts";
import { findFreePort } from "../../src/stack/ports.ts";
import { failureOf } from "../support/failure-of.ts";
import { failsWith, Hold } from "../support/faults.ts";
import { createRig, type ImportRig, it, liveReport } from "../support/import-rig.ts";
import { MIB } from "../support/mib.ts";

/** A client that is closed when the test has finished. */
async function connect(options: ClientOptions): Promise<ImageImportClient> {
  const client = await ImageImportClient.connect(options);
  onTestFinished(() => client.close());
  return client;
}

/** A client that has the address of the rig's Temporal server, and no other settings. */
async function connectToTemporal({ namespace }: ImportRig): Promise<ImageImportClient> {
  return connect({ temporal: { address: inject("temporalAddress"), namespace } });
}

/** An address without a Temporal server. */
async function nowhere(): Promise<{ readonly address: string }> {
  return { address: `127.0.0.1:${String(await findFreePort())}` };
}

/** A rig in which an image was imported. */
async function rigWithImage(bytes = randomBytes(1000)) {
  const rig = await createRig();
  const imageId = await rig.stagedImage(bytes);
  const accepted = await rig.client.imports.start(imageId);
  await rig.client.imports.wait(imageId);
  return { rig, imageId, accepted };
}

/** A rig in which an image was imported into both stores. */
async function rigWithTwoCopies() {
  const rig = await createRig();
  const imageId = await rig.stagedImage(randomBytes(1000));
  await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
  await rig.client.imports.wait(imageId);
  return { rig, imageId };
}

describe("ImageImportClient with Temporal alone", () => {
  it("starts an import and waits for it", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const client = await connectToTemporal(rig);

    const accepted = await client.imports.start(imageId, { stores: ["fast", "slow"] });
    const outcome = await client.imports.wait(imageId, accepted.run_id);

    expect(outcome).toMatchObject({ ...accepted, status: "active", stores: ["fast", "slow"] });
  });

  it("follows an import to its end", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const client = await connectToTemporal(rig);
    await client.imports.start(imageId);

    const phases = [];
    for await (const { phase } of client.imports.watch(imageId, { everyMs: 20 }))
      phases.push(phase);

    expect(phases.at(-1)).toBe("done");
  });

  it("pauses, resumes and cancels an import", async ({ rig }) => {
    rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(8 * MIB));
    const client = await connectToTemporal(rig);
    await client.imports.start(imageId, { stores: ["slow"] });

    await client.imports.pause(imageId);
    await rig.paused(imageId);
    const paused = await client.imports.status(imageId);
    await client.imports.resume(imageId);
    const resumed = await client.imports.status(imageId);
    await client.imports.cancel(imageId, { wait: true });
    const cancelled = await client.imports.status(imageId);

    expect([paused.pause, resumed.pause, cancelled.phase]).toEqual([
      "paused",
      "running",
      "cancelled",
    ]);
  });

  it("reports an import from its run", async () => {
    const { rig, imageId } = await rigWithImage();
    const client = await connectToTemporal(rig);

    const report = await liveReport({ client }, imageId);

    expect(report).toMatchObject({
      image_id: imageId,
      status: null,
      task: null,
      live: { phase: "done" },
    });
  });

  it("names the missing setting for the catalogue", async () => {
    const client = await connect({ temporal: { address: inject("temporalAddress") } });

    const failure = await failureOf(client.images.show(randomUUID()));

    expect(failure).toMatchObject({
      code: "NotConfigured",
      message: "Cannot find the catalogue: no stack is running here, and DATABASE_URL is not set",
    });
  });

  it("names the missing setting for staging and stores", async () => {
    const client = await connect({ databaseUrl: "postgres://127.0.0.1/none" });

    const failure = await failureOf(client.files.verify(randomUUID()));

    expect(failure).toMatchObject({
      code: "NotConfigured",
      message:
        "Cannot find the configuration file with staging area and stores: no stack is running here, and IMAGE_IMPORT_CONFIG is not set",
    });
  });
});

describe("ImageImportClient without a Temporal server", () => {
  it("reports that the server does not answer", async () => {
    const client = await connect({ temporal: await nowhere() });

    const failure = await failureOf(client.imports.start(randomUUID()));

    expect(failure.code).toBe("TemporalUnavailable");
    expect(failure.message).toMatch(/^The Temporal server does not answer: /);
  });

  it("begins to delete an image nevertheless, and the deletion continues later", async () => {
    const { rig, imageId } = await rigWithImage();
    const client = await connect({
      temporal: await nowhere(),
      databaseUrl: rig.databaseUrl,
    });

    const whileAway = await client.images.delete(imageId);
    const state = await rig.state(imageId);
    const onceBack = await rig.client.images.delete(imageId);

    expect([whileAway, onceBack]).toEqual(["pending_delete", "deleted"]);
    expect(state).toMatchObject({ image: "pending_delete", fast: ["@.1"] });
  });

  it("begins to remove a copy nevertheless, and the removal continues later", async () => {
    const { rig, imageId } = await rigWithTwoCopies();
    const client = await connect({
      temporal: await nowhere(),
      databaseUrl: rig.databaseUrl,
    });

    const whileAway = await client.images.removeCopy(imageId, "slow", Infinity);
    const { stores } = await client.images.show(imageId);
    const state = await rig.state(imageId);
    const onceBack = await rig.client.images.removeCopy(imageId, "slow");

    expect([whileAway, onceBack]).toEqual(["pending_delete", "removed"]);
    expect(stores).toEqual(["fast"]);
    expect(state).toMatchObject({
      locations: ["fast active", "slow pending_delete"],
      slow: ["@.1"],
    });
    expect((await rig.state(imageId)).slow).toEqual([]);
  });

  it("reports an import from the catalogue", async () => {
    const { rig, imageId, accepted } = await rigWithImage();
    const client = await connect({
      temporal: await nowhere(),
      databaseUrl: rig.databaseUrl,
    });

    const report = await client.imports.report(imageId);

    expect(report).toMatchObject({
      image_id: imageId,
      status: "active",
      task: { id: accepted.task_id, status: "success", result: { image_id: imageId } },
      live: null,
    });
  });
});

describe("ImageImportClient", () => {
  it("takes an image through its complete life", async ({ rig }) => {
    const bytes = randomBytes(100_000);
    const upload = join(rig.directory, "disk.raw");
    await writeFile(upload, bytes);
    const { client } = rig;

    const image = await client.images.create({
      name: "disk",
      owner: "project-7",
      diskFormat: "raw",
      containerFormat: "bare",
      properties: { os_distro: "debian" },
      tags: ["golden"],
    });
    await client.files.stage(image.id, upload);
    await client.imports.start(image.id);
    await client.imports.wait(image.id);
    const verified = await client.files.verify(image.id);
    const copy = join(rig.directory, "copy.raw");
    await client.files.download(image.id, { to: copy });
    const deactivated = await client.images.deactivate(image.id);
    const reactivated = await client.images.reactivate(image.id);
    const deletion = await client.images.delete(image.id);

    expect(image.status).toBe("queued");
    expect(verified).toMatchObject([{ store: "fast", ok: true, reason: null }]);
    expect((await readFile(copy)).equals(bytes)).toBe(true);
    expect([deactivated.status, reactivated.status, deletion]).toEqual([
      "deactivated",
      "active",
      "deleted",
    ]);
    expect(await failureOf(client.images.show(image.id))).toMatchObject({ code: "ImageNotFound" });
  });

  it("shows an image as it is published", async () => {
    const { rig, imageId } = await rigWithImage();

    const image = await rig.client.images.show(imageId);

    expect(image).toMatchObject({
      id: imageId,
      status: "active",
      size: 1000,
      stores: ["fast"],
      locations: [{ store: "fast", url: `file://${rig.directory}/fast/${imageId}.1` }],
      os_glance_importing_to_stores: [],
      os_glance_failed_import: [],
      os_glance_import_task: null,
    });
  });

  it("shows which task imports an image, and into which stores", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const storing = new Hold();
    rig.fail("storeImage fast", storing.before);
    const { task_id: taskId } = await rig.client.imports.start(imageId);
    await storing.reached;

    const image = await rig.client.images.show(imageId);

    expect(image).toMatchObject({
      status: "importing",
      os_glance_importing_to_stores: ["fast"],
      os_glance_import_task: taskId,
    });
    storing.release();
    await rig.client.imports.wait(imageId);
  });

  it("records who asked for an import over HTTP, and no secret in the history of its run", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const apiRequest = { method: { name: "glance-direct", uri: "https://a.test/b?secret=word" } };

    const accepted = await rig.client.imports.start(imageId, { userId: "ann", apiRequest });
    await rig.client.imports.wait(imageId);

    expect(await rig.client.admin.showTask(accepted.task_id)).toMatchObject({
      user_id: "ann",
      input: {
        image_id: imageId,
        backend: ["fast"],
        import_req: { method: { name: "glance-direct", uri: "https://a.test/b?[hidden]" } },
      },
    });
    const handle = rig.temporal.workflow.getHandle(accepted.workflow_id, accepted.run_id);
    const [started] = (await handle.fetchHistory()).events ?? [];
    const [request] = started?.workflowExecutionStartedEventAttributes?.input?.payloads ?? [];
    const sent = Buffer.from(request?.data ?? []).toString();
    expect(sent).toContain("https://a.test/b?[hidden]");
    expect(sent).not.toContain("word");
  });

  it("shows the task of an import", async () => {
    const { rig, imageId, accepted } = await rigWithImage();

    const task = await rig.client.admin.showTask(accepted.task_id);

    expect(task).toMatchObject({
      id: accepted.task_id,
      type: "api_image_import",
      status: "success",
      image_id: imageId,
      workflow_id: accepted.workflow_id,
      run_id: accepted.run_id,
      input: { image_id: imageId, method: "glance-direct", stores: ["fast"] },
      result: { image_id: imageId },
      message: "",
    });
  });

  it("reports an import that runs by its task and by its run", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const storing = new Hold();
    rig.fail("storeImage fast", storing.after);
    const { task_id: taskId } = await rig.client.imports.start(imageId);
    await storing.reached;

    const report = await liveReport(rig, imageId);

    expect(report).toMatchObject({
      image_id: imageId,
      status: "importing",
      task: { id: taskId, status: "processing" },
      live: { task_id: taskId, phase: "storing" },
    });
    storing.release();
    await rig.client.imports.wait(imageId);
  });

  it("reports the newest import of an image that was imported twice", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));
    await rig.client.imports.start(imageId);
    await failureOf(rig.client.imports.wait(imageId));
    const { task_id: taskId } = await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);

    const report = await liveReport(rig, imageId);

    expect(report).toMatchObject({
      task: { id: taskId, status: "success" },
      live: { task_id: taskId, phase: "done" },
    });
  });

  it("reports that an image was never imported", async () => {
    const { rig } = await rigWithImage();
    const other = await rig.stagedImage(randomBytes(1000));

    const failure = await failureOf(rig.client.imports.report(other));

    expect(failure).toMatchObject({
      code: "ImportNotFound",
      message: `No import of image "${other}" is on record: none was started, or its record has expired`,
    });
  });

  it("lists images and tasks, newest first", async () => {
    const { rig, imageId, accepted } = await rigWithImage();
    const other = await rig.client.images.create({ name: "other" });

    const images = await rig.client.images.list();
    const tasks = await rig.client.admin.listTasks();

    expect(images.map((image) => image.id)).toEqual([other.id, imageId]);
    expect(tasks.map((task) => task.id)).toEqual([accepted.task_id]);
  });

  it("lists the stores of this host, and which of them work", async () => {
    const { rig } = await rigWithImage();

    const stores = await rig.client.admin.listStores();

    const working = {
      type: "file",
      read_only: false,
      disabled: false,
      works: true,
      reason: null,
      free_bytes: expect.any(Number) as number,
    };
    expect(stores).toEqual([
      {
        ...working,
        name: "fast",
        mark: "present",
        default: true,
        location: join(rig.directory, "fast"),
      },
      {
        ...working,
        name: "slow",
        mark: "none yet",
        default: false,
        location: join(rig.directory, "slow"),
      },
    ]);
  });

  it("removes a copy of an image, and then reads the image from the other copy", async () => {
    const { rig, imageId } = await rigWithTwoCopies();
    const copy = join(rig.directory, "copy.raw");

    const removal = await rig.client.images.removeCopy(imageId, "fast");

    await rig.client.files.download(imageId, { to: copy });
    expect(removal).toBe("removed");
    expect(await rig.client.images.show(imageId)).toMatchObject({
      status: "active",
      stores: ["slow"],
      locations: [{ store: "slow", url: `file://${rig.directory}/slow/${imageId}.1` }],
    });
    expect(await readFile(copy)).toHaveLength(1000);
  });

  it("does not find a removed copy, and refuses to remove the last one", async () => {
    const { rig, imageId } = await rigWithTwoCopies();
    await rig.client.images.removeCopy(imageId, "fast");

    const [again, last] = [
      await failureOf(rig.client.images.removeCopy(imageId, "fast")),
      await failureOf(rig.client.images.removeCopy(imageId, "slow")),
    ];

    expect([again.code, last.code]).toEqual(["CopyNotFound", "ImageConflict"]);
    expect((await rig.client.images.show(imageId)).stores).toEqual(["slow"]);
  });

  it("waits until the bytes of a copy are gone when the wait is unlimited", async () => {
    const { rig, imageId } = await rigWithTwoCopies();
    const removing = new Hold();
    rig.fail("removePublishedCopy slow", removing.before);

    const removal = rig.client.images.removeCopy(imageId, "slow", Infinity);
    await removing.reached;
    const meanwhile = await rig.client.images.removeCopy(imageId, "slow", 0);
    removing.release();

    expect([meanwhile, await removal]).toEqual(["pending_delete", "removed"]);
  });

  it.each(["image-delete", "image-remove-copy"])(
    "reports a removal as not done when its run was terminated: %s",
    async (kind) => {
      const { rig, imageId } = await rigWithTwoCopies();
      const removing = new Hold();
      const isWhole = kind === "image-delete";
      rig.fail(isWhole ? "removeImageBytes" : "removePublishedCopy slow", removing.before);
      const removal = isWhole
        ? rig.client.images.delete(imageId)
        : rig.client.images.removeCopy(imageId, "slow");
      await removing.reached;

      const workflowId = isWhole ? `${kind}/${imageId}` : `${kind}/${imageId}/slow/1`;
      await rig.temporal.workflow.getHandle(workflowId).terminate();

      expect(await removal).toBe("pending_delete");
      removing.release();
    },
  );

  it("drops an upload, and stages a stream in its place", async () => {
    const { rig } = await rigWithImage();
    const imageId = await rig.stagedImage(randomBytes(1000));

    await rig.client.files.unstage(imageId);
    const dropped = await rig.client.images.show(imageId);
    const staged = await rig.client.files.stage(imageId, Readable.from([randomBytes(500)]));

    expect(dropped.status).toBe("queued");
    expect(staged).toMatchObject({ image_id: imageId, status: "uploading", size: 500 });
  });

  it.each([
    {
      verb: "createImage",
      call: (client: ImageImportClient) => client.images.create({ id: "disk" }),
    },
    { verb: "changeImage", call: (client: ImageImportClient) => client.images.change("disk", {}) },
    { verb: "showImage", call: (client: ImageImportClient) => client.images.show("disk") },
    { verb: "deleteImage", call: (client: ImageImportClient) => client.images.delete("disk") },
    {
      verb: "removeCopy",
      call: (client: ImageImportClient) => client.images.removeCopy("disk", "fast"),
    },
    { verb: "adoptStaged", call: (client: ImageImportClient) => client.files.adopt("disk") },
    { verb: "dropStaged", call: (client: ImageImportClient) => client.files.unstage("disk") },
    { verb: "importReport", call: (client: ImageImportClient) => client.imports.report("disk") },
  ])("refuses an id that is not a UUID in $verb", async ({ call }) => {
    const client = await connect({ databaseUrl: "postgres://127.0.0.1/none" });

    const failure = await failureOf(call(client));

    expect(failure).toMatchObject({
      code: "BadRequest",
      message:
        '"disk" is not the id of an image: it must be a UUID such as 6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b, in lower case',
    });
  });

  it("fails for a task that does not exist", async () => {
    const { rig } = await rigWithImage();
    const unknown = randomUUID();

    const failure = await failureOf(rig.client.admin.showTask(unknown));

    expect(failure).toMatchObject({
      code: "TaskNotFound",
      message: `No task has the id "${unknown}"`,
    });
  });
});
