import { sql } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import { waitForPart } from "../support/growing-part.ts";
import { HeldRows } from "../support/held-rows.ts";
import { MIB } from "../support/mib.ts";
import { Service } from "../support/service.ts";

async function openService(): Promise<Service> {
  return Service.open({
    stores: { fast: {}, slow: {} },
    more: { import: { heartbeat_timeout: "3s" } },
  });
}

describe("an import whose worker is killed in an undo", () => {
  it("is undone by another worker", async () => {
    const service = await openService();
    const { client } = service;
    const worker = await service.startWorker();
    const imageId = await service.stagedImage(4 * MIB);
    service.holds.hold("slow", imageId);
    await client.imports.start(imageId, { stores: ["slow"] });
    await waitForPart(service.store("slow"), imageId, 1);
    const lease = await HeldRows.hold(
      service,
      sql`SELECT 1 FROM leases WHERE image_id = ${imageId}`,
    );
    await client.imports.cancel(imageId);
    await service.awaitStep(imageId, "removeCopy");
    await lease.awaitWaiters();
    await worker.kill();
    await lease.release();
    expect((await service.traces(imageId)).leases).toEqual(["slow writing"]);

    await service.startWorker();
    await client.imports.wait(imageId).catch(() => undefined);

    expect((await service.run(imageId).describe()).status.name).toBe("CANCELLED");
    // A worker that gets no processor time for seconds loses its attempt, too.
    expect(await service.attemptsOf(imageId, "removeCopy")).toEqual([
      expect.stringMatching(/^[2-9]: activity Heartbeat timeout$/),
    ]);
    expect(await service.traces(imageId)).toEqual({
      image: "uploading",
      isClaimed: false,
      locations: [],
      leases: [],
      staging: ["@"],
      stores: { fast: [], slow: [] },
    });
  });
});

describe("an active image whose worker is killed while it deletes the staged data", () => {
  it("loses the staged data to another worker, and can be copied then", async () => {
    const service = await openService();
    const { client } = service;
    const worker = await service.startWorker();
    const imageId = await service.stagedImage(4096);
    const staged = await HeldRows.hold(
      service,
      sql`SELECT 1 FROM staged_files WHERE image_id = ${imageId}`,
    );
    await client.imports.start(imageId, { stores: ["fast"] });
    await service.awaitStep(imageId, "publishImage");
    await staged.awaitWaiters();
    await worker.kill();
    await staged.release();
    expect(await service.traces(imageId)).toMatchObject({ image: "active", isClaimed: false });

    await service.startWorker();
    const outcome = await client.imports.wait(imageId);
    await client.imports.copy(imageId, { stores: ["slow"] });
    await client.imports.wait(imageId);

    expect(outcome).toMatchObject({ status: "active", unstaged: true });
    expect(await service.traces(imageId)).toEqual({
      image: "active",
      isClaimed: false,
      locations: ["fast active", "slow active"],
      leases: [],
      staging: [],
      stores: { fast: ["@.1"], slow: ["@.2"] },
    });
  });
});
