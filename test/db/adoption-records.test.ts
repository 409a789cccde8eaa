import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { adoptFile, type FileToAdopt } from "../../src/db/adoption-records.ts";
import { releaseClaim, takeClaim } from "../../src/db/claim-records.ts";
import { finishLease, takeAbandonedLease, takeLease } from "../../src/db/lease-records.ts";
import { uploadOf } from "../../src/domain/place.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import { thisProcess } from "../../src/processes/process-identity.ts";
import { claimantOf, NODE, SOME_FINGERPRINT, useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";

const catalogue = useCatalogue();

async function adopt(imageId: string, changes: Partial<FileToAdopt> = {}): Promise<void> {
  const writer = await thisProcess();
  await catalogue.database.transaction((db) =>
    adoptFile(db, NO_LIMITS, {
      imageId,
      node: NODE,
      writer,
      path: `/staging/${imageId}`,
      fingerprint: SOME_FINGERPRINT,
      isOwnFile: false,
      timeToLiveMs: 60_000,
      ...changes,
    }),
  );
}

/** An image with the download of an import that failed, at the default path of an upload. */
async function imageWithDownload(): Promise<string> {
  const imageId = await catalogue.newImage();
  const claimant = claimantOf(imageId);
  const request = { image_id: imageId, method: "web-download", uri: "http://a.test/b" } as const;
  const holder = { node: NODE, token: randomUUID(), writer: await thisProcess() };
  const names = { part: "part", path: `/staging/${imageId}` };
  await catalogue.database.transaction(async (db) => {
    const { epoch } = await takeClaim(db, NO_LIMITS, request, ["fast"], claimant);
    const download = { imageId, epoch, place: "download" } as const;
    await takeLease(db, download, { ...holder, ...names }, undefined);
    await finishLease(db, download, holder.token);
    await releaseClaim(db, { imageId, ...claimant }, { message: "Error: x" }, []);
  });
  return imageId;
}

describe("adoptFile()", () => {
  it("records a file as staged, not as ours, and without digests", async () => {
    const imageId = await catalogue.newImage();

    await adopt(imageId, { path: "/staging/theirs" });

    expect(await catalogue.staged(imageId)).toMatchObject({
      state: "whole",
      ours: false,
      part: null,
      path: "/staging/theirs",
      sizeBytes: 4096,
      fingerprint: SOME_FINGERPRINT,
      checksum: null,
      osHashAlgo: null,
      osHashValue: null,
      crc32: null,
      linkedStore: null,
    });
  });

  it("replaces the file that a queued image had", async () => {
    const imageId = await catalogue.newImage();
    await adopt(imageId, { path: "/staging/first" });

    await adopt(imageId, { path: "/staging/second" });

    expect((await catalogue.staged(imageId))?.path).toBe("/staging/second");
  });

  it("records the new fingerprint of the same file when no import holds the image", async () => {
    const imageId = await catalogue.newImage();
    await adopt(imageId);
    const fingerprint = { ...SOME_FINGERPRINT, mtimeNs: "9" };

    await adopt(imageId, { fingerprint });

    expect((await catalogue.staged(imageId))?.fingerprint).toEqual(fingerprint);
  });

  it("keeps the row of a file that an import knows already", async () => {
    const { imageId } = await catalogue.claimedImage();
    const before = await catalogue.staged(imageId);

    await adopt(imageId, { fingerprint: { ...SOME_FINGERPRINT, mtimeNs: "9" } });

    expect(await catalogue.staged(imageId)).toEqual(before);
  });

  it("refuses another file than the upload of the image", async () => {
    const { imageId } = await catalogue.claimedImage();

    expect(await failureOf(adopt(imageId, { path: "/staging/other" }))).toMatchObject({
      code: "StagedDataRefused",
      message: `Cannot adopt "/staging/other": image "${imageId}" has other bytes in staging, at "/staging/${imageId}"`,
    });
  });

  it("refuses a file that belongs to another image", async () => {
    const [owner, imageId] = [await catalogue.stagedImage(), await catalogue.newImage()];

    expect(await failureOf(adopt(imageId, { path: `/staging/${owner}` }))).toMatchObject({
      code: "StagedDataRefused",
      message: `Cannot adopt "/staging/${owner}": it belongs to image "${owner}"`,
    });
  });

  it("refuses a file that the staging area uses", async () => {
    const imageId = await catalogue.newImage();

    expect(await failureOf(adopt(imageId, { isOwnFile: true }))).toMatchObject({
      code: "StagedDataRefused",
      message: `Cannot adopt "/staging/${imageId}": the staging area itself uses it`,
    });
  });

  it("refuses a file that is the download of an earlier import", async () => {
    const imageId = await imageWithDownload();
    const before = await catalogue.allLeases(imageId);

    expect(await failureOf(adopt(imageId))).toMatchObject({
      code: "StagedDataRefused",
      message: `Cannot adopt "/staging/${imageId}": it is the download of an earlier import, which removes it`,
    });
    expect(await catalogue.allLeases(imageId)).toEqual(before);
  });

  it("records a file beside the download of an earlier import", async () => {
    const imageId = await imageWithDownload();

    await adopt(imageId, { path: "/staging/mine" });

    const leases = await catalogue.allLeases(imageId);
    expect(leases.map(({ place, path }) => [place, path]).sort()).toEqual([
      ["download", `/staging/${imageId}`],
      ["upload", "/staging/mine"],
    ]);
  });

  it("refuses a file while the sweeper removes it", async () => {
    const imageId = await catalogue.newImage();
    await adopt(imageId);
    await catalogue.expireStaged(imageId);
    const sweeper = { node: NODE, token: randomUUID(), writer: await thisProcess() };
    await catalogue.database.transaction((db) =>
      takeAbandonedLease(db, uploadOf(imageId), sweeper),
    );

    expect(await failureOf(adopt(imageId))).toMatchObject({
      code: "StagingBusy",
      message: `Cannot adopt "/staging/${imageId}": another process is removing it from staging`,
    });
    expect((await catalogue.staged(imageId))?.token).toBe(sweeper.token);
  });
});
