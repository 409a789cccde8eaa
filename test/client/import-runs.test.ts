import { randomBytes, randomUUID } from "node:crypto";
import { Client, Connection } from "@temporalio/client";
import { describe, expect, inject, it, vi } from "vitest";
import { ImportRuns } from "../../src/client/import-runs.ts";
import { UnansweredStart } from "../../src/client/unanswered-start.ts";
import type { ImportStatus } from "../../src/workflow/contract.ts";
import { failureOf } from "../support/failure-of.ts";
import { failsWith, Hold } from "../support/faults.ts";
import { createRig } from "../support/import-rig.ts";
import { MIB } from "../support/mib.ts";
import { Relay } from "../support/relay.ts";
import { connectTestClient } from "../support/temporal.ts";
import { PATIENCE } from "../support/patience.ts";

describe("ImportRuns", () => {
  describe("start()", () => {
    it("refuses an invalid request before it calls Temporal", async () => {
      const imports = new ImportRuns(await connectTestClient());

      const refused = failureOf(imports.start("disk.raw", { stores: [] }));

      expect(await refused).toMatchObject({
        code: "BadRequest",
        message:
          'Cannot import: image_id must be a UUID, not "disk.raw"; stores must be a list of store names, not empty, none twice, not []',
      });
    });

    it("fails when no worker answers in time, and the import continues once a worker runs", async () => {
      const rig = await createRig();
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);
      await rig.stopWorkers();

      // Long enough for the start to reach the server on a busy machine.
      const failure = await failureOf(imports.start(imageId, { acceptTimeoutMs: 10_000 }));
      await rig.startWorkers();
      const outcome = await imports.wait(imageId, undefined);

      expect(failure).toMatchObject({
        code: "NotAcceptedYet",
        message: `The import of image "${imageId}" is started, and no worker has accepted or refused it yet`,
      });
      expect(outcome.status).toBe("active");
    });
  });

  describe("start() without an answer", () => {
    /** A rig without a worker, and an image whose start the server has and no worker answers. */
    async function unanswered(requestId: string) {
      const rig = await createRig();
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);
      await rig.stopWorkers();
      const leaving = new AbortController();
      const failed = failureOf(imports.start(imageId, { requestId, signal: leaving.signal }));
      await vi.waitFor(() => rig.run(imageId).describe(), PATIENCE);
      leaving.abort();
      return { rig, imageId, imports, options: { requestId }, failure: await failed };
    }

    it("names the run that is started", async () => {
      const { rig, imageId, failure } = await unanswered(randomUUID());

      const { runId } = await rig.run(imageId).describe();
      expect(failure).toBeInstanceOf(UnansweredStart);
      expect(failure).toMatchObject({
        code: "NotAcceptedYet",
        run: { image_id: imageId, workflow_id: `image-import/${imageId}`, run_id: runId },
      });
      await rig.startWorkers();
      await rig.client.imports.wait(imageId);
    });

    it("returns the acceptance to the same request when the import has ended meanwhile", async () => {
      const { rig, imageId, imports, options } = await unanswered(randomUUID());
      await rig.startWorkers();
      const { task_id, workflow_id, run_id } = await imports.wait(imageId, undefined);

      const again = await imports.start(imageId, options);

      expect(again).toEqual({ image_id: imageId, task_id, workflow_id, run_id });
      expect(await rig.client.admin.listTasks({ imageId })).toHaveLength(1);
    });

    it("returns the refusal to the same request when it was refused meanwhile", async () => {
      const { rig, imageId, imports, options } = await unanswered(randomUUID());
      rig.fail("claimImport", failsWith("ImageConflict", "it may not be"));
      await rig.startWorkers();
      await failureOf(imports.wait(imageId, undefined));

      const again = failureOf(imports.start(imageId, options));

      expect(await again).toMatchObject({ code: "ImageConflict", message: "it may not be" });
    });

    it("reports that another import is open and no worker answers for it", async () => {
      const { rig, imageId, imports } = await unanswered(randomUUID());

      const second = await failureOf(imports.start(imageId, { acceptTimeoutMs: 500 }));

      expect(second).toMatchObject({
        code: "ImageBusy",
        message: expect.stringContaining("this one was not started") as string,
      });
      await rig.startWorkers();
      await rig.client.imports.wait(imageId);
    });

    it("reports NotAcceptedYet when the caller aborts", async () => {
      const rig = await createRig();
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);
      await rig.stopWorkers();
      const leaving = new AbortController();
      const failure = failureOf(imports.start(imageId, { signal: leaving.signal }));
      await vi.waitFor(() => rig.run(imageId).describe(), PATIENCE);

      leaving.abort();

      expect(await failure).toMatchObject({ code: "NotAcceptedYet" });
      await rig.startWorkers();
      await rig.client.imports.wait(imageId);
    });

    it("starts nothing when the caller has aborted before", async () => {
      const rig = await createRig();
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);

      const failure = await failureOf(imports.start(imageId, { signal: AbortSignal.abort() }));

      expect(failure.code).toBe("Interrupted");
      await imports.start(imageId, {});
      await imports.wait(imageId, undefined);
    });

    it("reports that the outcome is unknown when Temporal becomes unreachable", async () => {
      const rig = await createRig();
      const imageId = await rig.stagedImage(randomBytes(1000));
      await rig.stopWorkers();
      const address = `tcp://${inject("temporalAddress")}`;
      const relay = await Relay.open(address);
      const connection = await Connection.connect({
        address: new URL(relay.through(address)).host,
      });
      const imports = new ImportRuns(new Client({ connection, namespace: rig.namespace }));
      // Long enough for the start to reach the server on a busy machine, and no longer.
      const failure = failureOf(imports.start(imageId, { acceptTimeoutMs: 10_000 }));
      await vi.waitFor(() => rig.run(imageId).describe(), PATIENCE);

      relay.freeze();

      expect(await failure).toMatchObject({
        code: "TemporalUnavailable",
        message: expect.stringMatching(/^It is not known whether the import /) as string,
        run: undefined,
      });
      await rig.startWorkers();
      await rig.client.imports.wait(imageId);
      await connection.close();
    });
  });

  describe("wait()", () => {
    it("follows the named run, not the newest", async () => {
      const rig = await createRig();
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);
      rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));
      const first = await imports.start(imageId, {});
      await failureOf(imports.wait(imageId, undefined));
      const second = await imports.start(imageId, {});

      const ofFirst = failureOf(imports.wait(imageId, first.run_id));
      const ofSecond = imports.wait(imageId, second.run_id);

      expect(await ofFirst).toMatchObject({ code: "NoSpace" });
      expect(await ofSecond).toMatchObject({ status: "active", run_id: second.run_id });
    });

    it("reports that the import was terminated", async () => {
      const rig = await createRig();
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);
      const storing = new Hold();
      rig.fail("storeImage fast", storing.before);
      await imports.start(imageId, {});
      await storing.reached;

      await rig.run(imageId).terminate();

      expect(await failureOf(imports.wait(imageId, undefined))).toMatchObject({
        code: "ImportAbandoned",
        message:
          "The import was terminated; what it left is removed by the reconciler within minutes",
      });
    });

    it("fails when the image was never imported", async () => {
      const imports = new ImportRuns(await connectTestClient());
      const unknown = randomUUID();

      const failure = await failureOf(imports.wait(unknown, undefined));

      expect(failure).toMatchObject({
        code: "ImportNotFound",
        message: `Temporal knows no import of image "${unknown}" that could be asked`,
      });
    });
  });

  describe("status()", () => {
    it("adds the bytes of the copies that run", async () => {
      const rig = await createRig();
      rig.holdCopies("slow");
      const imageId = await rig.stagedImage(randomBytes(8 * MIB));
      const imports = new ImportRuns(rig.temporal);
      await imports.start(imageId, { stores: ["slow"] });
      await rig.copying(imageId, "slow");

      const { stores, size } = await imports.status(imageId);

      expect(size).toBe(8 * MIB);
      expect(stores).toEqual({
        slow: { state: "copying", done_bytes: expect.any(Number) as number, attempt: 1 },
      });
      expect((stores["slow"]?.done_bytes ?? 0) % MIB).toBe(0);
    });

    it("adds the attempt, and why the one before failed", async () => {
      const rig = await createRig();
      rig.holdCopies("slow");
      const imageId = await rig.stagedImage(randomBytes(8 * MIB));
      const imports = new ImportRuns(rig.temporal);
      rig.fail("storeImage slow", failsWith("StoreUnavailable", "it is unreachable"));
      await imports.start(imageId, { stores: ["slow"] });
      await rig.copying(imageId, "slow");

      const { stores } = await imports.status(imageId);

      expect(stores["slow"]).toMatchObject({
        state: "copying",
        attempt: 2,
        last_failure: "it is unreachable",
      });
    });

    it("fails when the image was never imported", async () => {
      const imports = new ImportRuns(await connectTestClient());

      const failure = await failureOf(imports.status(randomUUID()));

      expect(failure.code).toBe("ImportNotFound");
    });
  });

  describe("watch()", () => {
    it("yields the status again and again, and finally the last status", async () => {
      const rig = await createRig();
      const slow = rig.holdCopies("slow");
      const imageId = await rig.stagedImage(randomBytes(3 * MIB));
      const imports = new ImportRuns(rig.temporal);
      await imports.start(imageId, { stores: ["slow"] });

      const seen: ImportStatus[] = [];
      for await (const status of imports.watch(imageId, 20)) {
        seen.push(status);
        if (status.phase === "storing") slow.release();
      }

      const phases = [...new Set(seen.map((status) => status.phase))];
      expect(phases).toContain("storing");
      expect(phases.at(-1)).toBe("done");
    });

    it("ends with the failure when the import fails", async () => {
      const rig = await createRig();
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);
      rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));
      await imports.start(imageId, {});

      let last: ImportStatus | undefined;
      for await (const status of imports.watch(imageId, 20)) last = status;

      expect(last).toMatchObject({
        phase: "failed",
        message: 'Error: NoSpace: store "fast": it is full',
      });
    });
  });

  describe("signal()", () => {
    it("reports that the import has ended already, and how", async () => {
      const rig = await createRig();
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);
      await imports.start(imageId, {});
      await imports.wait(imageId, undefined);

      const failure = await failureOf(imports.signal(imageId, "pauseImport"));

      expect(failure).toMatchObject({
        code: "ImportEnded",
        message: `The import of image "${imageId}" has ended already (completed)`,
      });
    });

    it("fails when the image was never imported", async () => {
      const imports = new ImportRuns(await connectTestClient());

      const failure = await failureOf(imports.signal(randomUUID(), "resumeImport"));

      expect(failure.code).toBe("ImportNotFound");
    });
  });

  describe("cancel()", () => {
    it("waits on request until the import has cleaned up", async () => {
      const rig = await createRig();
      rig.holdCopies("slow");
      const imageId = await rig.stagedImage(randomBytes(8 * MIB));
      const imports = new ImportRuns(rig.temporal);
      await imports.start(imageId, { stores: ["slow"] });
      await rig.copying(imageId, "slow");

      await imports.cancel(imageId, true);

      expect(await rig.state(imageId)).toMatchObject({ image: "uploading", leases: [], slow: [] });
    });

    it("does not wait otherwise", async () => {
      const rig = await createRig();
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);
      const undoing = new Hold();
      const storing = new Hold();
      rig.fail("storeImage fast", storing.before);
      rig.fail("releaseImport", undoing.before);
      await imports.start(imageId, {});
      await storing.reached;

      await imports.cancel(imageId, false);

      await undoing.reached;
      expect((await imports.status(imageId)).phase).toBe("undoing");
      undoing.release();
      expect(await failureOf(imports.wait(imageId, undefined))).toMatchObject({
        code: "ImportCancelled",
        message: "The import was cancelled",
      });
    });

    it("reports that it came too late", async () => {
      const rig = await createRig();
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);
      const activating = new Hold();
      rig.fail("activateImage", activating.before);
      await imports.start(imageId, {});
      await activating.reached;

      const cancelled = failureOf(imports.cancel(imageId, true));
      await rig.cancelRequested(imageId);
      activating.release();

      expect(await cancelled).toMatchObject({
        code: "ImportEnded",
        message: `Image "${imageId}" became active before the cancel could stop it`,
      });
    });

    it("fails when the image was never imported", async () => {
      const imports = new ImportRuns(await connectTestClient());

      const failure = await failureOf(imports.cancel(randomUUID(), true));

      expect(failure.code).toBe("ImportNotFound");
    });

    it("reports that the import has ended already, and how", async () => {
      const rig = await createRig();
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);
      rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));
      await imports.start(imageId, {});
      await failureOf(imports.wait(imageId, undefined));

      const failure = await failureOf(imports.cancel(imageId, true));

      expect(failure).toMatchObject({
        code: "ImportEnded",
        message: `The import of image "${imageId}" has ended already (failed)`,
      });
    });
  });
});
