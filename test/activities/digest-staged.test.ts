import { createHash } from "node:crypto";
import { appendFile, stat, unlink, utimes } from "node:fs/promises";
import { crc32 } from "node:zlib";
import { CancelledFailure } from "@temporalio/common";
import { sql } from "drizzle-orm";
import { describe, expect, vi } from "vitest";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import type { ByteProgress } from "../../src/activities/progress.ts";
import type { Digests } from "../../src/domain/digests.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { breakDatabase } from "../support/broken-database.ts";
import { failureOf } from "../support/failure-of.ts";
import { HeldRows } from "../support/held-rows.ts";
import { MIB } from "../support/mib.ts";
import { activityEnvironment, type NodeRig, onNode, someBytes } from "../support/node-rig.ts";
import { PATIENCE } from "../support/patience.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);

function digestsOf(bytes: Buffer): Digests {
  return {
    checksum: createHash("md5").update(bytes).digest("hex"),
    osHashAlgo: "sha512",
    osHashValue: createHash("sha512").update(bytes).digest("hex"),
    crc32: crc32(bytes),
    sizeBytes: bytes.length,
  };
}

async function pathOf(imageId: string): Promise<string> {
  return (await catalogue.staged(imageId))?.path ?? "";
}

/** The number of calls of the catalogue that a digest makes. */
async function callsOfDigest(rig: NodeRig, plan: ImportPlan, sizeBytes: number): Promise<number> {
  let calls = 0;
  const { mend } = breakDatabase(catalogue.database, (call) => {
    calls = call + 1;
    return false;
  });
  await rig.digest(plan, sizeBytes);
  mend();
  return calls;
}

describe("digestStaged()", () => {
  it("digests a file that the user put into staging, and records the digests", async ({ rig }) => {
    const bytes = someBytes(3 * MIB + 11);
    const plan = await rig.adoptAndClaim(bytes);
    const { ctimeNs } = await stat(await pathOf(plan.image_id), { bigint: true });

    const digests = await rig.digest(plan, bytes.length);

    expect(digests).toEqual(digestsOf(bytes));
    expect(await catalogue.staged(plan.image_id)).toMatchObject({
      checksum: digests.checksum,
      osHashAlgo: "sha512",
      osHashValue: digests.osHashValue,
      crc32: digests.crc32,
      fingerprint: { ctimeNs: String(ctimeNs), sizeBytes: String(bytes.length) },
    });
  });

  it("returns the recorded digests of an upload, and reads no byte", async ({ rig }) => {
    const bytes = someBytes(2 * MIB);
    const plan = await rig.stageAndClaim(bytes);

    expect(await rig.digest(plan, bytes.length)).toEqual(digestsOf(bytes));
  });

  it("returns the digests when the catalogue cannot record them", async ({ rig }) => {
    const bytes = someBytes(MIB);
    const calls = await callsOfDigest(rig, await rig.adoptAndClaim(bytes), bytes.length);
    const plan = await rig.adoptAndClaim(bytes);
    const { mend, failures } = breakDatabase(catalogue.database, (call) => call === calls - 1);

    expect(await rig.digest(plan, bytes.length)).toEqual(digestsOf(bytes));
    expect(failures()).toBe(1);
    mend();
    expect(await catalogue.staged(plan.image_id)).toMatchObject({ checksum: null });
  });

  it("digests an upload that was touched once while the catalogue is unreachable", async ({
    rig,
  }) => {
    const bytes = someBytes(MIB);
    const touched = async () => {
      const plan = await rig.stageAndClaim(bytes);
      await utimes(rig.staged(plan.image_id), 1, 1);
      return plan;
    };
    const calls = await callsOfDigest(rig, await touched(), bytes.length);
    const plan = await touched();
    const { mend, failures } = breakDatabase(catalogue.database, (call) => call === calls - 1);

    expect(await rig.digest(plan, bytes.length)).toEqual(digestsOf(bytes));
    expect(failures()).toBe(1);
    mend();
    const { ctimeNs } = await stat(rig.staged(plan.image_id), { bigint: true });
    expect(await catalogue.staged(plan.image_id)).toMatchObject({
      fingerprint: { ctimeNs: String(ctimeNs) },
    });
  });

  it("returns the same when it is run again", async ({ rig }) => {
    const bytes = someBytes(MIB);
    const plan = await rig.adoptAndClaim(bytes);
    const first = await rig.digest(plan, bytes.length);
    const before = await rig.snapshot(plan);

    expect(await rig.digest(plan, bytes.length)).toEqual(first);
    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it("moves the task to processing", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(10));

    await rig.digest(plan, 10);

    expect((await catalogue.task(plan.task_id)).status).toBe("processing");
  });

  it("changes no task that has ended", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(10));
    await catalogue.execute(sql`UPDATE tasks SET status = 'failure' WHERE id = ${plan.task_id}`);

    await rig.digest(plan, 10);

    expect((await catalogue.task(plan.task_id)).status).toBe("failure");
  });

  it("reports in its heartbeats the bytes that are read", async ({ rig }) => {
    const plan = await rig.adoptAndClaim(someBytes(MIB));
    const environment = activityEnvironment();
    const beats: ByteProgress[] = [];
    environment.on("heartbeat", (beat: ByteProgress) => beats.push(beat));
    // The step has read everything, and cannot record it while the test holds the row.
    const rows = await HeldRows.hold(
      catalogue,
      sql`SELECT 1 FROM staged_files WHERE image_id = ${plan.image_id}`,
    );

    const digesting = rig.digest(plan, MIB, environment);
    await vi.waitUntil(() => beats.length > 0, PATIENCE);
    await rows.release();
    await digesting;

    expect(beats[0]).toEqual({ step: "digest", doneBytes: MIB, totalBytes: MIB });
  });

  it("digests again bytes that were touched, and takes their new fingerprint when they are the same", async ({
    rig,
  }) => {
    const bytes = someBytes(MIB);
    const plan = await rig.stageAndClaim(bytes);
    await utimes(rig.staged(plan.image_id), new Date(0), new Date(0));

    const digests = await rig.digest(plan, bytes.length);

    expect(digests).toEqual(digestsOf(bytes));
    expect((await catalogue.staged(plan.image_id))?.fingerprint?.mtimeNs).toBe("0");
  });

  it("refuses bytes that changed since they were adopted, and records nothing", async ({ rig }) => {
    const plan = await rig.adoptAndClaim(someBytes(MIB));
    await appendFile(await pathOf(plan.image_id), "more");

    const failure = await failureOf(rig.digest(plan, MIB));

    expect(failure).toMatchObject({ code: "StagedDataChanged" });
    expect(await catalogue.staged(plan.image_id)).toMatchObject({ checksum: null, crc32: null });
  });

  it("reports that the bytes are gone", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(MIB));
    await unlink(rig.staged(plan.image_id));

    expect(await failureOf(rig.digest(plan, MIB))).toMatchObject({ code: "StagedDataMissing" });
  });

  it("refuses bytes that the catalogue no longer records", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(MIB));
    await catalogue.execute(sql`DELETE FROM leases WHERE image_id = ${plan.image_id}`);

    expect(await failureOf(rig.digest(plan, MIB))).toMatchObject({
      code: "StagedDataMissing",
      message: `Nothing is staged for image "${plan.image_id}" any more`,
    });
  });

  it("stops on a cancel, and records nothing", async ({ rig }) => {
    const plan = await rig.adoptAndClaim(someBytes(MIB));
    const environment = activityEnvironment();
    environment.cancel();

    const digesting = rig.digest(plan, MIB, environment);

    await expect(digesting).rejects.toBeInstanceOf(CancelledFailure);
    expect(await catalogue.staged(plan.image_id)).toMatchObject({ checksum: null, crc32: null });
  });
});
