import { randomBytes } from "node:crypto";
import { DefaultLogger } from "@temporalio/worker";
import { describe, expect, onTestFinished, vi } from "vitest";
import {
  hasReconcilerSchedule,
  scheduleReconciler,
} from "../../src/temporal/reconcile-schedule.ts";
import { missingSearchAttributes } from "../../src/temporal/search-attributes.ts";
import { TemporalUpkeep } from "../../src/worker/temporal-upkeep.ts";
import { RECONCILER_ID, SEARCH_ATTRIBUTES } from "../../src/workflow/contract.ts";
import { type ImportRig, it } from "../support/import-rig.ts";
import { PATIENCE } from "../support/patience.ts";

/** Takes the search attributes of imports away, as when the server comes back without its data. */
async function loseSearchAttributes({ temporal, namespace }: ImportRig): Promise<void> {
  await temporal.connection.operatorService.removeSearchAttributes({
    namespace,
    searchAttributes: Object.values(SEARCH_ATTRIBUTES).map(({ name }) => name),
  });
}

describe("TemporalUpkeep", () => {
  it("makes the Schedule and the search attributes again when the server has lost them", async ({
    rig,
  }) => {
    const { temporal, namespace } = rig;
    const upkeep = new TemporalUpkeep(temporal, namespace, 2_000, new DefaultLogger("ERROR"));
    onTestFinished(() => {
      upkeep.stop();
    });
    await upkeep.start();
    expect(await hasReconcilerSchedule(temporal)).toBe(true);

    await temporal.schedule.getHandle(RECONCILER_ID).delete();
    await loseSearchAttributes(rig);

    await vi.waitFor(async () => {
      expect(await hasReconcilerSchedule(temporal)).toBe(true);
      expect(await missingSearchAttributes(temporal.connection, namespace)).toEqual([]);
    }, PATIENCE);
    upkeep.stop();
    await temporal.schedule.getHandle(RECONCILER_ID).delete();
    expect(await rig.reconcile()).toMatchObject({ failures: [] });
  });

  it("sets the interval of an existing Schedule soon after the server has refused it once", async ({
    rig,
  }) => {
    const { temporal, namespace } = rig;
    await scheduleReconciler(temporal, 1_800_000);
    vi.spyOn(temporal.schedule, "create").mockRejectedValueOnce(new Error("unavailable"));
    const upkeep = new TemporalUpkeep(temporal, namespace, 3_600_000, new DefaultLogger("ERROR"));
    onTestFinished(() => {
      upkeep.stop();
    });

    await upkeep.start();

    // The regular look comes after 30 s.
    await vi.waitFor(
      async () => {
        const { spec } = await temporal.schedule.getHandle(RECONCILER_ID).describe();
        expect(spec.intervals).toMatchObject([{ every: 3_600_000 }]);
      },
      { timeout: 25_000 },
    );
    expect(await rig.reconcile()).toMatchObject({ failures: [] });
  });
});

describe("importImage() on a server that has lost the search attributes", () => {
  it("imports the image", async ({ rig }) => {
    const imageId = await rig.stagedImage(randomBytes(1000));
    await loseSearchAttributes(rig);

    await rig.client.imports.start(imageId);

    expect(await rig.client.imports.wait(imageId)).toMatchObject({ status: "active" });
  });
});
