import { describe, expect, it } from "vitest";
import { useCatalogue } from "../support/catalogue.ts";
import { openNode } from "../support/node-rig.ts";

const catalogue = useCatalogue();

// The names stand in histories: a run that is under way asks for them after an upgrade, too.
describe("the steps, by the queue that they run on", () => {
  it("createControlActivities() gives those that need only the catalogue", async () => {
    const { control } = await openNode(catalogue);

    expect(Object.keys(control).sort()).toEqual([
      "activateImage",
      "awaitRelease",
      "claimImport",
      "countExpiredTasks",
      "expireTasks",
      "findAbandoned",
      "findLastFailures",
      "finishDeletion",
      "giveUpStore",
      "planDeletion",
      "releaseImport",
      "saveImage",
      "settlePublication",
    ]);
  });

  it("createByteActivities() gives those that move bytes", async () => {
    const { bytes } = await openNode(catalogue);

    expect(Object.keys(bytes).sort()).toEqual([
      "checkDigest",
      "digestStaged",
      "fetchImage",
      "storeImage",
      "transformStaged",
      "verifyStaging",
    ]);
  });

  it("createCleanUpActivities() gives the short ones, which never wait behind bytes", async () => {
    const { cleanUp } = await openNode(catalogue);

    expect(Object.keys(cleanUp).sort()).toEqual([
      "confirmCopies",
      "discardFetched",
      "discardProducts",
      "findUnowned",
      "probeStores",
      "publishImage",
      "removeCopy",
      "removeImageBytes",
      "removePublishedCopy",
      "sweepNode",
      "unstageImage",
    ]);
  });
});
