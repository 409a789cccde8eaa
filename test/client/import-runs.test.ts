import { randomBytes, randomUUID } from "node:crypto";
import {
  Client,
  Connection,
  WorkflowNotFoundError,
  type ConnectionOptions,
} from "@temporalio/client";
import { describe, expect, inject, onTestFinished, vi } from "vitest";
import type { LookOptions } from "../../src/client/import-looks.ts";
import { ImportRuns } from "../../src/client/import-runs.ts";
import { Turns } from "../../src/client/turns.ts";
import type { ImportStatus } from "../../src/workflow/contract.ts";
import { failureOf } from "../support/failure-of.ts";
import { failsWith, Hold } from "../support/faults.ts";
import { it } from "../support/import-rig.ts";
import { MIB } from "../support/mib.ts";
import { connectTestClient } from "../support/temporal.ts";

/** Looks that follow one another fast. */
function looks(): LookOptions {
  return { everyMs: 20, turns: new Turns(0), ended: new AbortController().signal };
}

/** Does something before Temporal gets the next request for a cancellation. */
function beforeCancelRequest({ workflowService }: Client, act: () => Promise<void>): void {
  const request = workflowService.requestCancelWorkflowExecution.bind(workflowService);
  const requested = vi.spyOn(workflowService, "requestCancelWorkflowExecution");
  onTestFinished(() => {
    requested.mockRestore();
  });
  requested.mockImplementationOnce(async (given: Parameters<typeof request>[0]) => {
    await act();
    return request(given);
  });
}

type Interceptor = NonNullable<ConnectionOptions["interceptors"]>[number];

describe("ImportRuns", () => {
  describe("wait()", () => {
    it("follows the named run, not the newest", async ({ rig }) => {
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);
      rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));
      const first = await rig.client.imports.start(imageId, {});
      await failureOf(imports.wait(imageId, undefined));
      const second = await rig.client.imports.start(imageId, {});

      const ofFirst = failureOf(imports.wait(imageId, first.run_id));
      const ofSecond = imports.wait(imageId, second.run_id);

      expect(await ofFirst).toMatchObject({ code: "NoSpace" });
      expect(await ofSecond).toMatchObject({ status: "active", run_id: second.run_id });
    });

    it("reports that the import was terminated", async ({ rig }) => {
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);
      const storing = new Hold();
      rig.fail("storeImage fast", storing.before);
      await rig.client.imports.start(imageId, {});
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
        message: `Temporal has no import of image "${unknown}" that could answer`,
      });
    });
  });

  describe("run()", () => {
    it("waits only seconds for the result of a run that has completed", async ({ rig }) => {
      const imageId = await rig.stagedImage(randomBytes(1000));
      await rig.client.imports.start(imageId, {});
      await rig.client.imports.wait(imageId);
      const deadlines: unknown[] = [];
      const connection = await Connection.connect({
        address: inject("temporalAddress"),
        interceptors: [
          (options, nextCall) => {
            const { path } = options.method_definition;
            // As if no worker ran.
            if (path.endsWith("/QueryWorkflow")) options.deadline = Date.now();
            if (path.endsWith("/GetWorkflowExecutionHistory")) deadlines.push(options.deadline);
            // The type of grpc-js, which is none of our dependencies.
            // eslint-disable-next-line @typescript-eslint/no-unsafe-class-instance-assignment
            return nextCall(options) as ReturnType<Interceptor>;
          },
        ],
      });
      onTestFinished(() => connection.close());
      const { namespace } = rig.temporal.options;

      const run = await new ImportRuns(new Client({ connection, namespace })).run(imageId);

      expect(run).toMatchObject({ state: "completed", status: null });
      expect(deadlines).toHaveLength(1);
      expect(Number(deadlines[0]) - Date.now()).toBeLessThan(10_000);
    });
  });

  describe("status()", () => {
    it("adds the bytes of the copies that run", async ({ rig }) => {
      rig.holdCopies("slow");
      const imageId = await rig.stagedImage(randomBytes(8 * MIB));
      const imports = new ImportRuns(rig.temporal);
      await rig.client.imports.start(imageId, { stores: ["slow"] });
      await rig.copying(imageId, "slow");

      const { stores, size } = await imports.status(imageId);

      expect(size).toBe(8 * MIB);
      expect(stores).toMatchObject({
        slow: { state: "copying", done_bytes: expect.any(Number) as number, attempt: 1 },
      });
      expect((stores["slow"]?.done_bytes ?? 0) % MIB).toBe(0);
    });

    it("adds the attempt, and why the one before failed", async ({ rig }) => {
      rig.holdCopies("slow");
      const imageId = await rig.stagedImage(randomBytes(8 * MIB));
      const imports = new ImportRuns(rig.temporal);
      rig.fail("storeImage slow", failsWith("StoreUnavailable", "it is unreachable"));
      await rig.client.imports.start(imageId, { stores: ["slow"] });
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
    it("yields the status again and again, and finally the last status", async ({ rig }) => {
      const slow = rig.holdCopies("slow");
      const imageId = await rig.stagedImage(randomBytes(3 * MIB));
      const imports = new ImportRuns(rig.temporal);
      await rig.client.imports.start(imageId, { stores: ["slow"] });

      const seen: ImportStatus[] = [];
      for await (const status of imports.watch(imageId, looks())) {
        seen.push(status);
        if (status.phase === "storing") slow.release();
      }

      const phases = [...new Set(seen.map((status) => status.phase))];
      expect(phases).toContain("storing");
      expect(phases.at(-1)).toBe("done");
    });

    it("follows the named run, not the newest", async ({ rig }) => {
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);
      rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));
      const first = await rig.client.imports.start(imageId, {});
      await failureOf(imports.wait(imageId, undefined));
      await rig.client.imports.start(imageId, {});
      await imports.wait(imageId, undefined);

      let last: ImportStatus | undefined;
      for await (const status of imports.watch(imageId, { runId: first.run_id, ...looks() })) {
        last = status;
      }

      expect(last).toMatchObject({ phase: "failed", failure: { code: "NoSpace" } });
    });

    it("ends with the failure when the import fails", async ({ rig }) => {
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);
      rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));
      await rig.client.imports.start(imageId, {});

      let last: ImportStatus | undefined;
      for await (const status of imports.watch(imageId, looks())) last = status;

      expect(last).toMatchObject({
        phase: "failed",
        message: 'Error: NoSpace: store "fast": it is full',
      });
    });
  });

  describe("signal()", () => {
    it("reports that the import has ended already, and how", async ({ rig }) => {
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);
      await rig.client.imports.start(imageId, {});
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
    it("waits on request until the import has cleaned up", async ({ rig }) => {
      rig.holdCopies("slow");
      const imageId = await rig.stagedImage(randomBytes(8 * MIB));
      const imports = new ImportRuns(rig.temporal);
      await rig.client.imports.start(imageId, { stores: ["slow"] });
      await rig.copying(imageId, "slow");

      await imports.cancel(imageId, { wait: true, by: "ann@desk" });

      expect(await rig.state(imageId)).toMatchObject({ image: "uploading", leases: [], slow: [] });
      expect(await rig.client.imports.report(imageId)).toMatchObject({
        state: "failed",
        cancelled_by: "ann@desk",
      });
    });

    it("does not wait otherwise", async ({ rig }) => {
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);
      const undoing = new Hold();
      const storing = new Hold();
      rig.fail("storeImage fast", storing.before);
      rig.fail("releaseImport", undoing.before);
      await rig.client.imports.start(imageId, {});
      await storing.reached;

      await imports.cancel(imageId, { wait: false, by: "ann@desk" });

      await undoing.reached;
      expect((await imports.status(imageId)).phase).toBe("undoing");
      undoing.release();
      expect(await failureOf(imports.wait(imageId, undefined))).toMatchObject({
        code: "ImportCancelled",
        message: "The import was cancelled",
      });
    });

    it("reports that it came too late", async ({ rig }) => {
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);
      const activating = new Hold();
      rig.fail("activateImage", activating.before);
      await rig.client.imports.start(imageId, {});
      await activating.reached;

      const cancelled = failureOf(imports.cancel(imageId, { wait: true, by: "ann@desk" }));
      await rig.cancelRequested(imageId);
      activating.release();

      expect(await cancelled).toMatchObject({
        code: "ImportEnded",
        message: `Cannot cancel the import of image "${imageId}": it has published its copies already`,
      });
    });

    it("fails when the image was never imported", async () => {
      const imports = new ImportRuns(await connectTestClient());

      const failure = await failureOf(imports.cancel(randomUUID(), { wait: true, by: "ann@desk" }));

      expect(failure.code).toBe("ImportNotFound");
    });

    it("reports that the import has ended already, and how", async ({ rig }) => {
      const imageId = await rig.stagedImage(randomBytes(1000));
      const imports = new ImportRuns(rig.temporal);
      rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));
      await rig.client.imports.start(imageId, {});
      await failureOf(imports.wait(imageId, undefined));

      const failure = await failureOf(imports.cancel(imageId, { wait: true, by: "ann@desk" }));

      expect(failure).toMatchObject({
        code: "ImportEnded",
        message: `The import of image "${imageId}" has ended already (failed)`,
      });
    });

    it.for([true, false])(
      "reports that the import was refused before the request, waiting: %s",
      async (wait, { rig }) => {
        const imageId = await rig.stagedImage(randomBytes(1000));
        const imports = new ImportRuns(rig.temporal);
        const claiming = new Hold();
        rig.fail("claimImport", (step) =>
          claiming.before(() => failsWith("QuotaExceeded", "it is too large")(step)),
        );
        const started = failureOf(rig.client.imports.start(imageId, {}));
        await claiming.reached;
        beforeCancelRequest(rig.temporal, async () => {
          claiming.release();
          await failureOf(imports.wait(imageId, undefined));
        });

        const failure = await failureOf(imports.cancel(imageId, { wait, by: "ann@desk" }));

        expect(failure.message).toBe(
          `The import of image "${imageId}" has ended already (refused)`,
        );
        expect(failure.code).toBe("ImportEnded");
        expect((await started).code).toBe("QuotaExceeded");
      },
    );

    it.for(["takes", "refuses"])(
      "reports that the import ended before the request, which Temporal %s",
      async (answer, { rig }) => {
        const imageId = await rig.stagedImage(randomBytes(1000));
        const imports = new ImportRuns(rig.temporal);
        const storing = new Hold();
        rig.fail("storeImage fast", (step) =>
          storing.before(() => failsWith("NoSpace", "it is full")(step)),
        );
        await rig.client.imports.start(imageId, {});
        await storing.reached;
        beforeCancelRequest(rig.temporal, async () => {
          storing.release();
          await failureOf(imports.wait(imageId, undefined));
          if (answer === "takes") return;
          throw new WorkflowNotFoundError("It has completed", imageId, undefined);
        });

        const failure = await failureOf(imports.cancel(imageId, { wait: false, by: "ann@desk" }));

        expect(failure).toMatchObject({
          code: "ImportEnded",
          message: `The import of image "${imageId}" has ended already (failed)`,
        });
      },
    );
  });
});
