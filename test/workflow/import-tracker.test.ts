import { randomBytes } from "node:crypto";
import { Readable } from "node:stream";
import { defaultPayloadConverter } from "@temporalio/common";
import { describe, expect } from "vitest";
import { IMPORT_FAILURES, ImportError } from "../../src/domain/import-failure.ts";
import { SEARCH_ATTRIBUTES } from "../../src/workflow/contract.ts";
import { failureOf } from "../support/failure-of.ts";
import { failsWith, Hold } from "../support/faults.ts";
import { type ImportRig, it } from "../support/import-rig.ts";
import { MIB } from "../support/mib.ts";
import { PATIENCE } from "../support/patience.ts";

/** The metadata that Temporal's Web UI and `temporal workflow metadata` query. */
interface RunMetadata {
  readonly currentDetails: string;
  readonly definition: Readonly<
    Record<
      "queryDefinitions" | "signalDefinitions" | "updateDefinitions",
      readonly { readonly name: string; readonly description: string }[]
    >
  >;
}

async function metadataOf(rig: ImportRig, imageId: string): Promise<RunMetadata> {
  return rig.run(imageId).query<RunMetadata>("__temporal_workflow_metadata");
}

describe("importStatus", () => {
  it("reports phase, pause, size and stores while the import runs", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const saving = new Hold();
    rig.fail("saveImage", saving.before);

    const { task_id: taskId } = await rig.client.imports.start(imageId, {
      stores: ["fast", "slow"],
    });
    await saving.reached;
    const status = await rig.run(imageId).query("importStatus");

    expect(status).toEqual({
      image_id: imageId,
      task_id: taskId,
      method: "glance-direct",
      phase: "saving",
      pause: "running",
      size: 1000,
      stores: {
        fast: { state: "stored", method: "copy", started_at: anInstant(), ended_at: anInstant() },
        slow: { state: "stored", method: "copy", started_at: anInstant(), ended_at: anInstant() },
      },
      phases: [
        ended("accepting"),
        ended("verifying"),
        ended("storing"),
        { phase: "saving", started_at: anInstant(), ended_at: null },
      ],
      detected_format: "raw",
      checks: {
        one_format: "pass",
        content: "pass",
        declared_format: "pass",
        disk_format: "pass",
        container_format: "pass",
        mbr: "pass",
        complete: "pass",
        virtual_size: "pass",
        virtual_ratio: "pass",
      },
      message: null,
    });
    saving.release();
    await rig.client.imports.wait(imageId);
  });

  it("reports all phases of an import that is done", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));

    await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);

    expect(await rig.client.imports.status(imageId)).toMatchObject({
      phase: "done",
      phases: [
        ended("accepting"),
        ended("verifying"),
        ended("storing"),
        ended("saving"),
        ended("activating"),
        ended("unstaging"),
        ended("done"),
      ],
    });
  });

  it("reports why an import failed, and that it was undone", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));

    await rig.client.imports.start(imageId);
    await failureOf(rig.client.imports.wait(imageId));

    expect(await rig.client.imports.status(imageId)).toMatchObject({
      phase: "failed",
      stores: { fast: { state: "failed", last_failure: "it is full" } },
      phases: [
        ended("accepting"),
        ended("verifying"),
        ended("storing"),
        ended("undoing"),
        ended("failed"),
      ],
      message: 'Error: NoSpace: store "fast": it is full',
      failure: {
        code: "NoSpace",
        hint: IMPORT_FAILURES.NoSpace.hint,
        step: "store",
        store: "fast",
      },
    });
  });

  it("gives a failed task the code, the hint, the step and the store", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("storeImage fast", async () => {
      throw new ImportError("NoSpace", "it is full", { hint: "Mount a larger volume." });
    });

    const { task_id: taskId } = await rig.client.imports.start(imageId);
    const failure = await failureOf(rig.client.imports.wait(imageId));

    const details = {
      code: "NoSpace",
      hint: "Mount a larger volume.",
      step: "store",
      store: "fast",
    };
    expect(failure).toMatchObject(details);
    expect((await rig.client.admin.showTask(taskId)).failure).toEqual(details);
  });

  it("reports that an import was cancelled", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const storing = new Hold();
    rig.fail("storeImage fast", storing.before);

    await rig.client.imports.start(imageId);
    await storing.reached;
    await rig.client.imports.cancel(imageId, { wait: true });

    expect(await rig.client.imports.status(imageId)).toMatchObject({
      phase: "cancelled",
      message: 'Error: ImportCancelled: store "fast": it was cancelled',
    });
  });
});

describe("the current details of a run", () => {
  it("follow the phases and the stores", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const [storing, saving] = [new Hold(), new Hold()];
    rig.fail("storeImage fast", storing.before);
    rig.fail("saveImage", saving.before);

    await rig.client.imports.start(imageId);
    await storing.reached;
    const whileStoring = await metadataOf(rig, imageId);
    storing.release();
    await saving.reached;
    const whileSaving = await metadataOf(rig, imageId);
    saving.release();
    await rig.client.imports.wait(imageId);

    expect(linesOf(whileStoring)).toEqual([
      "### storing",
      `Image \`${imageId}\`, 1000 bytes, raw, since <time>`,
      ...TABLE,
      "| fast | copying |  |  | <time> |  |",
      "Bytes, attempts and failures of running copies: Pending Activities.",
    ]);
    expect(linesOf(whileSaving)).toEqual([
      "### saving",
      `Image \`${imageId}\`, 1000 bytes, raw, since <time>`,
      ...TABLE,
      "| fast | stored (copy) | 1000 | 1 | <time> |  |",
    ]);
  });

  it("say that a step is about to be paused, and that it is", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    const saving = new Hold();
    rig.fail("saveImage", saving.before);

    await rig.client.imports.start(imageId);
    await saving.reached;
    await rig.client.imports.pause(imageId);
    await rig.paused(imageId, "pausing after this step");
    const pausing = await metadataOf(rig, imageId);
    saving.release();
    await rig.paused(imageId);
    const paused = await metadataOf(rig, imageId);

    expect(pausing.currentDetails).toMatch(/^### saving, pausing after this step\n/);
    expect(paused.currentDetails).toMatch(/^### activating, paused\n/);
  });

  it("say that bytes are paused in the middle, and continue", async ({ rig }) => {
    const slow = rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(3 * MIB));

    await rig.client.imports.start(imageId, { stores: ["slow"] });
    await rig.copying(imageId, "slow");
    await rig.client.imports.pause(imageId);
    await rig.paused(imageId);
    const paused = await metadataOf(rig, imageId);
    await rig.client.imports.resume(imageId);
    const resumed = await metadataOf(rig, imageId);
    slow.release();
    await rig.client.imports.wait(imageId);

    expect(paused.currentDetails).toMatch(/^### storing, paused\n/);
    expect(resumed.currentDetails).toMatch(/^### storing\n/);
  });

  it("end with the reason of a failure", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("verifyStaging", failsWith("UnsafeImage", "it refers to another file"));

    await rig.client.imports.start(imageId);
    await failureOf(rig.client.imports.wait(imageId));

    expect(linesOf(await metadataOf(rig, imageId))).toEqual([
      "### failed",
      `Image \`${imageId}\`, since <time>`,
      ...TABLE,
      "| fast | waiting |  |  | <time> |  |",
      "**Error: UnsafeImage: verify: it refers to another file**",
    ]);
  });

  it("have the reason and the attempt of a store that failed, which cannot break the table", async ({
    rig,
  }) => {
    const imageId = await ownedImage(rig, "project-7", "a|b");
    const [once, again] = [
      failsWith("StoreUnavailable", "no answer"),
      failsWith("NoSpace", "full:\n| *disk* | `x` |"),
    ];
    rig.fail("storeImage fast", once, again);

    await rig.client.imports.start(imageId, { stores: ["fast"] });
    await failureOf(rig.client.imports.wait(imageId));

    expect(linesOf(await metadataOf(rig, imageId)).slice(0, 5)).toEqual([
      "### failed",
      `Image **a\\|b** \`${imageId}\`, 1000 bytes, raw, since <time>`,
      ...TABLE,
      "| fast | failed |  | 2 | <time> | full: \\| \\*disk\\* \\| \\`x\\` \\| |",
    ]);
  });
});

describe("the search attributes of a run", () => {
  it("contain the image, the method, the stores, the owner and the phase", async ({ rig }) => {
    const imageId = await ownedImage(rig, "project-7");
    const storing = new Hold();
    rig.fail("storeImage fast", storing.before);

    await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
    await storing.reached;
    const running = await searchAttributesOf(rig, imageId);
    storing.release();
    await rig.client.imports.wait(imageId);
    const done = await searchAttributesOf(rig, imageId);

    const fixed = {
      imageId,
      importStores: ["fast", "slow"],
      importMethod: "glance-direct",
      owner: "project-7",
      imageName: "disk_1.raw",
    };
    expect(running).toEqual({ ...fixed, importPhase: "storing" });
    expect(done).toEqual({ ...fixed, importPhase: "done" });
  });

  it.for([
    { what: "Chinese characters", name: "磁".repeat(255) },
    { what: "characters of two code units", name: "💾".repeat(127) },
    { what: "marks of Markdown", name: "*_`|<[~".repeat(36) },
  ])("and the title take a name of many $what", async ({ name }, { rig }) => {
    const imageId = await ownedImage(rig, "project-7", name);

    await rig.client.imports.start(imageId, { stores: ["fast"], imageName: name });
    await rig.client.imports.wait(imageId);

    expect(await searchAttributesOf(rig, imageId)).toMatchObject({ imageName: name });
    const { events } = await rig.run(imageId).fetchHistory();
    expect(events?.[0]?.userMetadata?.summary?.data?.length).toBeGreaterThan(200);
    const description = await rig.run(imageId).describe();
    expect(await description.staticSummary()).toMatch(/^import .+… → fast$/u);
    const query = `ImageName = '${name}'`;
    await expect
      .poll(async () => (await rig.temporal.workflow.count(query)).count, PATIENCE)
      .toBe(1);
  });

  it("say that an import is paused, and its earlier phase once it continues", async ({ rig }) => {
    const slow = rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(3 * MIB));
    const phase = async () => (await searchAttributesOf(rig, imageId))["importPhase"];

    await rig.client.imports.start(imageId, { stores: ["slow"] });
    await rig.copying(imageId, "slow");
    await rig.client.imports.pause(imageId);
    await rig.paused(imageId);
    const whilePaused = await phase();
    slow.release();
    await rig.client.imports.resume(imageId);
    const resumed = await phase();
    await rig.client.imports.wait(imageId);

    expect([whilePaused, resumed, await phase()]).toEqual(["paused", "storing", "done"]);
  });

  it("say that a paused import is undone", async ({ rig }) => {
    rig.holdCopies("slow");
    const imageId = await rig.stagedImage(randomBytes(3 * MIB));

    await rig.client.imports.start(imageId, { stores: ["slow"] });
    await rig.copying(imageId, "slow");
    await rig.client.imports.pause(imageId);
    await rig.paused(imageId);
    await rig.client.imports.cancel(imageId, { wait: true });

    expect(await searchAttributesOf(rig, imageId)).toMatchObject({ importPhase: "cancelled" });
  });

  it("find the imports of an owner that failed", async ({ rig }) => {
    const imageId = await ownedImage(rig, "project-7");
    await ownedImage(rig, "project-8");
    rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));
    await rig.client.imports.start(imageId);
    await failureOf(rig.client.imports.wait(imageId));

    const query = "Owner = 'project-7' AND ImportPhase = 'failed' AND ImportStores = 'fast'";
    const found = async (): Promise<string[]> => {
      const ids = [];
      for await (const run of rig.temporal.workflow.list({ query })) ids.push(run.workflowId);
      return ids;
    };

    await expect.poll(found, PATIENCE).toEqual([`image-import/${imageId}`]);
  });
});

describe("the summaries of a run", () => {
  it("are its title, and a line for each step", async ({ rig }) => {
    const imageId = await rig.adoptedImage(randomBytes(1000));

    await rig.client.imports.start(imageId, { stores: ["fast"] });
    await rig.client.imports.wait(imageId);

    const description = await rig.run(imageId).describe();
    expect(await description.staticSummary()).toBe(`import ${imageId} → fast`);
    expect(await description.staticDetails()).toBe(
      `Import of image \`${imageId}\` by \`glance-direct\` → fast`,
    );
    expect((await stepSummaries(rig, imageId)).sort()).toEqual(
      [
        "accept: claim the image",
        "verify: judge the staged bytes",
        "digest: hash the staged bytes",
        "store: copy to fast",
        "save: record size, digests, locations",
        "confirm: are all copies unchanged since they were checked?",
        "activate: publish the image",
        "unstage: delete the staged data",
      ].sort(),
    );
  });

  it("mark the undos of an import that failed", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));

    await rig.client.imports.start(imageId);
    await failureOf(rig.client.imports.wait(imageId));

    expect((await stepSummaries(rig, imageId)).slice(-2)).toEqual([
      "undo: remove the copy in fast",
      "undo: release the claim, image back to its earlier status",
    ]);
  });
});

describe("the messages of a run", () => {
  it("are described for people", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);

    const { definition } = await metadataOf(rig, imageId);

    const named = [
      ...definition.queryDefinitions,
      ...definition.signalDefinitions,
      ...definition.updateDefinitions,
    ].filter(({ name }) => !name.startsWith("__"));
    expect(named.map(({ name, description }) => `${name}: ${description}`).sort()).toEqual([
      "acceptImport: Returns the result of the acceptance: the task id, or the refusal",
      "dropStore: Continues without a store: stops and removes its copy",
      "importStatus: Returns the state of the import: phase, pause, size, state of each store",
      "pauseImport: Stops the byte steps within seconds and keeps their parts",
      "resumeImport: Continues from where the pause stopped",
    ]);
  });
});

async function ownedImage(rig: ImportRig, owner: string, name = "disk_1.raw"): Promise<string> {
  const { id } = await rig.client.images.create({
    owner,
    name,
    diskFormat: "raw",
    containerFormat: "bare",
  });
  await rig.client.files.stage(id, Readable.from([randomBytes(1000)]));
  return id;
}

async function searchAttributesOf(
  rig: ImportRig,
  imageId: string,
): Promise<Record<string, unknown>> {
  const { typedSearchAttributes } = await rig.run(imageId).describe();
  return Object.fromEntries(
    Object.entries(SEARCH_ATTRIBUTES).map(([name, key]) => [name, typedSearchAttributes.get(key)]),
  );
}

const TABLE = ["| store | state | bytes | attempt | since | reason |", "|---|---|---|---|---|---|"];

/** The lines of the current details, without times. */
function linesOf({ currentDetails }: RunMetadata): string[] {
  return currentDetails
    .replaceAll("\u00a0", "")
    .replace(/\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC/g, "<time>")
    .split(/\n+/);
}

function anInstant(): unknown {
  return expect.stringMatching(/^\d{4}-\d\d-\d\dT[\d:.]+Z$/);
}

function ended(phase: string): unknown {
  return { phase, started_at: anInstant(), ended_at: anInstant() };
}

/**
 * The summaries that the Web UI shows of each step of the newest import of an image, in the order
 * in which they were planned.
 */
async function stepSummaries(rig: ImportRig, imageId: string): Promise<string[]> {
  const { events } = await rig.run(imageId).fetchHistory();
  return (events ?? [])
    .filter((event) => event.activityTaskScheduledEventAttributes != null)
    .map((event) => {
      const summary = event.userMetadata?.summary;
      return summary == null ? "" : defaultPayloadConverter.fromPayload<string>(summary);
    });
}
