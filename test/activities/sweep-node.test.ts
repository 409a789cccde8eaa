import { randomUUID } from "node:crypto";
import { mkdir, rename, stat, symlink, utimes, writeFile } from "node:fs/promises";
import { sql } from "drizzle-orm";
import { describe, expect } from "vitest";
import { sweepNode } from "../../src/activities/sweep-node.ts";
import { newPartName } from "../../src/bytes/part-name.ts";
import { thisProcess } from "../../src/processes/process-identity.ts";
import { adoptStagedFile } from "../../src/client/stage-image.ts";
import { takeAbandonedLease } from "../../src/db/lease-records.ts";
import { beginStaging } from "../../src/db/upload-records.ts";
import { uploadOf } from "../../src/domain/place.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import { storeKey } from "../../src/stores/store.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { MIB } from "../support/mib.ts";
import { type NodeRig, onNode, openNode, runStep, someBytes } from "../support/node-rig.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);
const NOTHING = { staged: 0, parts: 0 };

async function sweep(rig: NodeRig) {
  return runStep(() => rig.cleanUp.sweepNode());
}

/** Leaves an upload in the middle of its bytes, with its row and its part. */
async function beginToStage(rig: NodeRig): Promise<{ imageId: string; part: string }> {
  const imageId = await catalogue.newImage();
  const part = newPartName(imageId, 0);
  const { staging } = rig.dependencies;
  const attempt = {
    imageId,
    node: staging.node,
    token: randomUUID(),
    writer: await thisProcess(),
    part,
    path: staging.pathOf(imageId),
    sizeBytes: 0,
    replace: false,
  };
  await catalogue.database.transaction((db) => beginStaging(db, NO_LIMITS, attempt));
  await writeFile(rig.staged(part), someBytes(100));
  return { imageId, part };
}

/** Makes a file look as if it had last been written a minute ago. */
async function age(path: string): Promise<void> {
  const then = new Date(Date.now() - 60_000);
  await utimes(path, then, then);
}

/** A private file that no row names. */
async function orphan(path: (name: string) => string): Promise<string> {
  const name = newPartName(randomUUID(), 3);
  await writeFile(path(name), someBytes(100));
  return name;
}

describe("sweepNode() in the staging area", () => {
  it("removes the part of an upload whose process died, and moves the image back to queued", async ({
    rig,
  }) => {
    const { imageId } = await beginToStage(rig);
    await catalogue.silenceStager(imageId, 21);

    expect(await sweep(rig)).toEqual({ staged: 1, parts: 0 });
    expect(await rig.names("staging")).toEqual([]);
    expect(await catalogue.staged(imageId)).toBeUndefined();
    expect((await catalogue.image(imageId)).status).toBe("queued");
  });

  it("removes also the final name that an upload got before its process died", async ({ rig }) => {
    const { imageId, part } = await beginToStage(rig);
    await rename(rig.staged(part), rig.staged(imageId));
    await catalogue.silenceStager(imageId, 21);

    await sweep(rig);

    expect(await rig.names("staging")).toEqual([]);
  });

  it("leaves an upload alone while its process lives, however old its part is", async ({ rig }) => {
    const { imageId, part } = await beginToStage(rig);
    await age(rig.staged(part));

    expect(await sweep(rig)).toEqual(NOTHING);
    expect(await rig.names("staging")).toEqual([part]);
    expect((await catalogue.image(imageId)).status).toBe("uploading");
  });

  it("removes staged data past its time to live, and moves the image back to queued", async ({
    rig,
  }) => {
    const imageId = await rig.stage(someBytes(100));
    await catalogue.expireStaged(imageId);

    expect(await sweep(rig)).toEqual({ staged: 1, parts: 0 });
    expect(await rig.names("staging")).toEqual([]);
    expect(await catalogue.image(imageId)).toMatchObject({ status: "queued", sizeBytes: null });
  });

  it("keeps staged data until then", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));
    await age(rig.staged(imageId));

    expect(await sweep(rig)).toEqual(NOTHING);
    expect(await rig.names("staging")).toEqual([imageId]);
  });

  it("keeps the staged data that an import holds, also past its time to live", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(100));
    await catalogue.expireStaged(plan.image_id);
    const before = await rig.snapshot(plan);

    expect(await sweep(rig)).toEqual(NOTHING);
    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it("removes the staged data that the import of a published image could not unstage", async () => {
    const rig = await openNode(catalogue, { stores: { fast: { zeroCopy: true } } });
    const plan = await rig.import(someBytes(100));

    expect(await sweep(rig)).toEqual({ staged: 1, parts: 0 });
    expect(await rig.names("staging")).toEqual([]);
    expect((await stat(rig.copyPath(plan))).nlink).toBe(1);
    expect((await catalogue.image(plan.image_id)).status).toBe("active");
  });

  it("removes the staged data that a dead sweeper took over and did not remove", async ({
    rig,
  }) => {
    const imageId = await rig.stage(someBytes(100));
    await catalogue.expireStaged(imageId);
    const sweeper = { node: rig.dependencies.staging.node, writer: await thisProcess() };
    await catalogue.database.transaction((db) =>
      takeAbandonedLease(db, uploadOf(imageId), { ...sweeper, token: randomUUID() }),
    );
    expect(await sweep(rig)).toEqual(NOTHING);
    await catalogue.silenceStager(imageId, 21);

    expect(await sweep(rig)).toEqual({ staged: 1, parts: 0 });
    expect(await rig.names("staging")).toEqual([]);
    expect((await catalogue.image(imageId)).status).toBe("queued");
  });

  it("leaves the staged data of other nodes to their workers", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));
    await catalogue.execute(sql`UPDATE leases SET node = 'ffffffffffff'`);
    await catalogue.expireStaged(imageId);

    expect(await sweep(rig)).toEqual(NOTHING);
    expect(await rig.names("staging")).toEqual([imageId]);
  });

  it("removes private files that no row names, once they are old", async ({ rig }) => {
    const old = await orphan((name) => rig.staged(name));
    await age(rig.staged(old));
    const young = await orphan((name) => rig.staged(name));

    expect(await sweep(rig)).toEqual({ staged: 0, parts: 1 });
    expect(await rig.names("staging")).toEqual([young]);
  });

  it("leaves every other name alone", async ({ rig }) => {
    await writeFile(rig.staged("disk.raw"), someBytes(100));
    await age(rig.staged("disk.raw"));

    expect(await sweep(rig)).toEqual(NOTHING);
    expect(await rig.names("staging")).toEqual(["disk.raw"]);
  });

  it("removes nothing when it is run again", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));
    await catalogue.expireStaged(imageId);
    await sweep(rig);

    expect(await sweep(rig)).toEqual(NOTHING);
  });
});

describe("sweepNode() in the stores", () => {
  it("removes private files that no lease names, once they are old", async ({ rig }) => {
    const old = await orphan((name) => rig.stored(name, "slow"));
    await age(rig.stored(old, "slow"));
    const young = await orphan((name) => rig.stored(name, "slow"));

    expect(await sweep(rig)).toEqual({ staged: 0, parts: 1 });
    expect(await rig.names("slow")).toEqual([young]);
  });

  it("keeps the part of a copy that has a lease, however old it is", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(3 * MIB));
    const { writer, part } = await rig.heldElsewhere(plan, 3 * MIB);
    await writer.kill();
    await age(rig.stored(part));

    expect(await sweep(rig)).toEqual(NOTHING);
    expect(await rig.names("fast")).toEqual([part]);
  });

  it("keeps published copies, and names that are not ours", async ({ rig }) => {
    const plan = await rig.import(someBytes(100));
    await runStep(() => rig.cleanUp.unstageImage(plan));
    await writeFile(rig.stored("README"), "theirs");
    await age(rig.stored("README"));
    await age(rig.copyPath(plan));

    expect(await sweep(rig)).toEqual(NOTHING);
    expect(await rig.names("fast")).toEqual([storeKey(plan.image_id, plan.epoch), "README"].sort());
  });

  it("leaves out a store that is unreachable", async ({ rig }) => {
    const old = await orphan((name) => rig.stored(name, "slow"));
    await age(rig.stored(old, "slow"));
    await rename(rig.stored("", "fast"), rig.stored("", "away"));

    expect(await sweep(rig)).toEqual({ staged: 0, parts: 1 });
    expect(await rig.names("slow")).toEqual([]);
  });
});

describe("sweepNode() when something can't be removed", () => {
  /** Staged data whose directory has become a way out of the staging area. */
  async function unsweepable(rig: NodeRig): Promise<string> {
    const imageId = await catalogue.newImage();
    await mkdir(rig.staged("inner"));
    await writeFile(rig.staged("inner/disk.raw"), someBytes(100));
    await adoptStagedFile(rig.stagingTools, imageId, rig.uri("inner/disk.raw"));
    await rename(rig.staged("inner"), rig.stored("inner", "slow"));
    await symlink(rig.stored("inner", "slow"), rig.staged("inner"));
    await catalogue.expireStaged(imageId);
    return imageId;
  }

  it("removes all the rest, and then fails", async ({ rig }) => {
    await unsweepable(rig);
    const imageId = await rig.stage(someBytes(100));
    await catalogue.expireStaged(imageId);
    const old = await orphan((name) => rig.stored(name));
    await age(rig.stored(old));

    await expect(sweep(rig)).rejects.toThrow("does not lie below");
    expect(await catalogue.staged(imageId)).toBeUndefined();
    expect(await rig.names("staging")).toEqual(["inner"]);
    expect(await rig.names("fast")).toEqual([]);
  });

  it("sweeps the stores also while a private file in staging can't be removed", async ({ rig }) => {
    const part = newPartName(randomUUID(), 3);
    await mkdir(rig.staged(part));
    await age(rig.staged(part));
    const old = await orphan((name) => rig.stored(name));
    await age(rig.stored(old));

    await expect(sweep(rig)).rejects.toThrow("EISDIR");
    expect(await rig.names("fast")).toEqual([]);
  });

  it("touches nothing outside", async ({ rig }) => {
    const imageId = await unsweepable(rig);

    await expect(sweep(rig)).rejects.toThrow("does not lie below");
    expect(await rig.names("slow/inner")).toEqual(["disk.raw"]);
    expect(await catalogue.staged(imageId)).toBeDefined();
  });
});

describe("sweepNode(), called by a worker that starts", () => {
  it("needs no activity around it", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));
    await catalogue.expireStaged(imageId);

    expect(await sweepNode(rig.dependencies)).toEqual({ staged: 1, parts: 0 });
  });
});
