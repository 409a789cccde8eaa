import { link, readFile, rename, stat, writeFile } from "node:fs/promises";
import { eq, sql } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import { newPartName } from "../../src/bytes/part-name.ts";
import { updateLease } from "../../src/db/lease-records.ts";
import { leases } from "../../src/db/schema.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { deadProcess } from "../support/child-program.ts";
import { HeldRows } from "../support/held-rows.ts";
import { beginAnswer, honest, HostileOrigin, type Behaviour } from "../support/hostile-origin.ts";
import { MIB } from "../support/mib.ts";
import { openNode, outcomeOf, someBytes, type NodeRig } from "../support/node-rig.ts";

const catalogue = useCatalogue();

const SIZE_BYTES = 10 * MIB + 17;
const BYTES = someBytes(SIZE_BYTES);
const AT_60_PERCENT = Math.floor(SIZE_BYTES * 0.6);
// A private file holds whole blocks while it grows.
const ALL_BLOCKS_BEFORE = Math.floor(AT_60_PERCENT / MIB) * MIB;

/** Sends 60 %, the rest when the test says so, and behaves from the second request on. */
function holdingAt60Percent(): { readonly behaviour: Behaviour; readonly release: () => void } {
  let release: () => void = () => undefined;
  const released = new Promise<void>((resolve) => {
    release = resolve;
  });
  const behaviour: Behaviour = async (exchange) => {
    if (exchange.earlier > 0) {
      await honest(BYTES)(exchange);
      return;
    }
    beginAnswer(exchange, BYTES);
    await exchange.send(BYTES.subarray(0, AT_60_PERCENT));
    await Promise.race([released, exchange.gone()]);
    await exchange.send(BYTES.subarray(AT_60_PERCENT));
  };
  return { behaviour, release };
}

async function nodeFor(origin: HostileOrigin): Promise<NodeRig> {
  const web = { ports: [origin.port], allowedNetworks: ["127.0.0.0/8"] };
  return openNode(catalogue, { web });
}

async function holds(rig: NodeRig, { image_id }: ImportPlan): Promise<boolean> {
  return (await readFile(await rig.fetchedPath(image_id))).equals(BYTES);
}

/** Kills a download in the middle of its bytes. Returns the name of its part. */
async function killWhileFetching(
  rig: NodeRig,
  plan: ImportPlan,
  origin: HostileOrigin,
): Promise<string> {
  const fetcher = rig.fetchElsewhere(plan, origin.url());
  const part = await rig.awaitPart("staging", ALL_BLOCKS_BEFORE);
  await fetcher.kill();
  return part;
}

/** Kills a download that has all its bytes, and is about to give them their final name. */
async function killBeforePublishing(
  rig: NodeRig,
  plan: ImportPlan,
  release: () => void,
  origin: HostileOrigin,
): Promise<void> {
  const fetcher = rig.fetchElsewhere(plan, origin.url());
  await rig.awaitPart("staging", ALL_BLOCKS_BEFORE);
  const claim = sql`SELECT 1 FROM images WHERE id = ${plan.image_id}`;
  const rows = await HeldRows.hold(catalogue, claim);
  release();
  await rows.awaitWaiters();
  await fetcher.kill();
  await rows.release();
}

describe("fetchImage() after its process was killed", () => {
  it("resumes from the part, and requests only the rest", async () => {
    const { behaviour } = holdingAt60Percent();
    const origin = await HostileOrigin.start(behaviour);
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    const part = await killWhileFetching(rig, plan, origin);
    const { ino } = await stat(rig.staged(part));

    await rig.fetch(plan, origin.url());

    expect((await stat(await rig.fetchedPath(plan.image_id))).ino).toBe(ino);
    expect(await holds(rig, plan)).toBe(true);
    expect(await rig.names("staging")).toEqual([expect.stringMatching(/\.product$/)]);
    // The bytes of an incomplete block are requested again.
    expect(origin.sentBytes).toBeLessThanOrEqual(SIZE_BYTES + MIB);
    expect(origin.requests).toHaveLength(2);
  });

  it("requests nothing when it had all bytes", async () => {
    const { behaviour, release } = holdingAt60Percent();
    const origin = await HostileOrigin.start(behaviour);
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    await killBeforePublishing(rig, plan, release, origin);

    await rig.fetch(plan, origin.url());

    expect(await holds(rig, plan)).toBe(true);
    expect(await rig.names("staging")).toEqual([expect.stringMatching(/\.product$/)]);
    expect(origin.sentBytes).toBe(SIZE_BYTES);
  });

  it.each([
    ["had given its bytes their final name", async () => undefined],
    [
      "was about to give its bytes their final name",
      async (rig: NodeRig, plan: ImportPlan, part: string) => {
        await rename(await rig.fetchedPath(plan.image_id), rig.staged(part));
      },
    ],
    [
      "had given its bytes their final name, and left the other one",
      async (rig: NodeRig, plan: ImportPlan, part: string) => {
        await link(await rig.fetchedPath(plan.image_id), rig.staged(part));
      },
    ],
  ])("takes its bytes as they are when it %s", async (_, leave) => {
    const origin = await HostileOrigin.start(honest(BYTES));
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    const first = await rig.fetch(plan, origin.url());
    const { ino } = await stat(await rig.fetchedPath(plan.image_id));
    const part = newPartName(plan.image_id, plan.epoch);
    await leave(rig, plan, part);
    await catalogue.database.query(async (db) =>
      db
        .update(leases)
        .set({ state: "writing", part, writer: await deadProcess() })
        .where(eq(leases.imageId, plan.image_id)),
    );

    expect(await rig.fetch(plan, origin.url())).toEqual(first);
    expect(await rig.names("staging")).toEqual([expect.stringMatching(/\.product$/)]);
    expect((await stat(await rig.fetchedPath(plan.image_id))).ino).toBe(ino);
    expect((await catalogue.staged(plan.image_id))?.state).toBe("whole");
    expect(origin.requests).toHaveLength(1);
    expect(await rig.verify({ ...plan, uri: first.uri })).toMatchObject({ digests: first.digests });
  });

  it("downloads its bytes again when its file was changed after it had got its final name", async () => {
    const origin = await HostileOrigin.start(honest(BYTES));
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    const first = await rig.fetch(plan, origin.url());
    await writeFile(await rig.fetchedPath(plan.image_id), BYTES.subarray(1));
    await catalogue.database.query(async (db) =>
      db
        .update(leases)
        .set({
          state: "writing",
          part: newPartName(plan.image_id, plan.epoch),
          writer: await deadProcess(),
        })
        .where(eq(leases.imageId, plan.image_id)),
    );

    expect(await rig.fetch(plan, origin.url())).toEqual(first);
    expect(await holds(rig, plan)).toBe(true);
    expect(await rig.verify({ ...plan, uri: first.uri })).toMatchObject({ digests: first.digests });
  });

  it("trusts only the synced bytes of a part from before the machine's death", async () => {
    const { behaviour } = holdingAt60Percent();
    const origin = await HostileOrigin.start(behaviour);
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    await killWhileFetching(rig, plan, origin);
    const row = await catalogue.staged(plan.image_id);
    if (row?.fetchedFrom == null) throw new Error("nothing was fetched");
    const before = { ...row.fetchedFrom, bootId: "another boot", syncedBytes: 2 * MIB };
    await catalogue.database.query((db) =>
      updateLease(db, row, row.token, { fetchedFrom: before }),
    );

    await rig.fetch(plan, origin.url());

    expect(await holds(rig, plan)).toBe(true);
    expect(origin.requests[1]?.headers["range"]).toBe(`bytes=${String(2 * MIB)}-`);
  });
});

describe("fetchImage() while its process may live on another machine that shares the volume", () => {
  it("restarts from byte 0, and the late attempt changes nothing", async () => {
    const { behaviour, release } = holdingAt60Percent();
    const origin = await HostileOrigin.start(behaviour);
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    const late = rig.fetchElsewhere(plan, origin.url());
    await rig.awaitPart("staging", ALL_BLOCKS_BEFORE);
    await late.stop();
    const elsewhere = JSON.stringify({ machine: "@elsewhere", bootId: "another boot" });
    await catalogue.execute(
      sql`UPDATE leases SET writer = writer || ${elsewhere}::jsonb WHERE image_id = ${plan.image_id}`,
    );
    await rig.fetch(plan, origin.url());
    const before = await rig.snapshot(plan);

    release();
    late.continue();

    expect(await outcomeOf(late)).toEqual({ code: "AttemptOvertaken" });
    expect(origin.requests[1]?.headers).not.toHaveProperty("range");
    expect(await rig.snapshot(plan)).toEqual(before);
    expect(await holds(rig, plan)).toBe(true);
  });
});

describe("discardFetched() after the process of the download was killed", () => {
  it("leaves nothing of a download that was killed in the middle", async () => {
    const { behaviour } = holdingAt60Percent();
    const origin = await HostileOrigin.start(behaviour);
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    await killWhileFetching(rig, plan, origin);

    await rig.discardFetched(plan);
    await rig.release(plan);

    expect(await rig.names("staging")).toEqual([]);
    expect(await catalogue.staged(plan.image_id)).toBeUndefined();
    expect((await catalogue.image(plan.image_id)).status).toBe("queued");
  });
});

describe("fetchImage() in a process that stood still, and continues late", () => {
  it("changes nothing of the download that a second attempt has finished meanwhile", async () => {
    const { behaviour, release } = holdingAt60Percent();
    const origin = await HostileOrigin.start(behaviour);
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    const late = rig.fetchElsewhere(plan, origin.url());
    await rig.awaitPart("staging", ALL_BLOCKS_BEFORE);
    await late.stop();
    await rig.fetch(plan, origin.url());
    const before = await rig.snapshot(plan);

    release();
    late.continue();

    expect(await outcomeOf(late)).toEqual({ code: "AttemptOvertaken" });
    expect(await rig.snapshot(plan)).toEqual(before);
    expect(await holds(rig, plan)).toBe(true);
  });

  it("leaves nothing when the import was undone meanwhile", async () => {
    const { behaviour, release } = holdingAt60Percent();
    const origin = await HostileOrigin.start(behaviour);
    const rig = await nodeFor(origin);
    const plan = await rig.claimForFetch();
    const late = rig.fetchElsewhere(plan, origin.url());
    await rig.awaitPart("staging", ALL_BLOCKS_BEFORE);
    await late.stop();
    await rig.discardFetched(plan);
    await rig.release(plan);

    release();
    late.continue();

    expect(await outcomeOf(late)).toEqual({ code: "ImportLost" });
    expect(await rig.names("staging")).toEqual([]);
    expect(await catalogue.staged(plan.image_id)).toBeUndefined();
  });
});
