import { randomUUID } from "node:crypto";
import { open, readFile, stat, writeFile } from "node:fs/promises";
import { sql } from "drizzle-orm";
import { describe, expect, vi } from "vitest";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import { newPartName } from "../../src/bytes/part-name.ts";
import { takeLease } from "../../src/db/lease-records.ts";
import { storePlace } from "../../src/domain/place.ts";
import { storeKey } from "../../src/stores/store.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { deadProcess } from "../support/child-program.ts";
import { HeldRows } from "../support/held-rows.ts";
import { MIB } from "../support/mib.ts";
import { type NodeRig, onNode, outcomeOf, runStep, someBytes } from "../support/node-rig.ts";
import { PATIENCE } from "../support/patience.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);

const SIZE_BYTES = 10 * MIB + 17;

async function inodeOf(path: string): Promise<number> {
  return (await stat(path)).ino;
}

async function holds(path: string, bytes: Buffer): Promise<boolean> {
  return (await readFile(path)).equals(bytes);
}

/** Kills a copy in the middle of its bytes. Returns the name of its part. */
async function killWhileCopying(rig: NodeRig, plan: ImportPlan): Promise<string> {
  const { writer, part } = await rig.heldElsewhere(plan, SIZE_BYTES);
  await writer.kill();
  return part;
}

/** Kills a copy that has all its bytes, synced, and no final name. */
async function killBeforePublishing(rig: NodeRig, plan: ImportPlan): Promise<string> {
  const { writer } = await rig.heldElsewhere(plan, SIZE_BYTES);
  const rows = await rig.holdBeforePublishing(plan, writer);
  const [part = ""] = await rig.names("fast");
  await writer.kill();
  await rows.release();
  return part;
}

/** Kills a copy that lies under its final name, of which the catalogue does not know. */
async function killBeforeRecording(rig: NodeRig, plan: ImportPlan): Promise<string> {
  const { writer } = await rig.heldElsewhere(plan, SIZE_BYTES);
  const rows = await rig.holdBeforeRecording(plan, writer);
  const [key = ""] = await rig.names("fast");
  await writer.kill();
  await rows.release();
  return key;
}

describe("storeImage() after its process was killed", () => {
  it("resumes from the part of a copy that was killed in the middle of its bytes", async ({
    rig,
  }) => {
    const bytes = someBytes(SIZE_BYTES);
    const plan = await rig.stageAndClaim(bytes);
    const part = await killWhileCopying(rig, plan);
    const { size, ino } = await stat(rig.stored(part));

    await rig.store(plan, bytes.length);

    expect(size).toBeLessThan(bytes.length);
    expect(await inodeOf(rig.copyPath(plan))).toBe(ino);
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
    expect(await rig.names("fast")).toEqual([storeKey(plan.image_id, plan.epoch)]);
  });

  it("publishes the part of a copy that was killed when it had all its bytes", async ({ rig }) => {
    const bytes = someBytes(SIZE_BYTES);
    const plan = await rig.stageAndClaim(bytes);
    const part = await killBeforePublishing(rig, plan);
    const { size, ino } = await stat(rig.stored(part));

    await rig.store(plan, bytes.length);

    expect([part, size]).toEqual([expect.stringMatching(/\.part$/), bytes.length]);
    expect(await inodeOf(rig.copyPath(plan))).toBe(ino);
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
    expect(await rig.names("fast")).toEqual([storeKey(plan.image_id, plan.epoch)]);
  });

  it("adopts a copy whose writer was killed before the catalogue recorded it", async ({ rig }) => {
    const bytes = someBytes(SIZE_BYTES);
    const plan = await rig.stageAndClaim(bytes);
    const key = await killBeforeRecording(rig, plan);
    const inode = await inodeOf(rig.stored(key));
    expect(await catalogue.leases(plan.image_id)).toMatchObject([{ state: "writing" }]);

    await rig.store(plan, bytes.length);

    expect(await inodeOf(rig.copyPath(plan))).toBe(inode);
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
    expect(await catalogue.leases(plan.image_id)).toMatchObject([{ state: "whole" }]);
  });

  it("passes the part of a dead attempt to only one of two attempts that find it", async ({
    rig,
  }) => {
    const bytes = someBytes(SIZE_BYTES);
    const plan = await rig.stageAndClaim(bytes);
    const part = newPartName(plan.image_id, plan.epoch);
    const copy = { imageId: plan.image_id, epoch: plan.epoch, place: storePlace("fast") };
    const names = { part, path: storeKey(plan.image_id, plan.epoch) };
    const writer = await deadProcess();
    const holder = { node: plan.node, token: randomUUID(), writer, ...names };
    await catalogue.database.transaction((db) => takeLease(db, copy, holder, undefined));
    await writeFile(rig.stored(part), bytes.subarray(0, 4 * MIB));
    await using left = await open(rig.stored(part));
    const claim = sql`SELECT 1 FROM images WHERE id = ${plan.image_id}`;
    const rows = await HeldRows.hold(catalogue, claim);
    const writers = [
      rig.storeElsewhere(plan, bytes.length, { isHeld: true }),
      rig.storeElsewhere(plan, bytes.length, { isHeld: true }),
    ];
    await rows.awaitWaiters(2);

    await rows.release();
    // Neither is done when the other begins.
    await vi.waitUntil(
      async () => (await catalogue.leases(plan.image_id)).some((lease) => lease.part !== part),
      PATIENCE,
    );
    for (const writer of writers) writer.release();

    const outcomes = await Promise.all(writers.map(outcomeOf));
    // Its part may be gone before it has opened it.
    const lost = expect.stringMatching(/^(AttemptOvertaken|StoreUnavailable)$/) as string;
    expect(outcomes).toContainEqual({ code: lost });
    expect(outcomes).toContainEqual({
      stored: expect.objectContaining({ store: "fast" }) as object,
    });
    expect(await inodeOf(rig.copyPath(plan))).not.toBe((await left.stat()).ino);
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
  });
});

describe("removeCopy() after the process of the copy was killed", () => {
  it.for([
    ["in the middle of its bytes", killWhileCopying],
    ["when it had all its bytes", killBeforePublishing],
    ["before the catalogue knew of its copy", killBeforeRecording],
  ] as const)("leaves nothing of a copy that was killed %s", async ([_, kill], { rig }) => {
    const plan = await rig.stageAndClaim(someBytes(SIZE_BYTES));
    const left = await kill(rig, plan);
    expect(await rig.names("fast")).toEqual([left]);

    await rig.removeCopy(plan);

    expect(await rig.names("fast")).toEqual([]);
    expect(await catalogue.leases(plan.image_id)).toEqual([]);
  });
});

describe("storeImage() in a process that stood still, and continues late", () => {
  it("changes nothing of the image that a second attempt has finished meanwhile", async ({
    rig,
  }) => {
    const bytes = someBytes(SIZE_BYTES);
    const plan = await rig.stageAndClaim(bytes);
    const { writer: late } = await rig.heldElsewhere(plan, bytes.length);
    await late.stop();
    await rig.finish(plan, bytes.length);
    await runStep(() => rig.cleanUp.unstageImage(plan));
    const before = await rig.snapshot(plan);

    late.release();
    late.continue();

    expect(await outcomeOf(late)).toEqual({ code: "ImportLost" });
    expect(await rig.snapshot(plan)).toEqual(before);
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
  });

  it("keeps the published copy when its own copy failed", async ({ rig }) => {
    const bytes = someBytes(SIZE_BYTES);
    const plan = await rig.stageAndClaim(bytes);
    const { writer: late } = await rig.heldElsewhere(plan, bytes.length);
    await late.stop();
    await rig.finish(plan, bytes.length);
    await using staged = await open(rig.staged(plan.image_id), "r+");
    await staged.write(someBytes(17), 0, 17, 10 * MIB);
    const before = await rig.snapshot(plan);

    late.release();
    late.continue();

    expect(await outcomeOf(late)).toEqual({ code: "ImportLost" });
    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it("leaves nothing in the store when the import was undone meanwhile", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(SIZE_BYTES));
    const { writer: late } = await rig.heldElsewhere(plan, SIZE_BYTES);
    await late.stop();
    await rig.removeCopy(plan);
    await rig.release(plan);
    const before = await rig.snapshot(plan);

    late.release();
    late.continue();

    expect(await outcomeOf(late)).toEqual({ code: "ImportLost" });
    expect(await rig.snapshot(plan)).toEqual(before);
    expect(await rig.names("fast")).toEqual([]);
  });

  it("does not disturb a second attempt that copies beside it", async ({ rig }) => {
    const bytes = someBytes(SIZE_BYTES);
    const plan = await rig.stageAndClaim(bytes);
    const { writer: late, part } = await rig.heldElsewhere(plan, bytes.length);
    await late.stop();
    const copies = rig.holdCopies();
    const second = rig.store(plan, bytes.length);
    await rig.awaitPart("fast", 2 * MIB, part);

    late.release();
    late.continue();

    expect(await outcomeOf(late)).toEqual({ code: "AttemptOvertaken" });
    copies.release();
    expect(await second).toMatchObject({ store: "fast", size: bytes.length });
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
    expect(await rig.names("fast")).toEqual([storeKey(plan.image_id, plan.epoch)]);
  });
});
