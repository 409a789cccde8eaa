import { mkdir, stat, symlink, writeFile } from "node:fs/promises";
import { describe, expect } from "vitest";
import { newPartName } from "../../src/bytes/part-name.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import { MIB } from "../support/mib.ts";
import { type NodeRig, onNode, openNode, someBytes } from "../support/node-rig.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);

/** An accepted import of the file at a place below the staging root. */
async function claimAt(rig: NodeRig, name: string, imageId?: string) {
  return rig.claim(imageId ?? (await catalogue.newImage()), { uri: rig.uri(name) });
}

describe("adoptFile(), called by the verdict", () => {
  it("records a file that the user put into staging as that of the image, with unknown digests", async ({
    rig,
  }) => {
    await writeFile(rig.staged("disk.raw"), someBytes(700));
    const plan = await claimAt(rig, "disk.raw");

    await rig.verify(plan);

    const { ino } = await stat(rig.staged("disk.raw"));
    expect(await catalogue.staged(plan.image_id)).toMatchObject({
      node: rig.dependencies.staging.node,
      state: "whole",
      path: rig.staged("disk.raw"),
      ours: false,
      sizeBytes: 700,
      fingerprint: { ino: String(ino), sizeBytes: "700" },
      checksum: null,
      crc32: null,
    });
  });

  it("gives it the time to live of staged data", async ({ rig }) => {
    const plan = await rig.adoptAndClaim(someBytes(700));

    const { stagedAt, expiresAt } = (await catalogue.staged(plan.image_id)) ?? {};
    expect(Number(expiresAt) - Number(stagedAt)).toBe(60_000);
  });

  it("keeps the row of an upload as it is", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(700));
    const before = await catalogue.staged(plan.image_id);

    await rig.verify(plan);

    expect(await catalogue.staged(plan.image_id)).toEqual(before);
  });

  it("records a file by its real path, whatever path the request names", async ({ rig }) => {
    await mkdir(rig.staged("inner"));
    await symlink(rig.staged("inner"), rig.staged("alias"));
    await writeFile(rig.staged("inner/disk.raw"), someBytes(700));
    const plan = await claimAt(rig, "alias/disk.raw");

    await rig.verify(plan);

    expect((await catalogue.staged(plan.image_id))?.path).toBe(rig.staged("inner/disk.raw"));
  });

  it("refuses a file that is the staged data of another image", async ({ rig }) => {
    const owner = await rig.stage(someBytes(700));
    const plan = await claimAt(rig, owner);

    expect(await failureOf(rig.verify(plan))).toMatchObject({
      code: "StagedDataRefused",
      message: `Cannot adopt "${rig.staged(owner)}": it belongs to image "${owner}"`,
    });
    expect(await catalogue.staged(plan.image_id)).toBeUndefined();
  });

  it("refuses the part of an upload", async ({ rig }) => {
    const part = newPartName(await catalogue.newImage(), 0);
    await writeFile(rig.staged(part), someBytes(700));
    const plan = await claimAt(rig, part);

    expect(await failureOf(rig.verify(plan))).toMatchObject({
      code: "StagedDataRefused",
      message: `Cannot adopt "${rig.staged(part)}": the staging area itself uses it`,
    });
  });

  it("refuses a file that the staging area keeps for itself", async ({ rig }) => {
    const plan = await claimAt(rig, ".image-import-node");

    expect(await failureOf(rig.verify(plan))).toMatchObject({ code: "StagedDataRefused" });
  });

  it("refuses another file than the staged one", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(700));
    await writeFile(rig.staged("disk.raw"), someBytes(700));
    const plan = await claimAt(rig, "disk.raw", imageId);

    expect(await failureOf(rig.verify(plan))).toMatchObject({
      code: "StagedDataRefused",
      message: `Cannot adopt "${rig.staged("disk.raw")}": image "${imageId}" has other bytes in staging, at "${rig.staged(imageId)}"`,
    });
  });

  it("accepts another file than that of the failed import of a queued image", async ({ rig }) => {
    await writeFile(rig.staged("wrong.raw"), someBytes(700));
    await writeFile(rig.staged("right.raw"), someBytes(900));
    const failed = await claimAt(rig, "wrong.raw");
    await rig.verify(failed);
    await rig.release(failed);

    const plan = await claimAt(rig, "right.raw", failed.image_id);

    expect(await rig.verify(plan)).toMatchObject({ size: 900 });
    expect((await catalogue.staged(plan.image_id))?.path).toBe(rig.staged("right.raw"));
    expect(await rig.names("staging")).toEqual(["right.raw", "wrong.raw"]);
  });
});

describe("openTrustedStaged(), called by digests and copies", () => {
  it("lets copies and digests of one image run beside each other", async () => {
    const stores = { fast: { zeroCopy: true }, slow: { zeroCopy: true }, third: {} };
    const rig = await openNode(catalogue, { stores });
    const plan = await rig.stageAndClaim(someBytes(3 * MIB), Object.keys(stores));

    const [digests, ...copies] = await Promise.all([
      rig.digest(plan, 3 * MIB),
      ...Object.keys(stores).map((store) => rig.store(plan, 3 * MIB, store)),
    ]);

    expect(copies.map((copy) => copy.crc32)).toEqual(Array(3).fill(digests.crc32));
  });

  it("lets copies and digests of a file that the user put there run beside each other", async ({
    rig,
  }) => {
    const plan = await rig.adoptAndClaim(someBytes(3 * MIB), ["fast", "slow"]);

    const [digests, ...copies] = await Promise.all([
      rig.digest(plan, 3 * MIB),
      rig.store(plan, 3 * MIB, "fast"),
      rig.store(plan, 3 * MIB, "slow"),
    ]);

    expect(copies.map((copy) => copy.crc32)).toEqual([digests.crc32, digests.crc32]);
  });
});
