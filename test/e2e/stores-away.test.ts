import { rename } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it, vi } from "vitest";
import { waitForPart } from "../support/growing-part.ts";
import { MIB } from "../support/mib.ts";
import { Service } from "../support/service.ts";
import type { WorkerProcess } from "../support/worker-process.ts";

async function openService(): Promise<Service> {
  return Service.open({
    stores: { away: {}, here: {} },
    more: {
      import: { heartbeat_timeout: "3s", slots: 8 },
      // The test starts the reconciler.
      reconcile_every: "300d",
    },
  });
}

/** Starts an import, and terminates its run in the middle of the copy. */
async function terminatedImport(
  service: Service,
  worker: WorkerProcess,
  store: string,
): Promise<string> {
  const imageId = await service.stagedImage(4 * MIB);
  service.holds.hold(store, imageId);
  await service.client.imports.start(imageId, { stores: [store] });
  await waitForPart(service.store(store), imageId, 1);
  await service.run(imageId).terminate();
  // Its worker learns that by a heartbeat.
  await vi.waitUntil(() => worker.openFiles(imageId).length === 0, {
    timeout: 60_000,
    interval: 50,
  });
  return imageId;
}

const UNDONE = {
  image: "uploading",
  isClaimed: false,
  locations: [],
  leases: [],
  staging: ["@"],
  stores: { away: [], here: [] },
};

describe("the reconciler, while a store is unreachable", () => {
  it("undoes the copy in the other store, and the rest when the store is reachable again", async () => {
    const service = await openService();
    const worker = await service.startWorker();
    const inAway = await Promise.all(
      [1, 2, 3, 4, 5].map(() => terminatedImport(service, worker, "away")),
    );
    const inHere = await terminatedImport(service, worker, "here");
    const elsewhere = join(service.dataDir, "elsewhere");
    await rename(service.store("away"), elsewhere);

    const first = await service.reconcile();
    await rename(elsewhere, service.store("away"));
    const afterFirst = await Promise.all(inAway.map((imageId) => service.traces(imageId)));
    const undone = await service.traces(inHere);
    const second = await service.reconcile();

    expect(first).toMatchObject({ claims: 6, copies: 1, deletions: 0 });
    const failures = [...first.failures].sort();
    expect(failures).toHaveLength(5);
    for (const [index, imageId] of [...inAway].sort().entries()) {
      expect(failures[index]).toContain(`copy of ${imageId} in away: StoreUnavailable: `);
    }
    expect(undone).toEqual(UNDONE);
    for (const traces of afterFirst) {
      expect(traces).toMatchObject({ isClaimed: false, leases: ["away writing"] });
    }
    expect(second).toMatchObject({ claims: 0, copies: 5, deletions: 0, failures: [] });
    for (const imageId of inAway) expect(await service.traces(imageId)).toEqual(UNDONE);
  });
});

describe("the reconciler, while a node has no worker", () => {
  it("undoes what other nodes have, and the rest when a worker serves the node again", async () => {
    const service = await openService();
    const worker = await service.startWorker();
    const onDeadNode = [
      await terminatedImport(service, worker, "away"),
      await terminatedImport(service, worker, "here"),
    ];
    await worker.kill();
    const other = await service.node("other");
    const otherWorker = await other.startWorker();
    const onOther = await terminatedImport(other, otherWorker, "here");

    const first = await service.reconcile();
    const undone = await other.traces(onOther);
    await service.startWorker();
    const second = await service.reconcile();

    expect(first).toMatchObject({ claims: 3, copies: 1, deletions: 0 });
    const [ofFirst, ofSecond, ofSweep] = [...first.failures].sort();
    const [firstId, secondId] = [...onDeadNode].sort();
    expect(ofFirst).toMatch(new RegExp(`copy of ${String(firstId)} .*its node is unreachable`));
    expect(ofSecond).toMatch(new RegExp(`copy of ${String(secondId)} .*its node is unreachable`));
    expect(ofSweep).toMatch(/^sweep of .*Timeout/);
    expect(first.failures).toHaveLength(3);
    expect(undone).toEqual({ ...UNDONE, staging: [] });
    expect(second).toMatchObject({ claims: 0, copies: 2, deletions: 0, failures: [] });
    for (const imageId of onDeadNode) expect(await service.traces(imageId)).toEqual(UNDONE);
  });
});
