import { randomBytes } from "node:crypto";
import { stat } from "node:fs/promises";
import { join } from "node:path";
import { activityInfo } from "@temporalio/activity";
import { describe, expect } from "vitest";
import { importWorkflowId } from "../../src/workflow/contract.ts";
import { failureOf } from "../support/failure-of.ts";
import { failsWith, Hold, losesItsAnswer, type Fault } from "../support/faults.ts";
import { createRig, it } from "../support/import-rig.ts";
import { BACK_TO_STAGED, IMPORTED } from "../support/import-states.ts";
import { MIB } from "../support/mib.ts";
import { PATIENCE } from "../support/patience.ts";

describe("importImage() with a step that fails permanently", () => {
  it("refuses the import when the claim fails, and leaves no task", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("claimImport", failsWith("ImageConflict", "it may not be"));

    const started = failureOf(rig.client.imports.start(imageId));

    expect(await started).toMatchObject({ code: "ImageConflict", message: "it may not be" });
    expect(await failureOf(rig.client.imports.wait(imageId))).toMatchObject({
      code: "ImageConflict",
      message: "it may not be",
    });
    expect(await rig.state(imageId)).toEqual({ ...BACK_TO_STAGED, failedStores: [], task: null });
    expect(rig.calls).toEqual(["claimImport", "releaseImport"]);
  });

  it.for([
    { call: "verifyStaging", code: "UnsafeImage", where: "verify", failedStores: [] },
    { call: "digestStaged", code: "StagedDataChanged", where: "digest", failedStores: [] },
    { call: "storeImage fast", code: "NoSpace", where: 'store "fast"', failedStores: ["fast"] },
    { call: "saveImage", code: "StagedDataChanged", where: "save", failedStores: [] },
    { call: "activateImage", code: "ImportLost", where: "activate", failedStores: [] },
  ] as const)(
    "undoes everything when $call fails, and names the step",
    async ({ call, code, where, failedStores }, { rig }) => {
      const imageId = await rig.adoptedImage(randomBytes(1000));
      rig.fail(call, failsWith(code, "it went wrong"));

      await rig.client.imports.start(imageId);
      const failure = await failureOf(rig.client.imports.wait(imageId));

      expect(failure).toMatchObject({ code, message: `${where}: it went wrong` });
      expect(await rig.state(imageId)).toEqual({
        ...BACK_TO_STAGED,
        failedStores,
        task: ["failure", `Error: ${code}: ${where}: it went wrong`, null],
      });
    },
  );

  it("never tries a permanent failure again", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("storeImage fast", failsWith("PermissionDenied", "it is read-only"));

    await rig.client.imports.start(imageId);
    await failureOf(rig.client.imports.wait(imageId));

    expect(rig.calls.filter((call) => call === "storeImage fast")).toHaveLength(1);
  });

  it("stops the other stores, and undoes them once they have stopped", async ({ rig }) => {
    rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(8 * MIB));
    const failing = new Hold();
    rig.fail("storeImage fast", (step) =>
      failing.before(() => failsWith("NoSpace", "it is full")(step)),
    );

    await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
    await rig.copying(imageId, "slow");
    failing.release();
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure).toMatchObject({ code: "NoSpace", message: 'store "fast": it is full' });
    expect((await rig.client.imports.status(imageId)).stores).toMatchObject({
      fast: { state: "failed" },
      slow: { state: "stopped" },
    });
    expect(await rig.state(imageId)).toEqual({
      ...BACK_TO_STAGED,
      failedStores: ["fast"],
      task: ["failure", 'Error: NoSpace: store "fast": it is full', null],
    });
  });

  it("can be imported again at once", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));
    await rig.client.imports.start(imageId);
    await failureOf(rig.client.imports.wait(imageId));

    await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);

    expect(await rig.state(imageId)).toEqual({
      ...IMPORTED,
      fast: ["@.2"],
      task: ["success", "", { image_id: imageId }],
    });
  });
});

describe("importImage() with a step that fails and then succeeds", () => {
  it.for([
    { call: "claimImport", code: "DatabaseUnavailable" },
    { call: "verifyStaging", code: "StagingUnavailable" },
    { call: "digestStaged", code: "StagingUnavailable" },
    { call: "storeImage fast", code: "StoreUnavailable" },
    { call: "saveImage", code: "DatabaseUnavailable" },
    { call: "activateImage", code: "DatabaseUnavailable" },
    { call: "unstageImage", code: "StagingUnavailable" },
  ] as const)("tries $call again until it succeeds", async ({ call, code }, { rig }) => {
    const imageId = await rig.adoptedImage(randomBytes(1000));
    rig.fail(
      call,
      failsWith(code, "it is unreachable"),
      failsWith(code, "it is still unreachable"),
    );

    await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);

    expect(rig.calls.filter((each) => each === call)).toHaveLength(3);
    expect(await rig.state(imageId)).toEqual({
      ...IMPORTED,
      task: ["success", "", { image_id: imageId }],
    });
  });

  it("does not write again what another store has finished", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const failing = new Hold();
    rig.fail("storeImage slow", (step) =>
      failing.before(() => failsWith("StoreUnavailable", "it is unreachable")(step)),
    );

    await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
    await rig.copied(imageId, "fast");
    const written = await stat(join(rig.directory, "fast", `${imageId}.1`));
    failing.release();
    await rig.client.imports.wait(imageId);

    const published = await stat(join(rig.directory, "fast", `${imageId}.1`));
    expect([published.ino, published.mtimeMs]).toEqual([written.ino, written.mtimeMs]);
    expect(rig.calls.filter((call) => call === "storeImage fast")).toHaveLength(1);
    expect(rig.calls.filter((call) => call === "storeImage slow")).toHaveLength(2);
  });
});

describe("importImage() with a step that takes effect and whose answer is lost", () => {
  it.for([
    { call: "claimImport" },
    { call: "verifyStaging" },
    { call: "digestStaged" },
    { call: "storeImage fast" },
    { call: "saveImage" },
    { call: "activateImage" },
    { call: "unstageImage" },
  ])("succeeds when that happens to $call", async ({ call }, { rig }) => {
    const imageId = await rig.adoptedImage(randomBytes(1000));
    rig.fail(call, losesItsAnswer);

    await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);

    expect(rig.calls.filter((each) => each === call)).toHaveLength(2);
    expect(await rig.state(imageId)).toEqual({
      ...IMPORTED,
      task: ["success", "", { image_id: imageId }],
    });
  });

  it("takes the copy that the lost attempt published, and does not write it again", async ({
    rig,
  }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("storeImage fast", losesItsAnswer);

    await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);

    expect((await rig.client.imports.status(imageId)).stores).toMatchObject({
      fast: { state: "stored", method: "found" },
    });
  });
});

describe("importImage() past its deadline", () => {
  // Long enough to reach any step before it on a busy machine.
  const DEADLINE = "20s";

  it("stops in the middle of the bytes and undoes everything", async () => {
    const rig = await createRig({ import: { deadline: DEADLINE } });
    rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(16 * MIB));

    await rig.client.imports.start(imageId, { stores: ["slow"] });
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure).toMatchObject({
      code: "ImportDeadlineExceeded",
      message: 'store "slow": it did not end before its deadline',
    });
    expect(await rig.state(imageId)).toEqual({
      ...BACK_TO_STAGED,
      failedStores: [],
      task: [
        "failure",
        'Error: ImportDeadlineExceeded: store "slow": it did not end before its deadline',
        null,
      ],
    });
  });

  it("ends an import whose store stays unreachable", async () => {
    const rig = await createRig({ import: { deadline: "2s" } });
    const imageId = await rig.stagedImage(randomBytes(1000));
    const away = failsWith("StoreUnavailable", "it is unreachable");
    rig.fail("storeImage fast", ...Array.from({ length: 100 }, () => away));

    await rig.client.imports.start(imageId);
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toBe("ImportDeadlineExceeded");
    expect(await rig.state(imageId)).toMatchObject(BACK_TO_STAGED);
  });

  it("keeps the last cause of a step that is tried again", async () => {
    const failing = [
      ["fetchImage", "fetch", "SourceUnavailable"],
      ["verifyStaging", "verify", "StagingUnavailable"],
      ["transformStaged", "transform", "TransformUnavailable"],
      ["digestStaged", "digest", "StagingUnavailable"],
      ["storeImage fast", 'store "fast"', "StoreUnavailable"],
      ["saveImage", "save", "DatabaseUnavailable"],
    ] as const;
    const rig = await createRig({ import: { deadline: DEADLINE, transforms: ["decompress"] } });
    const newImage = async () =>
      (await rig.client.images.create({ diskFormat: "raw", containerFormat: "bare" })).id;
    const imageIds: string[] = [];
    for (const [call, , code] of failing) {
      const isFetched = call === "fetchImage";
      const imageId = isFetched ? await newImage() : await rig.adoptedImage(randomBytes(1000));
      imageIds.push(imageId);
      const workflowId = importWorkflowId(imageId);
      const broken = failsWith(code, "the line broke");
      // The imports run side by side: the step fails in its own import alone.
      const fault: Fault = async (step) =>
        activityInfo().workflowExecution?.workflowId === workflowId ? broken(step) : step();
      rig.fail(call, ...Array.from({ length: 100 }, () => fault));
    }

    const ended = failing.map(async ([call, step, code], index) => {
      const imageId = imageIds[index] ?? "";
      await rig.client.imports.start(imageId, {
        ...(call === "fetchImage"
          ? { method: "web-download", uri: "https://192.0.2.1/disk.raw" }
          : {}),
      });
      const failure = await failureOf(rig.client.imports.wait(imageId));
      const [task] = await rig.client.admin.listTasks({ imageId });
      const cause = expect.stringMatching(
        `attempt \\d+ of ${step} failed: ${code}: the line broke$`,
      ) as string;
      expect(failure).toMatchObject({ code: "ImportDeadlineExceeded", message: cause });
      expect(task?.message).toEqual(cause);
    });

    await Promise.all(ended);
  });

  it("ends without a cause when none can be found", async () => {
    const rig = await createRig({ import: { deadline: DEADLINE } });
    const imageId = await rig.stagedImage(randomBytes(1000));
    const storing = new Hold();
    rig.fail("storeImage fast", storing.before);
    rig.fail("findLastFailures", failsWith("BadConfiguration", "it may not look"));

    await rig.client.imports.start(imageId);

    expect(await failureOf(rig.client.imports.wait(imageId))).toMatchObject({
      code: "ImportDeadlineExceeded",
      message: 'store "fast": it did not end before its deadline',
    });
  });

  it("comes too late once the activation has begun", async () => {
    const rig = await createRig({ import: { deadline: DEADLINE } });
    const imageId = await rig.stagedImage(randomBytes(1000));
    const activating = new Hold();
    rig.fail("activateImage", activating.before);

    await rig.client.imports.start(imageId);
    await activating.reached;
    await expect
      .poll(async () => {
        const { events } = await rig.run(imageId).fetchHistory();
        return events?.some((event) => event.timerFiredEventAttributes != null);
      }, PATIENCE)
      .toBe(true);
    activating.release();
    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome.status).toBe("active");
    expect(await rig.state(imageId)).toEqual({
      ...IMPORTED,
      task: ["success", "", { image_id: imageId }],
    });
  });
});

describe("importImage() in the log of its worker", () => {
  it("has one line when it is accepted, and one when it has ended active", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));

    const { task_id, run_id } = await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);

    const about = { image_id: imageId, task_id, run_id, workflow_id: `image-import/${imageId}` };
    expect(rig.logOf(imageId)).toMatchObject([
      {
        ...about,
        msg: "Import accepted",
        level: "info",
        stores: ["fast"],
        method: "glance-direct",
      },
      {
        ...about,
        msg: "Import ended",
        level: "info",
        outcome: "active",
        bytes: 1000,
        seconds: expect.any(Number) as number,
        stores: ["fast"],
      },
    ]);
  });

  it("has code, message, way out and store of each failure", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));

    const { task_id, run_id } = await rig.client.imports.start(imageId);
    await failureOf(rig.client.imports.wait(imageId));

    const about = { image_id: imageId, task_id, run_id };
    const failed = { code: "NoSpace", hint: "Free space, or choose another store." };
    expect(rig.logOf(imageId)).toMatchObject([
      { ...about, msg: "Import accepted" },
      {
        ...about,
        msg: "Activity failed",
        store: "fast",
        error: { ...failed, message: "it is full" },
      },
      { ...about, msg: "Import ended", level: "warn", outcome: "failed", store: "fast", ...failed },
      {
        ...about,
        msg: "Workflow failed",
        error: { ...failed, message: 'store "fast": it is full' },
      },
    ]);
  });

  it("has a line for a start that is refused, and for one that is cancelled", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    await failureOf(rig.client.imports.start(imageId, { stores: ["nowhere"] }));
    const step = new Hold();
    rig.fail("storeImage fast", step.before);

    await rig.client.imports.start(imageId);
    await step.reached;
    await rig.client.imports.cancel(imageId);
    await failureOf(rig.client.imports.wait(imageId));

    expect(rig.logOf(imageId).filter(({ msg }) => msg === "Import ended")).toMatchObject([
      { outcome: "refused", code: "UnknownStore" },
      { outcome: "cancelled", code: "ImportCancelled", level: "info" },
    ]);
  });
});
