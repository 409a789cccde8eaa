import { randomUUID } from "node:crypto";
import {
  appendFile,
  chmod,
  copyFile,
  link,
  open,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  truncate,
  unlink,
  utimes,
  writeFile,
} from "node:fs/promises";
import { crc32 } from "node:zlib";
import { CancelledFailure } from "@temporalio/common";
import { eq, sql } from "drizzle-orm";
import { describe, expect, onTestFinished, vi } from "vitest";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import type { ByteProgress } from "../../src/activities/progress.ts";
import { newPartName } from "../../src/bytes/part-name.ts";
import { thisProcess, type ProcessIdentity } from "../../src/processes/process-identity.ts";
import { leases } from "../../src/db/schema.ts";
import { storePlace } from "../../src/domain/place.ts";
import { imageLocations } from "../../src/db/schema.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import { storeKey } from "../../src/stores/store.ts";
import { breakDatabase, type BrokenDatabase } from "../support/broken-database.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { deadProcess, startOtherProcess } from "../support/child-program.ts";
import { failureOf } from "../support/failure-of.ts";
import { HeldRows } from "../support/held-rows.ts";
import { MIB } from "../support/mib.ts";
import { MARK_NAME } from "../../src/stores/store-mark.ts";
import {
  activityEnvironment,
  type NodeRig,
  onNode,
  openNode,
  runStep,
  someBytes,
  WAYS_TO_LOSE_AN_IMAGE,
} from "../support/node-rig.ts";
import { storeOrder } from "../support/step-orders.ts";
import { MAY_MOUNT, mountReadOnlyVolume, mountSmallVolume } from "../support/volume.ts";
import { PATIENCE } from "../support/patience.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);
const needsMount = MAY_MOUNT ? "" : " (skipped: this user may not mount file systems)";

/** Leaves the lease of an earlier attempt, and a part with these bytes. Returns the part's name. */
async function leaveAttempt(
  rig: NodeRig,
  plan: ImportPlan,
  { writer, bytes }: { readonly writer: ProcessIdentity; readonly bytes?: Buffer },
): Promise<string> {
  const part = newPartName(plan.image_id, plan.epoch);
  const copy = { imageId: plan.image_id, epoch: plan.epoch, place: storePlace("fast") };
  const path = storeKey(plan.image_id, plan.epoch);
  const attempt = { node: plan.node, token: randomUUID(), writer, part, path };
  await catalogue.database.query((db) =>
    db
      .insert(leases)
      .values({ ...copy, ...attempt, state: "writing" })
      .onConflictDoUpdate({ target: [leases.imageId, leases.epoch, leases.place], set: attempt }),
  );
  if (bytes !== undefined) await writeFile(rig.stored(part), bytes);
  return part;
}

/** The number of bytes that this process has written to files and sockets since it began. */
async function writtenByThisProcess(): Promise<number> {
  const io = await readFile("/proc/self/io", "utf8");
  return Number(/^wchar: (\d+)$/m.exec(io)?.[1]);
}

async function inodeOf(path: string): Promise<number> {
  return (await stat(path)).ino;
}

async function holds(path: string, bytes: Buffer): Promise<boolean> {
  return (await readFile(path)).equals(bytes);
}

describe("storeImage()", () => {
  it("copies the staged bytes under a key of this import, read-only", async ({ rig }) => {
    const bytes = someBytes(3 * MIB + 5);
    const plan = await rig.stageAndClaim(bytes);

    const stored = await rig.store(plan, bytes.length);

    expect(stored).toEqual({
      store: "fast",
      url: `file://${rig.copyPath(plan)}`,
      size: bytes.length,
      crc32: crc32(bytes),
      method: "copy",
      attempt: 1,
    });
    expect(await rig.names("fast")).toEqual([storeKey(plan.image_id, plan.epoch)]);
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
    expect((await stat(rig.copyPath(plan))).mode & 0o777).toBe(0o440);
  });

  it("records the copy in its lease, and nowhere that readers look", async ({ rig }) => {
    const bytes = someBytes(MIB);
    const plan = await rig.stageAndClaim(bytes);

    await rig.store(plan, bytes.length);

    expect(await catalogue.leases(plan.image_id)).toMatchObject([
      {
        place: "store/fast",
        epoch: plan.epoch,
        node: rig.dependencies.staging.node,
        path: storeKey(plan.image_id, plan.epoch),
        state: "whole",
        copy: { sizeBytes: bytes.length, crc32: crc32(bytes), shared: false },
      },
    ]);
    expect(await locationsOf(plan)).toEqual([]);
  });

  it("moves the task to processing, and the store out of those still to fill", async ({ rig }) => {
    const bytes = someBytes(MIB);
    const plan = await rig.stageAndClaim(bytes, ["fast", "slow"]);

    await rig.store(plan, bytes.length);

    expect((await catalogue.task(plan.task_id)).status).toBe("processing");
    expect((await catalogue.image(plan.image_id)).importingToStores).toEqual(["slow"]);
  });

  it("copies an image of no bytes", async ({ rig }) => {
    const plan = await rig.stageAndClaim(Buffer.alloc(0));

    const stored = await rig.store(plan, 0);

    expect(stored).toMatchObject({ size: 0, crc32: 0, method: "copy" });
    expect(await holds(rig.copyPath(plan), Buffer.alloc(0))).toBe(true);
  });

  it("keeps a sparse image sparse", async ({ rig }) => {
    const bytes = Buffer.concat([someBytes(MIB), Buffer.alloc(15 * MIB)]);
    const plan = await rig.stageAndClaim(bytes);

    await rig.store(plan, bytes.length);

    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
    expect((await stat(rig.copyPath(plan))).blocks * 512).toBeLessThan(2 * MIB);
  });

  it("finds its copy when it is run again, and moves no byte", async ({ rig }) => {
    const bytes = someBytes(2 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    const first = await rig.store(plan, bytes.length);
    const before = await rig.snapshot(plan);

    const second = await rig.store(plan, bytes.length);

    expect(second).toEqual({ ...first, method: "found" });
    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it("copies again when the copy that it made is gone from the store", async ({ rig }) => {
    const bytes = someBytes(2 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    await rig.store(plan, bytes.length);
    await unlink(rig.copyPath(plan));

    const second = await rig.store(plan, bytes.length);

    expect(second.method).toBe("copy");
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
  });

  it("reports in its heartbeats the store and the bytes that are done", async ({ rig }) => {
    const copies = rig.holdCopies();
    const bytes = someBytes(3 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    const environment = activityEnvironment();
    const beats: ByteProgress[] = [];
    environment.on("heartbeat", (beat: ByteProgress) => beats.push(beat));

    const storing = rig.store(plan, bytes.length, "fast", environment);
    await vi.waitUntil(() => beats.some(({ doneBytes }) => doneBytes > 0), PATIENCE);
    copies.release();
    await storing;

    const about = { step: "store", store: "fast", totalBytes: bytes.length };
    expect(beats[0]).toMatchObject(about);
    expect(beats.at(-1)).toMatchObject(about);
    expect(beats.at(-1)?.doneBytes).toBeGreaterThan(0);
  });
});

async function locationsOf(plan: ImportPlan) {
  return catalogue.database.query((db) =>
    db.select().from(imageLocations).where(eq(imageLocations.imageId, plan.image_id)),
  );
}

describe("storeImage() for an import that no longer holds the image", () => {
  it.for(WAYS_TO_LOSE_AN_IMAGE)(
    "refuses one %s, and writes nothing",
    async ([_, lose], { rig }) => {
      const plan = await rig.stageAndClaim(someBytes(MIB));
      const late = await lose(rig, plan);

      const failure = await failureOf(rig.store(late, MIB));

      expect(failure).toMatchObject({ code: "ImportLost" });
      expect(await rig.names("fast")).toEqual([]);
      expect(await catalogue.leases(plan.image_id)).toEqual([]);
    },
  );

  it("refuses to finish one that was undone while it copied", async ({ rig }) => {
    const copies = rig.holdCopies();
    const bytes = someBytes(4 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    const storing = failureOf(rig.store(plan, bytes.length));
    await copies.reached;

    await rig.release(plan);
    copies.release();

    expect(await storing).toMatchObject({ code: "ImportLost" });
    // The undo may have come before it: the attempt removes what it made.
    expect(await catalogue.leases(plan.image_id)).toEqual([]);
    expect(await rig.names("fast")).toEqual([]);
  });
});

describe("storeImage() after an earlier attempt", () => {
  it("resumes from the part of a writer that is dead, and writes only what is missing", async ({
    rig,
  }) => {
    const bytes = someBytes(16 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    const left = bytes.subarray(0, 12 * MIB + 1000);
    const part = await leaveAttempt(rig, plan, { writer: await deadProcess(), bytes: left });
    const inode = await inodeOf(rig.stored(part));
    const before = await writtenByThisProcess();

    await rig.store(plan, bytes.length);

    expect((await writtenByThisProcess()) - before).toBeLessThan(5 * MIB);
    expect(await inodeOf(rig.copyPath(plan))).toBe(inode);
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
    expect(await rig.names("fast")).toEqual([storeKey(plan.image_id, plan.epoch)]);
  });

  it("completes a part that has all its bytes, and was not published", async ({ rig }) => {
    const bytes = someBytes(3 * MIB + 7);
    const plan = await rig.stageAndClaim(bytes);
    const part = await leaveAttempt(rig, plan, { writer: await deadProcess(), bytes });
    await chmod(rig.stored(part), 0o440);

    const stored = await rig.store(plan, bytes.length);

    expect(stored).toMatchObject({ method: "copy", crc32: crc32(bytes) });
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
  });

  it("starts from byte 0 when a dead writer had a lease and no part yet", async ({ rig }) => {
    const bytes = someBytes(2 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    await leaveAttempt(rig, plan, { writer: await deadProcess() });

    await rig.store(plan, bytes.length);

    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
  });

  it("restarts from byte 0 under another name when the writer is alive, and removes the writer's part", async ({
    rig,
  }) => {
    const bytes = someBytes(8 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    const other = await startOtherProcess();
    onTestFinished(() => other.kill());
    const left = bytes.subarray(0, 6 * MIB);
    const part = await leaveAttempt(rig, plan, { writer: other.identity, bytes: left });
    await using late = await open(rig.stored(part), "r+");

    await rig.store(plan, bytes.length);
    await late.write(Buffer.alloc(MIB, "late"), 0, MIB, 0);

    expect(await inodeOf(rig.copyPath(plan))).not.toBe((await late.stat()).ino);
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
    expect(await rig.names("fast")).toEqual([storeKey(plan.image_id, plan.epoch)]);
  });

  it("restarts from byte 0 when this process cannot find out whether the writer is alive", async ({
    rig,
  }) => {
    const bytes = someBytes(3 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    const writer = { ...(await deadProcess()), pidNamespace: "pid:[1]" };
    const part = await leaveAttempt(rig, plan, { writer, bytes: bytes.subarray(0, 2 * MIB) });
    await using left = await open(rig.stored(part));

    await rig.store(plan, bytes.length);

    expect(await inodeOf(rig.copyPath(plan))).not.toBe((await left.stat()).ino);
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
  });

  it("restarts from byte 0 when the machine was restarted since, as written bytes may be lost", async ({
    rig,
  }) => {
    const bytes = someBytes(3 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    const writer = { ...(await deadProcess()), bootId: "00000000-0000-0000-0000-000000000000" };
    const torn = Buffer.concat([bytes.subarray(0, MIB), Buffer.alloc(MIB)]);
    const part = await leaveAttempt(rig, plan, { writer, bytes: torn });
    await using left = await open(rig.stored(part));

    await rig.store(plan, bytes.length);

    expect(await inodeOf(rig.copyPath(plan))).not.toBe((await left.stat()).ino);
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
  });

  it("fails permanently when the upload does not match its recorded CRC, though its file looks unchanged", async ({
    rig,
  }) => {
    const plan = await rig.stageAndClaim(someBytes(2 * MIB));
    await catalogue.execute(
      sql`UPDATE staged_files SET crc32 = 1 WHERE image_id = ${plan.image_id}`,
    );

    const failure = await failureOf(rig.store(plan, 2 * MIB));

    expect(failure).toMatchObject({ code: "StagedDataChanged", retryable: false });
    expect(await rig.names("fast")).toEqual([]);
  });

  it("reads the copy back if that is configured, and makes it again when the store has damaged it", async () => {
    const rig = await openNode(catalogue, { verifyOnPublish: true });
    const bytes = someBytes(3 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    spoilNextCopy(rig, plan);

    const failure = await failureOf(rig.store(plan, bytes.length));

    expect(failure).toMatchObject({
      code: "CopyMismatch",
      message: 'The copy in store "fast" reads back differently from what was written there',
    });
    expect(await rig.names("fast")).toEqual([]);
    await rig.store(plan, bytes.length);
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
  });

  it("does not read the copy back by default", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(3 * MIB));
    spoilNextCopy(rig, plan);

    await expect(rig.store(plan, 3 * MIB)).resolves.toMatchObject({ method: "copy" });
  });

  it("removes a part with other bytes than the staged ones, and makes the copy when it is run again", async ({
    rig,
  }) => {
    const bytes = someBytes(4 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    const torn = Buffer.concat([bytes.subarray(0, MIB), Buffer.alloc(2 * MIB)]);
    await leaveAttempt(rig, plan, { writer: await deadProcess(), bytes: torn });

    const failure = await failureOf(rig.store(plan, bytes.length));

    expect(failure).toMatchObject({
      code: "CopyMismatch",
      message: expect.stringContaining(
        'The copy in store "fast" differs from its source',
      ) as string,
    });
    expect(await rig.names("fast")).toEqual([]);
    expect(await rig.store(plan, bytes.length)).toMatchObject({ crc32: crc32(bytes) });
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
  });

  it("takes the copy that a dead writer published and did not report, without writing it again", async ({
    rig,
  }) => {
    const bytes = someBytes(3 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    await leaveAttempt(rig, plan, { writer: await deadProcess() });
    await writeFile(rig.copyPath(plan), bytes, { mode: 0o440 });
    const inode = await inodeOf(rig.copyPath(plan));

    const stored = await rig.store(plan, bytes.length);

    expect(stored).toMatchObject({ size: bytes.length, crc32: crc32(bytes), method: "copy" });
    expect(await inodeOf(rig.copyPath(plan))).toBe(inode);
    expect(await catalogue.leases(plan.image_id)).toMatchObject([{ state: "whole" }]);
  });

  it("leaves one name of a copy whose writer died between its two names", async ({ rig }) => {
    const bytes = someBytes(2 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    const part = await leaveAttempt(rig, plan, { writer: await deadProcess(), bytes });
    await link(rig.stored(part), rig.copyPath(plan));

    await rig.store(plan, bytes.length);

    expect(await rig.names("fast")).toEqual([storeKey(plan.image_id, plan.epoch)]);
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
  });

  it("replaces a published copy that no row names and that does not hold the staged bytes", async ({
    rig,
  }) => {
    const bytes = someBytes(2 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    await leaveAttempt(rig, plan, { writer: await deadProcess() });
    await writeFile(rig.copyPath(plan), someBytes(2 * MIB), { mode: 0o440 });

    const failure = await failureOf(rig.store(plan, bytes.length));

    expect(failure).toMatchObject({ code: "CopyMismatch" });
    await rig.store(plan, bytes.length);
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
  });

  it("does not trust the copy that a late writer publishes at the last moment, and checks it when it is run again", async ({
    rig,
  }) => {
    const copies = rig.holdCopies();
    const bytes = someBytes(4 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    const first = failureOf(rig.store(plan, bytes.length));
    await copies.reached;
    const rows = await rig.holdBeforePublishing(plan, copies);
    await writeFile(rig.copyPath(plan), someBytes(4 * MIB));
    await rows.release();

    const failure = await first;

    expect(failure).toMatchObject({
      code: "CopyMismatch",
      message:
        'Cannot publish the copy in store "fast": an earlier attempt published its own meanwhile',
    });
    expect(await failureOf(rig.store(plan, bytes.length))).toMatchObject({ code: "CopyMismatch" });
    await rig.store(plan, bytes.length);
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
  });

  it("never writes to a part that is another name of a user's file", async ({ rig }) => {
    const bytes = someBytes(3 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    const part = await leaveAttempt(rig, plan, { writer: await deadProcess() });
    const precious = someBytes(2 * MIB);
    await writeFile(rig.staged("precious"), precious);
    await link(rig.staged("precious"), rig.stored(part));

    await rig.store(plan, bytes.length);

    expect(await holds(rig.staged("precious"), precious)).toBe(true);
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
  });

  it("ends an attempt that still runs in this process, and resumes from its part", async ({
    rig,
  }) => {
    const copies = rig.holdCopies();
    const bytes = someBytes(5 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    const first = rig.store(plan, bytes.length).catch((error: unknown) => error);
    await copies.reached;
    const [part = ""] = await rig.names("fast");
    const inode = await inodeOf(rig.stored(part));

    const second = rig.store(plan, bytes.length);

    expect(await first).toMatchObject({
      message: `Another attempt took over the copy of image "${plan.image_id}" in store "fast" (epoch 1)`,
    });
    copies.release();
    await second;
    expect(await inodeOf(rig.copyPath(plan))).toBe(inode);
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
  });
});

describe("storeImage() when it is stopped", () => {
  it("stops within a block on a cancel, keeps its part, and resumes from it when it is run again", async ({
    rig,
  }) => {
    const copies = rig.holdCopies();
    const bytes = someBytes(8 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    const environment = activityEnvironment();
    const storing = rig.store(plan, bytes.length, "fast", environment);
    await copies.reached;
    const [part = ""] = await rig.names("fast");
    const inode = await inodeOf(rig.stored(part));

    environment.cancel();

    await expect(storing).rejects.toBeInstanceOf(CancelledFailure);
    expect(await rig.names("fast")).toEqual([part]);
    expect((await stat(rig.stored(part))).size).toBeLessThan(bytes.length);
    copies.release();
    await rig.store(plan, bytes.length);
    expect(await inodeOf(rig.copyPath(plan))).toBe(inode);
    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
  });

  it("gives up for now, and keeps its part, when nothing moves for the idle time", async () => {
    // A limit this low lets the first block through, and the second one in twelve days. The idle
    // time is enough for the first one on a busy machine.
    const stores = { fast: { bandwidthLimit: 1 } };
    const rig = await openNode(catalogue, { stores, idleTimeoutMs: 10_000 });
    const bytes = someBytes(3 * MIB);
    const plan = await rig.stageAndClaim(bytes);

    const failure = await failureOf(rig.store(plan, bytes.length));

    expect(failure).toMatchObject({
      code: "StoreUnavailable",
      message: `No byte has moved for 10 s at byte ${String(MIB)} of ${String(3 * MIB)}`,
    });
    expect(await rig.names("fast")).toEqual([expect.stringMatching(/\.part$/)]);
  });
});

describe("storeImage() on a store that fails", () => {
  it("reports that the directory of its store is missing, and is retried", async ({ rig }) => {
    const bytes = someBytes(MIB);
    const plan = await rig.stageAndClaim(bytes);
    await rm(rig.stored(""), { recursive: true });

    const failure = await failureOf(rig.store(plan, bytes.length));

    expect(failure).toMatchObject({ code: "StoreUnavailable", retryable: true });
  });

  it("refuses a store that is not configured", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(MIB));

    expect(await failureOf(rig.store(plan, MIB, "nowhere"))).toMatchObject({
      code: "UnknownStore",
      message: 'Cannot find store "nowhere": the configured stores are "fast", "slow"',
    });
  });

  it.skipIf(!MAY_MOUNT)(
    `reports before the first byte that no space is left${needsMount}`,
    async () => {
      const rig = await openNode(catalogue, {
        stores: { fast: { path: await mountSmallVolume(2) } },
      });
      const bytes = someBytes(5 * MIB);
      const plan = await rig.stageAndClaim(bytes);

      const failure = await failureOf(rig.store(plan, bytes.length));

      expect(failure).toMatchObject({
        code: "NoSpace",
        message: 'Cannot copy to store "fast": 5 MiB are needed, 2 MiB are free',
      });
    },
  );

  it.skipIf(!MAY_MOUNT)(
    `leaves nothing when the space runs out on the way${needsMount}`,
    async () => {
      const path = await mountSmallVolume(4);
      const rig = await openNode(catalogue, { stores: { fast: { path } } });
      const copies = rig.holdCopies();
      const plan = await rig.stageAndClaim(someBytes(3 * MIB));
      const storing = failureOf(rig.store(plan, 3 * MIB));
      await copies.reached;

      await writeFile(`${path}/filler`, someBytes(4 * MIB)).catch(() => undefined);
      copies.release();

      expect(await storing).toMatchObject({ code: "NoSpace", retryable: false });
      await rig.removeCopy(plan);
      expect((await readdir(path)).sort()).toEqual([MARK_NAME, "filler"]);
      expect(await catalogue.leases(plan.image_id)).toEqual([]);
    },
  );

  it.skipIf(!MAY_MOUNT)(`copies an image that fits only with its holes${needsMount}`, async () => {
    const path = await mountSmallVolume(2);
    const rig = await openNode(catalogue, { stores: { fast: { path } } });
    const bytes = Buffer.concat([Buffer.alloc(30 * MIB), someBytes(MIB)]);
    const plan = await rig.stageAndClaim(bytes);

    await rig.store(plan, bytes.length);

    const key = storeKey(plan.image_id, plan.epoch);
    expect(await holds(`${path}/${key}`, bytes)).toBe(true);
  });

  it.skipIf(!MAY_MOUNT)(`reports that it may not write there${needsMount}`, async () => {
    const path = await mountReadOnlyVolume();
    const rig = await openNode(catalogue, { stores: { fast: { path } } });
    const bytes = someBytes(MIB);
    const plan = await rig.stageAndClaim(bytes);

    const failure = await failureOf(rig.store(plan, bytes.length));

    expect(failure).toMatchObject({ code: "PermissionDenied", retryable: false });
  });
});

describe("storeImage() without moving bytes", () => {
  const zeroCopy = { fast: { zeroCopy: true }, slow: { zeroCopy: true } };

  it("links an upload, read-only", async () => {
    const rig = await openNode(catalogue, { stores: zeroCopy });
    const bytes = someBytes(3 * MIB);
    const plan = await rig.stageAndClaim(bytes);

    const stored = await rig.store(plan, bytes.length);

    expect(stored).toMatchObject({ size: bytes.length, crc32: crc32(bytes), method: "link" });
    const { ino, mode, nlink } = await stat(rig.copyPath(plan));
    expect({ ino, mode: mode & 0o777, nlink }).toEqual({
      ino: await inodeOf(rig.staged(plan.image_id)),
      mode: 0o440,
      nlink: 2,
    });
    expect(await catalogue.leases(plan.image_id)).toMatchObject([{ copy: { shared: true } }]);
  });

  it("gives the second of two stores bytes of its own, side by side", async () => {
    const rig = await openNode(catalogue, { stores: zeroCopy });
    const bytes = someBytes(3 * MIB);
    const plan = await rig.stageAndClaim(bytes, ["fast", "slow"]);

    const copies = await Promise.all([
      rig.store(plan, bytes.length, "fast"),
      rig.store(plan, bytes.length, "slow"),
    ]);

    expect(copies.map(({ method }) => method).sort()).toEqual(["copy", "link"]);
    expect(await inodeOf(rig.copyPath(plan, "slow"))).not.toBe(await inodeOf(rig.copyPath(plan)));
    expect(await holds(rig.copyPath(plan, "fast"), bytes)).toBe(true);
    expect(await holds(rig.copyPath(plan, "slow"), bytes)).toBe(true);
  });

  it("does not take its own link for a change by another program", async () => {
    const rig = await openNode(catalogue, { stores: zeroCopy });
    const bytes = someBytes(2 * MIB);
    const plan = await rig.stageAndClaim(bytes);

    await rig.store(plan, bytes.length);

    const { ctimeNs } = await stat(rig.staged(plan.image_id), { bigint: true });
    expect((await catalogue.staged(plan.image_id))?.fingerprint?.ctimeNs).toBe(String(ctimeNs));
  });

  it("leaves the right to link to the next store when the first one cannot", async () => {
    const stores = { fast: { zeroCopy: false }, slow: { zeroCopy: true } };
    const rig = await openNode(catalogue, { stores });
    const bytes = someBytes(2 * MIB);
    const plan = await rig.stageAndClaim(bytes, ["fast", "slow"]);

    expect((await rig.store(plan, bytes.length, "fast")).method).toBe("copy");
    expect((await rig.store(plan, bytes.length, "slow")).method).toBe("link");
  });

  it("lets another store link when a link was made and not recorded, and removes that link", async () => {
    const rig = await openNode(catalogue, { stores: zeroCopy });
    const bytes = someBytes(2 * MIB);
    const plan = await rig.stageAndClaim(bytes, ["fast", "slow"]);
    const fast = rig.dependencies.stores.get("fast");
    const makeLink = fast.link?.bind(fast);
    vi.spyOn(fast, "link").mockImplementationOnce(async (order) => {
      await makeLink?.(order);
      throw new ImportError("StoreUnavailable", "the process ends here");
    });
    await failureOf(rig.store(plan, bytes.length, "fast"));

    const other = await rig.store(plan, bytes.length, "slow");
    const again = await rig.store(plan, bytes.length, "fast");

    expect([other.method, again.method]).toEqual(["link", "copy"]);
    expect(await rig.names("fast")).toEqual([storeKey(plan.image_id, plan.epoch)]);
    expect((await stat(rig.staged(plan.image_id))).nlink).toBe(2);
  });

  it("links nothing once another attempt has the lease of the copy", async () => {
    const rig = await openNode(catalogue, { stores: zeroCopy });
    const bytes = someBytes(2 * MIB);
    const plan = await rig.stageAndClaim(bytes, ["fast", "slow"]);
    const fast = rig.dependencies.stores.get("fast");
    vi.spyOn(fast, "clone").mockImplementationOnce(async () => {
      await leaveAttempt(rig, plan, { writer: await deadProcess() });
      return undefined;
    });

    const failure = await failureOf(rig.store(plan, bytes.length, "fast"));

    expect(failure).toMatchObject({ code: "AttemptOvertaken" });
    expect((await stat(rig.staged(plan.image_id))).nlink).toBe(1);
    expect((await rig.store(plan, bytes.length, "slow")).method).toBe("link");
  });

  it("finds its link when it is run again", async () => {
    const rig = await openNode(catalogue, { stores: zeroCopy });
    const bytes = someBytes(2 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    await rig.store(plan, bytes.length);

    const second = await rig.store(plan, bytes.length);

    expect(second.method).toBe("found");
    expect((await stat(rig.copyPath(plan))).nlink).toBe(2);
  });

  it.each([
    ["before it was published", async () => undefined],
    ["after it was published", publish],
    ["between its two names", publishHalf],
  ])("takes the link of a writer that died %s", async (_, happen) => {
    const rig = await openNode(catalogue, { stores: zeroCopy });
    const bytes = someBytes(2 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    const part = await leaveAttempt(rig, plan, { writer: await deadProcess() });
    await link(rig.staged(plan.image_id), rig.stored(part));
    await happen(rig, plan, part);

    const stored = await rig.store(plan, bytes.length);

    expect(stored).toMatchObject({ method: "link", crc32: crc32(bytes) });
    expect(await rig.names("fast")).toEqual([storeKey(plan.image_id, plan.epoch)]);
    expect(await inodeOf(rig.copyPath(plan))).toBe(await inodeOf(rig.staged(plan.image_id)));
  });

  async function publish(rig: NodeRig, plan: ImportPlan, part: string): Promise<void> {
    await rename(rig.stored(part), rig.copyPath(plan));
  }

  async function publishHalf(rig: NodeRig, plan: ImportPlan, part: string): Promise<void> {
    await link(rig.stored(part), rig.copyPath(plan));
  }

  it("copies a file that the user put into staging, with or without digests", async () => {
    const rig = await openNode(catalogue, { stores: zeroCopy });
    const bytes = someBytes(2 * MIB);
    const plan = await rig.adoptAndClaim(bytes, ["fast", "slow"]);

    const unknown = await rig.store(plan, bytes.length, "fast");
    await rig.digest(plan, bytes.length);
    const known = await rig.store(plan, bytes.length, "slow");

    expect([unknown.method, known.method]).toEqual(["copy", "copy"]);
  });

  it.skipIf(!MAY_MOUNT)(`copies to a store on another file system${needsMount}`, async () => {
    const path = await mountSmallVolume(8);
    const rig = await openNode(catalogue, { stores: { fast: { zeroCopy: true, path } } });
    const bytes = someBytes(2 * MIB);
    const plan = await rig.stageAndClaim(bytes);

    const stored = await rig.store(plan, bytes.length);

    expect(stored.method).toBe("copy");
  });

  it("refuses to link a file that replaced the staged file after it was checked", async () => {
    const rig = await openNode(catalogue, { stores: zeroCopy });
    const bytes = someBytes(2 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    const rows = await HeldRows.hold(
      catalogue,
      sql`SELECT 1 FROM leases WHERE image_id = ${plan.image_id}`,
    );
    const storing = failureOf(rig.store(plan, bytes.length));
    await rows.awaitWaiters();
    await writeFile(rig.staged("other"), someBytes(2 * MIB));
    await rename(rig.staged("other"), rig.staged(plan.image_id));

    await rows.release();

    expect(await storing).toMatchObject({ code: "StagedDataChanged" });
    expect(await rig.names("fast")).not.toContain(storeKey(plan.image_id, plan.epoch));
  });
});

/** A change to a file after it was staged. `bytes` are the staged bytes. */
type Tampering = (path: string, bytes: Buffer) => Promise<void>;

const truncated: Tampering = (path) => truncate(path, MIB);
const grown: Tampering = (path) => appendFile(path, "more");
const replaced: Tampering = async (path, bytes) => {
  await writeFile(`${path}.new`, someBytes(bytes.length));
  await rename(`${path}.new`, path);
};
const overwritten: Tampering = async (path) => {
  const { atime, mtime } = await stat(path);
  await using handle = await open(path, "r+");
  await handle.write(someBytes(10), 0, 10, MIB);
  // An attacker would set the time back. The change time of the inode shows the change anyway.
  await handle.utimes(atime, mtime);
};
const touched: Tampering = (path) => utimes(path, new Date(0), new Date(0));
const chmodded: Tampering = (path) => chmod(path, 0o600);
const replacedBySame: Tampering = async (path) => {
  await copyFile(path, `${path}.new`);
  await rename(`${path}.new`, path);
};

describe("storeImage() of staged bytes that changed since they were staged", () => {
  it.for([
    ["truncated", truncated],
    ["grown", grown],
    ["replaced by others", replaced],
    ["overwritten in place", overwritten],
  ] as const)("refuses bytes that were %s", async ([_, tamper], { rig }) => {
    const bytes = someBytes(2 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    await rig.verify(plan);
    await tamper(rig.staged(plan.image_id), bytes);

    const failure = await failureOf(rig.store(plan, bytes.length));

    expect(failure).toMatchObject({
      code: "StagedDataChanged",
      message: `The staged data of image "${plan.image_id}" at "${rig.staged(plan.image_id)}" changed after it was staged`,
    });
    expect(await rig.names("fast")).toEqual([]);
  });

  it.for([
    ["touched", touched],
    ["chmodded", chmodded],
    ["replaced by the same", replacedBySame],
  ] as const)(
    "copies bytes that were %s, and records their new fingerprint",
    async ([_, tamper], { rig }) => {
      const bytes = someBytes(2 * MIB);
      const plan = await rig.stageAndClaim(bytes);
      await rig.verify(plan);
      await tamper(rig.staged(plan.image_id), bytes);

      await rig.store(plan, bytes.length);

      const { ino, ctimeNs } = await stat(rig.staged(plan.image_id), { bigint: true });
      expect((await catalogue.staged(plan.image_id))?.fingerprint).toMatchObject({
        ino: String(ino),
        ctimeNs: String(ctimeNs),
      });
      expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
    },
  );

  it.for([
    ["truncated", truncated],
    ["grown", grown],
    ["replaced by others", replaced],
    ["overwritten in place", overwritten],
    ["touched", touched],
    ["replaced by the same", replacedBySame],
  ] as const)("refuses bytes without digests that were %s", async ([name, tamper], { rig }) => {
    const bytes = someBytes(2 * MIB);
    const plan = await rig.adoptAndClaim(bytes);
    await tamper((await catalogue.staged(plan.image_id))?.path ?? name, bytes);

    const failure = await failureOf(rig.store(plan, bytes.length));

    expect(failure).toMatchObject({ code: "StagedDataChanged" });
  });

  it("copies bytes without digests that were chmodded", async ({ rig }) => {
    const bytes = someBytes(2 * MIB);
    const plan = await rig.adoptAndClaim(bytes);
    await chmodded((await catalogue.staged(plan.image_id))?.path ?? "", bytes);

    await rig.store(plan, bytes.length);

    expect(await holds(rig.copyPath(plan), bytes)).toBe(true);
  });

  it("reports that they are gone", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(MIB));
    await unlink(rig.staged(plan.image_id));

    expect(await failureOf(rig.store(plan, MIB))).toMatchObject({
      code: "StagedDataMissing",
      message: `Cannot find the staged data "${rig.staged(plan.image_id)}": the file does not exist`,
    });
  });
});

describe("storeImage() of an active image while the catalogue is unreachable", () => {
  /** An active image in `fast`, and the accepted import that copies it to `slow`. */
  async function copying(rig: NodeRig, bytes: Buffer): Promise<ImportPlan> {
    const { image_id: imageId } = await rig.import(bytes);
    return rig.claim(imageId, { stores: ["slow"], method: "copy-image" });
  }

  async function copy(rig: NodeRig, plan: ImportPlan, sizeBytes: number) {
    const order = { ...storeOrder(plan, sizeBytes, "slow"), from: "stores" as const };
    return runStep(() => rig.bytes.storeImage(order));
  }

  /** Breaks the first call of the catalogue that follows. */
  function breakOnce(): BrokenDatabase {
    return breakDatabase(catalogue.database, (call) => call === 0);
  }

  it("notes that a damaged copy is whole again without reading it twice", async ({ rig }) => {
    const bytes = someBytes(MIB);
    const plan = await copying(rig, bytes);
    await catalogue.execute(
      sql`UPDATE image_locations SET damage = 'it was' WHERE image_id = ${plan.image_id}`,
    );
    let broken: BrokenDatabase | undefined;
    const fast = rig.dependencies.stores.get("fast");
    const openCopy = fast.open.bind(fast);
    const opened = vi.spyOn(fast, "open").mockImplementation(async (...args) => {
      const copy = await openCopy(...args);
      broken ??= breakOnce();
      return copy;
    });

    expect(await copy(rig, plan, bytes.length)).toMatchObject({ store: "slow", method: "copy" });

    expect([broken?.failures(), opened.mock.calls.length]).toEqual([1, 1]);
    broken?.mend();
    expect(await catalogue.locations(plan.image_id)).toMatchObject([{ damage: null }]);
  });

  it("notes that a touched copy, of which another was cloned, is sound", async ({ rig }) => {
    const bytes = someBytes(MIB);
    const plan = await copying(rig, bytes);
    const [before] = await catalogue.locations(plan.image_id);
    await utimes(rig.stored(before?.key ?? ""), 1, 1);
    const { stores } = rig.dependencies;
    const [fast, slow] = [stores.get("fast"), stores.get("slow")];
    vi.spyOn(slow, "clone").mockImplementation(async (order) => ({
      ...(await slow.copy(order)),
      method: "reflink",
    }));
    let broken: BrokenDatabase | undefined;
    const findCopy = fast.find.bind(fast);
    const found = vi.spyOn(fast, "find").mockImplementation(async (...args) => {
      // The look after the clone was made.
      if (found.mock.calls.length === 2) broken = breakOnce();
      return findCopy(...args);
    });

    expect(await copy(rig, plan, bytes.length)).toMatchObject({ method: "reflink" });

    expect(broken?.failures()).toBe(1);
    broken?.mend();
    const [after] = await catalogue.locations(plan.image_id);
    expect(after?.version).not.toBe(before?.version);
  });
});

describe("removeCopy()", () => {
  it("removes copy and lease", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(MIB));
    await rig.store(plan, MIB);

    await rig.removeCopy(plan);

    expect(await rig.names("fast")).toEqual([]);
    expect(await catalogue.leases(plan.image_id)).toEqual([]);
  });

  it("removes the part of an attempt that died, and its lease", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(MIB));
    await leaveAttempt(rig, plan, { writer: await deadProcess(), bytes: someBytes(100) });

    await rig.removeCopy(plan);

    expect(await rig.names("fast")).toEqual([]);
    expect(await catalogue.leases(plan.image_id)).toEqual([]);
  });

  it("removes a copy that was published and not reported, with both of its names", async ({
    rig,
  }) => {
    const plan = await rig.stageAndClaim(someBytes(MIB));
    const bytes = someBytes(100);
    const part = await leaveAttempt(rig, plan, { writer: await deadProcess(), bytes });
    await link(rig.stored(part), rig.copyPath(plan));

    await rig.removeCopy(plan);

    expect(await rig.names("fast")).toEqual([]);
  });

  it.for([
    ["again", true],
    ["where nothing was ever stored", false],
  ] as const)("succeeds %s", async ([_, isStored], { rig }) => {
    const plan = await rig.stageAndClaim(someBytes(MIB));
    if (isStored) await rig.store(plan, MIB);
    if (isStored) await rig.removeCopy(plan);

    await expect(rig.removeCopy(plan)).resolves.toBeUndefined();
  });

  it("ends an attempt that still runs in this process, and leaves nothing of it", async ({
    rig,
  }) => {
    const copies = rig.holdCopies();
    const bytes = someBytes(5 * MIB);
    const plan = await rig.stageAndClaim(bytes);
    const storing = rig.store(plan, bytes.length).catch((error: unknown) => error);
    await copies.reached;

    await rig.removeCopy(plan);

    expect(await storing).toBeInstanceOf(Error);
    expect(await rig.names("fast")).toEqual([]);
    expect(await catalogue.leases(plan.image_id)).toEqual([]);
  });

  it("touches no copy of another epoch or store", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(MIB), ["fast", "slow"]);
    await rig.store(plan, MIB, "fast");
    await rig.store(plan, MIB, "slow");
    const before = await rig.snapshot(plan);

    await rig.removeCopy({ ...plan, epoch: plan.epoch - 1 });
    await rig.removeCopy({ ...plan, epoch: plan.epoch + 1 });

    expect(await rig.snapshot(plan)).toEqual(before);
    await rig.removeCopy(plan, "fast");
    expect(await rig.names("slow")).toEqual([storeKey(plan.image_id, plan.epoch)]);
  });

  it("touches nothing of a published image", async ({ rig }) => {
    const plan = await rig.import(someBytes(MIB));
    const before = await rig.snapshot(plan);

    await rig.removeCopy(plan);

    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it("touches nothing of a published image, even when a lease on its copy turns up", async ({
    rig,
  }) => {
    const plan = await rig.import(someBytes(MIB));
    await leaveAttempt(rig, plan, { writer: await thisProcess() });
    const before = await rig.snapshot(plan);

    await rig.removeCopy(plan);

    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it("keeps the lease while the store is unreachable", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(MIB));
    await rig.store(plan, MIB);
    await rename(rig.stored(""), rig.staged("../away"));

    const failure = await failureOf(rig.removeCopy(plan));

    expect(failure).toMatchObject({ code: "StoreUnavailable", retryable: true });
    expect(await catalogue.leases(plan.image_id)).toMatchObject([{ state: "writing" }]);
  });

  it("leaves the staged bytes that a link shared, and the right to link them", async () => {
    const stores = { fast: { zeroCopy: true }, slow: { zeroCopy: true } };
    const rig = await openNode(catalogue, { stores });
    const bytes = someBytes(2 * MIB);
    const plan = await rig.stageAndClaim(bytes, ["fast", "slow"]);
    await rig.store(plan, bytes.length, "fast");

    await rig.removeCopy(plan, "fast");

    expect(await holds(rig.staged(plan.image_id), bytes)).toBe(true);
    expect((await rig.store(plan, bytes.length, "slow")).method).toBe("link");
  });
});

/** Changes a byte of the next copy just after it was published, as a bad disk does. */
function spoilNextCopy(rig: NodeRig, plan: ImportPlan): void {
  const store = rig.dependencies.stores.get("fast");
  const copy = store.copy.bind(store);
  vi.spyOn(store, "copy").mockImplementationOnce(async (order) => {
    const copied = await copy(order);
    const publish = async () => {
      const outcome = await copied.publish();
      await chmod(rig.copyPath(plan), 0o640);
      await using handle = await open(rig.copyPath(plan), "r+");
      const [byte = 0] = (await handle.read(Buffer.alloc(1), 0, 1, MIB)).buffer;
      await handle.write(Buffer.from([byte ^ 1]), 0, 1, MIB);
      return outcome;
    };
    return { ...copied, publish };
  });
}
