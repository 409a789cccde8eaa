import { randomBytes, randomUUID } from "node:crypto";
import {
  Client,
  Connection,
  WorkflowNotFoundError,
  WorkflowUpdateRPCTimeoutOrCancelledError,
} from "@temporalio/client";
import { describe, expect, inject, onTestFinished, vi } from "vitest";
import { ImportStarts } from "../../src/client/start-import.ts";
import { UnansweredStart } from "../../src/client/unanswered-start.ts";
import { failureOf } from "../support/failure-of.ts";
import { failsWith } from "../support/faults.ts";
import { createRig, it } from "../support/import-rig.ts";
import { Relay } from "../support/relay.ts";
import { connectTestClient } from "../support/temporal.ts";
import { PATIENCE } from "../support/patience.ts";

describe("ImportStarts", () => {
  describe("start()", () => {
    it("refuses an invalid request before it calls Temporal", async () => {
      const imports = new ImportStarts(await connectTestClient());

      const refused = failureOf(imports.start("disk.raw", { stores: [] }));

      expect(await refused).toMatchObject({
        code: "BadRequest",
        message:
          'Cannot import: image_id must be a UUID, not "disk.raw"; stores must be a list of store names, not empty, none twice, not []',
      });
    });

    it("gives up in time when the wall clock is set back meanwhile", async () => {
      vi.useFakeTimers({ toFake: ["performance", "Date"] });
      onTestFinished(() => {
        vi.useRealTimers();
      });
      let sent = 0;
      const executeUpdateWithStart = async (): Promise<never> => {
        sent += 1;
        if (sent > 1) throw new Error("sent again");
        vi.advanceTimersByTime(10_000);
        vi.setSystemTime(Date.now() - 3_600_000);
        throw new WorkflowUpdateRPCTimeoutOrCancelledError("deadline exceeded");
      };
      const describeNone = async (): Promise<never> => {
        throw new WorkflowNotFoundError("none", "", undefined);
      };
      const imports = new ImportStarts({
        withDeadline: (_: number, call: () => unknown) => call(),
        withAbortSignal: (_: AbortSignal, call: () => unknown) => call(),
        workflow: { executeUpdateWithStart, getHandle: () => ({ describe: describeNone }) },
      } as unknown as Client);

      const failure = await failureOf(imports.start(randomUUID(), { acceptTimeoutMs: 10_000 }));

      expect(failure).toMatchObject({ code: "TemporalUnavailable" });
      expect(sent).toBe(1);
    });

    it("fails when no worker answers in time, and the import continues once a worker runs", async ({
      rig,
    }) => {
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportStarts(rig.temporal);
      await rig.stopWorkers();

      // Long enough for the start to reach the server on a busy machine.
      const failure = await failureOf(imports.start(imageId, { acceptTimeoutMs: 10_000 }));
      await rig.startWorkers();
      const outcome = await rig.client.imports.wait(imageId);

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
      const imports = new ImportStarts(rig.temporal);
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
      const { task_id, workflow_id, run_id } = await rig.client.imports.wait(imageId);

      const again = await imports.start(imageId, options);

      expect(again).toEqual({ image_id: imageId, task_id, workflow_id, run_id });
      expect(await rig.client.admin.listTasks({ imageId })).toHaveLength(1);
    });

    it("returns the refusal to the same request when it was refused meanwhile", async () => {
      const { rig, imageId, imports, options } = await unanswered(randomUUID());
      rig.fail("claimImport", failsWith("ImageConflict", "it may not be"));
      await rig.startWorkers();
      await failureOf(rig.client.imports.wait(imageId));

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

    it("reports NotAcceptedYet when the caller aborts", async ({ rig }) => {
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportStarts(rig.temporal);
      await rig.stopWorkers();
      const leaving = new AbortController();
      const failure = failureOf(imports.start(imageId, { signal: leaving.signal }));
      await vi.waitFor(() => rig.run(imageId).describe(), PATIENCE);

      leaving.abort();

      expect(await failure).toMatchObject({ code: "NotAcceptedYet" });
      await rig.startWorkers();
      await rig.client.imports.wait(imageId);
    });

    it("starts nothing when the caller has aborted before", async ({ rig }) => {
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportStarts(rig.temporal);

      const failure = await failureOf(imports.start(imageId, { signal: AbortSignal.abort() }));

      expect(failure.code).toBe("Interrupted");
      await imports.start(imageId, {});
      await rig.client.imports.wait(imageId);
    });

    it("reports that the outcome is unknown when Temporal becomes unreachable", async ({ rig }) => {
      const imageId = await rig.stagedImage(randomBytes(1000));
      await rig.stopWorkers();
      const address = `tcp://${inject("temporalAddress")}`;
      const relay = await Relay.open(address);
      const connection = await Connection.connect({
        address: new URL(relay.through(address)).host,
      });
      const imports = new ImportStarts(new Client({ connection, namespace: rig.namespace }));
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
});
