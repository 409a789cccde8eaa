import { randomUUID } from "node:crypto";
import { Client } from "@temporalio/client";
import { DefaultLogger } from "@temporalio/worker";
import { eq, sql } from "drizzle-orm";
import { describe, expect, it, onTestFinished, vi } from "vitest";
import { listFreeUploads, takeFreeUpload } from "../../src/db/direct-upload-records.ts";
import { beginResumable, renewResumable } from "../../src/db/resumable-records.ts";
import { leases } from "../../src/db/schema.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import { thisProcess } from "../../src/processes/process-identity.ts";
import { UploadUpkeep } from "../../src/worker/upload-upkeep.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { openNode, type NodeRig } from "../support/node-rig.ts";
import { PATIENCE } from "../support/patience.ts";

const catalogue = useCatalogue();

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
  it("removes an upload that has expired by the clock of the database", async () => {
    const rig = await openNode(catalogue);
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
  it("measures by the clock of the database", async () => {
    const rig = await openNode(catalogue);
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
  it("leaves an upload that its writer has renewed since it was listed", async () => {
    const rig = await openNode(catalogue);
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
