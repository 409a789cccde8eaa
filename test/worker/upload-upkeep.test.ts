import { randomUUID } from "node:crypto";
import { Client, WorkflowFailedError, WorkflowNotFoundError } from "@temporalio/client";
import { ApplicationFailure, TerminatedFailure } from "@temporalio/common";
import { DefaultLogger } from "@temporalio/worker";
import { eq, sql } from "drizzle-orm";
import { describe, expect, onTestFinished, vi } from "vitest";
import { stageData } from "../../src/client/stage-image.ts";
import { listFreeUploads, takeFreeUpload } from "../../src/db/direct-upload-records.ts";
import { beginResumable, renewResumable } from "../../src/db/resumable-records.ts";
import { leases } from "../../src/db/schema.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import { abandonedTask, taskFailure, type TaskFailure } from "../../src/domain/task-failure.ts";
import { thisProcess } from "../../src/processes/process-identity.ts";
import { UploadUpkeep } from "../../src/worker/upload-upkeep.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { type NodeRig, onNode, runStep, someBytes } from "../support/node-rig.ts";
import { PATIENCE } from "../support/patience.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);

const HOUR_MS = 3_600_000;

/** An upload that waits for its next bytes. */
async function beginUpload(rig: NodeRig): Promise<{ imageId: string; token: string }> {
  const imageId = await catalogue.newImage();
  const { staging, database } = rig.dependencies;
  const part = `${imageId}.0.00000000.part`;
  const attempt = {
    ...{ imageId, node: staging.node, token: randomUUID(), writer: await thisProcess() },
    ...{ part, path: staging.pathOf(imageId), sizeBytes: 100, replace: false },
  };
  const upload = { generation: randomUUID(), metadata: "", timeToLiveMs: HOUR_MS };
  await database.transaction((db) => beginResumable(db, NO_LIMITS, attempt, upload));
  return attempt;
}

async function expire(imageId: string): Promise<void> {
  await catalogue.database.query((db) =>
    db
      .update(leases)
      .set({ resumableUntil: sql`now() - interval '1 second'` })
      .where(eq(leases.imageId, imageId)),
  );
}

/** Sets the clock of this machine, but not that of the database. */
function setClock(byMs: number): void {
  vi.useFakeTimers({ now: Date.now() + byMs, toFake: ["Date"] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
}

async function freeUpload(rig: NodeRig, imageId: string) {
  const { database, staging } = rig.dependencies;
  const all = await database.query((db) => listFreeUploads(db, staging.node));
  const found = all.find((upload) => upload.imageId === imageId);
  if (found === undefined) throw new Error("The upload is not listed");
  return found;
}

describe("UploadUpkeep", () => {
  it("removes an upload that has expired by the clock of the database", async ({ rig }) => {
    const { imageId } = await beginUpload(rig);
    await expire(imageId);
    setClock(-24 * HOUR_MS);
    const upkeep = new UploadUpkeep({
      // It is asked about complete uploads only.
      client: Client.prototype,
      dependencies: rig.dependencies,
      logger: new DefaultLogger("ERROR"),
    });
    onTestFinished(() => {
      upkeep.stop();
    });

    upkeep.start();

    const isGone = async () => (await catalogue.image(imageId)).status === "queued";
    await vi.waitUntil(isGone, PATIENCE);
    expect(await catalogue.staged(imageId)).toBeUndefined();
  });
});

describe("listFreeUploads()", () => {
  it("measures by the clock of the database", async ({ rig }) => {
    const { imageId } = await beginUpload(rig);
    setClock(24 * HOUR_MS);

    const upload = await freeUpload(rig, imageId);

    expect(upload.isExpired).toBe(false);
    expect(upload.silentMs).toBeLessThan(HOUR_MS);
    await expire(imageId);
    expect((await freeUpload(rig, imageId)).isExpired).toBe(true);
  });
});

describe("takeFreeUpload()", () => {
  it("leaves an upload that its writer has renewed since it was listed", async ({ rig }) => {
    const { imageId, token } = await beginUpload(rig);
    const { database, staging } = rig.dependencies;
    const taker = { node: staging.node, token: randomUUID(), writer: await thisProcess() };
    await expire(imageId);
    const upload = await freeUpload(rig, imageId);
    // Times are compared in milliseconds.
    await database.query((db) => db.execute(sql`SELECT pg_sleep(0.002)`));
    await database.query((db) => renewResumable(db, { imageId, token }, HOUR_MS));

    const take = (listed: typeof upload) =>
      database.transaction((db) => takeFreeUpload(db, listed, taker));

    expect(await take(upload)).toBeUndefined();
    expect(await take(await freeUpload(rig, imageId))).toMatchObject({ imageId, token });
  });
});

const REQUEST = "req-1";

/** The newest run of the import of an image, as Temporal has it. */
interface Run {
  readonly status: string;
  /** Default: it is the run of {@link REQUEST}. */
  readonly requestId?: string;
  /** The result, or the error that waiting for it throws. */
  readonly end?: unknown;
}

/** A Temporal server with one run, or none; `started` has the requests of the runs after it. */
function temporalWith(run: Run | undefined) {
  const started: unknown[] = [];
  const { status, requestId = REQUEST, end } = run ?? { status: "" };
  const runId = randomUUID();
  const handle = {
    describe: async () => {
      if (run === undefined) throw new WorkflowNotFoundError("", "", undefined);
      return { memo: { request_id: requestId }, status: { name: status }, runId };
    },
    result: async () => {
      if (end instanceof Error) throw end;
      return end;
    },
  };
  const workflow = {
    getHandle: () => handle,
    start: async (_: string, { args }: { args: unknown[] }) => {
      started.push(...args);
    },
  };
  return { client: { workflow } as unknown as Client, started };
}

/** The failure of a run whose claim failed with this code. */
function failedClaim(code: string): WorkflowFailedError {
  const cause = ApplicationFailure.create({ type: code, details: [{ code, step: "claim" }] });
  return new WorkflowFailedError("failed", cause, "NON_RETRYABLE_FAILURE");
}

const TERMINATED = new WorkflowFailedError(
  "terminated",
  new TerminatedFailure("by an operator"),
  "NON_RETRYABLE_FAILURE",
);

/** A complete upload whose process has died before the import was accepted. */
async function uploaded(rig: NodeRig): Promise<string> {
  const imageId = await catalogue.newImage();
  await stageData(rig.stagingTools, imageId, await rig.upload(someBytes(100)), {
    importAfter: { request_id: REQUEST },
  });
  await catalogue.silenceStager(imageId, 30);
  return imageId;
}

/**
 * The decision about the upload: `imported`, `removed`, or `left` as it is.
 *
 * @param pauseMs - until the second look, if the first one has decided nothing
 */
async function decide(
  rig: NodeRig,
  imageId: string,
  run: Run | undefined,
  pauseMs = 60_000,
): Promise<string> {
  vi.useFakeTimers({ toFake: ["performance"] });
  onTestFinished(() => {
    vi.useRealTimers();
  });
  const { client, started } = temporalWith(run);
  const logger = new DefaultLogger("ERROR");
  const upkeep = new UploadUpkeep({ client, dependencies: rig.dependencies, logger });
  await upkeep.look();
  vi.advanceTimersByTime(pauseMs);
  if (started.length === 0) await upkeep.look();
  const { status } = await catalogue.image(imageId);
  const isThere = (await rig.names("staging")).includes(imageId);
  if (!isThere) return status === "queued" ? "removed" : status;
  if (started.length === 0) return "left";
  expect(started).toMatchObject([{ image_id: imageId, request_id: REQUEST }]);
  return "imported";
}

const REFUSED_RESULT = { status: "refused", failure: { code: "ImageConflict", step: "claim" } };

describe("UploadUpkeep, of a complete upload without a task", () => {
  it.for<[string, string, Run | undefined]>([
    ["imported", "without a run", undefined],
    ["imported", "after the run of another request", { status: "COMPLETED", requestId: "req-0" }],
    ["left", "while its run is open", { status: "RUNNING" }],
    ["removed", "after a refusal", { status: "COMPLETED", end: REFUSED_RESULT }],
    ["removed", "after a failed claim", { status: "FAILED", end: failedClaim("QuotaExceeded") }],
    ["removed", "after a cancel", { status: "CANCELLED" }],
    ["imported", "after a terminate", { status: "TERMINATED", end: TERMINATED }],
    [
      "imported",
      "after a wrong worker",
      { status: "FAILED", end: failedClaim("BadConfiguration") },
    ],
    [
      "imported",
      "after a worker without a staging area",
      { status: "FAILED", end: failedClaim("BadTaskConfiguration") },
    ],
  ])("is %s %s", async ([decision, , run], { rig }) => {
    const imageId = await uploaded(rig);

    expect(await decide(rig, imageId, run)).toBe(decision);
  });

  it("waits before it follows a closed run with another one", async ({ rig }) => {
    const imageId = await uploaded(rig);
    const run = { status: "FAILED", end: failedClaim("BadConfiguration") };

    expect(await decide(rig, imageId, run, 30_000)).toBe("left");
  });
});

describe("UploadUpkeep, of a complete upload whose import has failed", () => {
  /** Takes and releases the claim of an image. */
  async function failOnce(rig: NodeRig, imageId: string, failure: TaskFailure): Promise<void> {
    const claimed = await rig.claim(imageId, {});
    await catalogue.execute(
      sql`UPDATE tasks SET request_id = ${REQUEST} WHERE id = ${claimed.task_id}`,
    );
    const order = {
      image_id: imageId,
      workflow_id: `image-import/${imageId}`,
      run_id: claimed.run_id,
      failed_stores: [],
    };
    await runStep(() => rig.control.releaseImport({ ...order, ...failure }));
  }

  const unsafe = taskFailure({ code: "UnsafeImage" }, "it refers to another file");
  const run = { status: "TERMINATED", end: TERMINATED };

  it("removes it", async ({ rig }) => {
    const imageId = await uploaded(rig);
    await failOnce(rig, imageId, unsafe);

    expect(await decide(rig, imageId, run)).toBe("removed");
  });

  it("imports it again if the run ended without an undo", async ({ rig }) => {
    const imageId = await uploaded(rig);
    await failOnce(rig, imageId, abandonedTask("its run was ended without an undo"));

    expect(await decide(rig, imageId, run)).toBe("imported");
  });

  it.for(["BadConfiguration", "BadTaskConfiguration"])(
    "imports it again if it failed with %s",
    async (code, { rig }) => {
      const imageId = await uploaded(rig);
      await failOnce(rig, imageId, taskFailure({ code, step: "verify" }, "it is not configured"));
      const cause = ApplicationFailure.create({ details: [{ code, step: "verify" }], type: code });
      const end = new WorkflowFailedError("failed", cause, "NON_RETRYABLE_FAILURE");

      expect(await decide(rig, imageId, { status: "FAILED", end })).toBe("imported");
    },
  );

  it("uses the newest task of the request", async ({ rig }) => {
    const imageId = await uploaded(rig);
    await failOnce(rig, imageId, abandonedTask("its run was ended without an undo"));
    await failOnce(rig, imageId, unsafe);

    expect(await decide(rig, imageId, run)).toBe("removed");
  });
});
