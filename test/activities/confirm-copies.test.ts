import { chmod, mkdir, open, readdir, rename, stat, unlink, utimes } from "node:fs/promises";
import { describe, expect, vi } from "vitest";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import type { ByteProgress } from "../../src/activities/progress.ts";
import type { Digests } from "../../src/domain/digests.ts";
import { breakDatabase } from "../support/broken-database.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import {
  activityEnvironment,
  type NodeRig,
  onNode,
  openNode,
  runStep,
  someBytes,
} from "../support/node-rig.ts";
import { saveOrder } from "../support/step-orders.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);

interface Saved {
  readonly rig: NodeRig;
  readonly plan: ImportPlan;
  readonly digests: Digests;
}

/** An import whose copies are made and saved: a link in `fast`, bytes of its own in `slow`. */
async function save(): Promise<Saved> {
  const rig = await openNode(catalogue, { stores: { fast: { zeroCopy: true }, slow: {} } });
  const bytes = someBytes(3000);
  const plan = await rig.stageAndClaim(bytes, ["fast", "slow"]);
  const digests = await rig.digest(plan, bytes.length);
  const copies = [
    await rig.store(plan, bytes.length, "fast"),
    await rig.store(plan, bytes.length, "slow"),
  ];
  await rig.control.saveImage(saveOrder(plan, digests, copies));
  return { rig, plan, digests };
}

async function confirm(
  { rig, plan: { image_id, epoch }, digests }: Saved,
  environment = activityEnvironment(),
): Promise<void> {
  await runStep(() => rig.cleanUp.confirmCopies({ image_id, epoch, digests }), environment);
}

/** Writes eight other bytes into a file, as its owner can at any time. */
async function overwrite(path: string): Promise<void> {
  await chmod(path, 0o640);
  const file = await open(path, "r+");
  await file.write(someBytes(8), 0, 8, 100);
  await file.close();
}

describe("confirmCopies()", () => {
  it("confirms copies that are as they were checked", async () => {
    await expect(confirm(await save())).resolves.toBeUndefined();
  });

  it("refuses a link to staged data that was written to, and nothing becomes active", async () => {
    const saved = await save();
    const { rig, plan } = saved;
    await overwrite(rig.staged(plan.image_id));

    expect(await failureOf(confirm(saved))).toMatchObject({
      code: "StagedDataChanged",
      retryable: false,
      message: expect.stringContaining('store "fast"') as unknown,
    });
    expect((await catalogue.image(plan.image_id)).status).toBe("saving");
  });

  it("notices a writer that sets the time of the change back", async () => {
    const saved = await save();
    const path = saved.rig.staged(saved.plan.image_id);
    const { atime, mtime } = await stat(path);
    await overwrite(path);
    await utimes(path, atime, mtime);

    expect(await failureOf(confirm(saved))).toMatchObject({ code: "StagedDataChanged" });
  });

  it("refuses a copy in a store that was written to", async () => {
    const saved = await save();
    await overwrite(saved.rig.copyPath(saved.plan, "slow"));

    expect(await failureOf(confirm(saved))).toMatchObject({
      code: "DigestMismatch",
      message: expect.stringContaining('store "slow"') as unknown,
    });
  });

  it("refuses a copy that disappeared", async () => {
    const saved = await save();
    await unlink(saved.rig.copyPath(saved.plan, "slow"));

    expect(await failureOf(confirm(saved))).toMatchObject({ code: "CopyNotFound" });
  });

  it("waits for a store whose volume is not mounted", async () => {
    const saved = await save();
    const { rig } = saved;
    await rename(rig.stored("", "slow"), rig.stored("", "away"));
    await mkdir(rig.stored("", "slow"));

    expect(await failureOf(confirm(saved))).toMatchObject({
      code: "StoreUnavailable",
      retryable: true,
    });
    expect(await readdir(rig.stored("", "slow"))).toEqual([]);
  });

  it("confirms copies that were touched and have the same bytes, and records their new versions", async () => {
    const saved = await save();
    const { rig, plan } = saved;
    await utimes(rig.staged(plan.image_id), 1, 1);
    await utimes(rig.copyPath(plan, "slow"), 1, 1);
    const before = await catalogue.locations(plan.image_id);

    await confirm(saved);

    const after = await catalogue.locations(plan.image_id);
    expect(after.map(({ version }) => version)).not.toEqual(before.map(({ version }) => version));
    await rig.activate(plan);
  });

  it("reads a touched copy once while the catalogue is unreachable now and then", async () => {
    const saved = await save();
    const { rig, plan } = saved;
    await utimes(rig.staged(plan.image_id), 1, 1);
    await utimes(rig.copyPath(plan, "slow"), 1, 1);
    const opens = ["fast", "slow"].map((name) =>
      vi.spyOn(rig.dependencies.stores.get(name), "open"),
    );
    // The first call is before the work.
    const { failures, mend } = breakDatabase(catalogue.database, (call) => call % 2 === 1);

    const environment = activityEnvironment();
    const waits = new Set<string | undefined>();
    environment.on("heartbeat", ({ waitsFor }: ByteProgress) => waits.add(waitsFor));

    await confirm(saved, environment);

    expect(failures()).toBe(2);
    expect(waits).toContain("Postgres: the database system is starting up");
    expect(opens.map(({ mock }) => mock.calls.length)).toEqual([1, 1]);
    mend();
    await rig.activate(plan);
  });
});

describe("storeImage() of staged data that is written to meanwhile", () => {
  it("makes no link to changed bytes", async () => {
    const rig = await openNode(catalogue, { stores: { fast: { zeroCopy: true } } });
    const plan = await rig.stageAndClaim(someBytes(3000));
    await overwrite(rig.staged(plan.image_id));

    expect(await failureOf(rig.store(plan, 3000))).toMatchObject({ code: "StagedDataChanged" });
    expect(await rig.names("fast")).toEqual([]);
  });

  it("makes a published copy again when it was changed before the import continued", async ({
    rig,
  }) => {
    const plan = await rig.stageAndClaim(someBytes(3000));
    await rig.store(plan, 3000);
    await overwrite(rig.copyPath(plan));

    expect(await failureOf(rig.store(plan, 3000))).toMatchObject({ code: "CopyMismatch" });
    expect(await rig.store(plan, 3000)).toMatchObject({ method: "copy" });
  });
});
