import { mkdir, readFile, rename, rm, stat, unlink, writeFile } from "node:fs/promises";
import { describe, expect } from "vitest";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import { findImage } from "../../src/db/image-records.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import { type NodeRig, onNode, openNode, runStep, someBytes } from "../support/node-rig.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);

async function unstage(rig: NodeRig, { image_id }: ImportPlan): Promise<void> {
  await runStep(() => rig.cleanUp.unstageImage({ image_id }));
}

describe("unstageImage()", () => {
  it("deletes the staged data of a published image", async ({ rig }) => {
    const plan = await rig.import(someBytes(100));

    await unstage(rig, plan);

    expect(await rig.names("staging")).toEqual([]);
    expect(await catalogue.staged(plan.image_id)).toBeUndefined();
    expect((await catalogue.image(plan.image_id)).status).toBe("active");
  });

  it("gives a linked copy bytes of its own", async () => {
    const rig = await openNode(catalogue, { stores: { fast: { zeroCopy: true } } });
    const bytes = someBytes(100);
    const plan = await rig.import(bytes);
    expect((await stat(rig.copyPath(plan))).nlink).toBe(2);

    await unstage(rig, plan);

    expect((await stat(rig.copyPath(plan))).nlink).toBe(1);
    expect(await readFile(rig.copyPath(plan))).toEqual(bytes);
    const { locations } = await catalogue.database.query((db) => findImage(db, plan.image_id));
    expect(locations).toMatchObject([{ store: "fast", shared: false }]);
  });

  it("deletes a file that the user put into staging", async ({ rig }) => {
    await mkdir(rig.staged("inner"));
    await writeFile(rig.staged("inner/disk.raw"), someBytes(100));
    const uri = rig.uri("inner/disk.raw");
    const plan = await rig.claim(await catalogue.newImage(), { uri });
    await rig.verify(plan);
    await rig.finish(plan, 100);

    await unstage(rig, plan);

    expect(await rig.names("staging/inner")).toEqual([]);
  });

  it("succeeds again", async ({ rig }) => {
    const plan = await rig.import(someBytes(100));
    await unstage(rig, plan);
    const before = await rig.snapshot(plan);

    await unstage(rig, plan);

    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it("succeeds where the file is gone already, and forgets it", async ({ rig }) => {
    const plan = await rig.import(someBytes(100));
    await unlink(rig.staged(plan.image_id));

    await unstage(rig, plan);

    expect(await catalogue.staged(plan.image_id)).toBeUndefined();
  });

  it("succeeds where the directory of the file is gone already, and forgets it", async ({
    rig,
  }) => {
    await mkdir(rig.staged("inner"));
    await writeFile(rig.staged("inner/disk.raw"), someBytes(100));
    const uri = rig.uri("inner/disk.raw");
    const plan = await rig.claim(await catalogue.newImage(), { uri });
    await rig.verify(plan);
    await rig.finish(plan, 100);
    await rm(rig.staged("inner"), { recursive: true });

    await unstage(rig, plan);

    expect(await catalogue.staged(plan.image_id)).toBeUndefined();
  });

  it("fails for now while the staging area is unreachable, and turns nothing back", async ({
    rig,
  }) => {
    const plan = await rig.import(someBytes(100));
    await rename(rig.staged(""), rig.stored("../away"));

    const failure = await failureOf(unstage(rig, plan));

    expect(failure).toMatchObject({ code: "StagingUnavailable", retryable: true });
    expect((await catalogue.image(plan.image_id)).status).toBe("active");
    expect((await catalogue.task(plan.task_id)).status).toBe("success");
    expect(await catalogue.staged(plan.image_id)).toMatchObject({ state: "writing" });
  });
});
