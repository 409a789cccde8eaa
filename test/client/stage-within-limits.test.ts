import { readdirSync, statSync } from "node:fs";
import { rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { setImmediate } from "node:timers/promises";
import { isDeepStrictEqual } from "node:util";
import { describe, expect, it, vi } from "vitest";
import { adoptStagedFile, stageData, type StagedImage } from "../../src/client/stage-image.ts";
import { Database } from "../../src/db/connect.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import { LimitedOwner, limitsOf } from "../support/limited-owner.ts";
import { MIB } from "../support/mib.ts";
import { openNode, runStep, someBytes, type NodeRig } from "../support/node-rig.ts";
import { Relay } from "../support/relay.ts";
import { PATIENCE } from "../support/patience.ts";

const catalogue = useCatalogue();

/** A node with limits of 4 MiB in staging for each owner and 3 MiB for each image, and an owner. */
async function openLimited() {
  const limits = limitsOf({ image_stage_total: 4 * MIB }, 3 * MIB);
  const rig = await openNode(catalogue, { limits });
  const owner = new LimitedOwner(catalogue, limits);
  const stage = async (imageId: string, source: string | Readable): Promise<StagedImage> =>
    stageData(rig.stagingTools, imageId, source, {});
  return { rig, owner, stage };
}

function streamOf(sizeBytes: number): Readable {
  const blocks = Array.from({ length: sizeBytes / (MIB / 4) }, () => someBytes(MIB / 4));
  return Readable.from(blocks);
}

/** Expects that a staging has left no bytes and no reservation, and the image is as it was. */
async function expectNothing(rig: NodeRig, owner: LimitedOwner, imageId: string): Promise<void> {
  expect(await rig.names("staging")).toEqual([]);
  expect((await owner.counted()).image_stage_total).toBe(0);
  expect(await catalogue.image(imageId)).toMatchObject({ status: "queued", sizeBytes: null });
  expect(await catalogue.staged(imageId)).toBeUndefined();
}

describe("stageData() within limits", () => {
  it("refuses a file that is too large before its first byte", async () => {
    const { rig, owner, stage } = await openLimited();
    const imageId = await owner.newImage();

    const failure = await failureOf(stage(imageId, await rig.upload(someBytes(3 * MIB + 1))));

    expect(failure).toMatchObject({
      code: "ImageTooLarge",
      message: `Image "${imageId}" is too large: it has 3 MiB (3145729 bytes) at least, and image_size_cap is 3 MiB (3145728 bytes)`,
    });
    await expectNothing(rig, owner, imageId);
  });

  it("leaves nothing of a stream that becomes too large", async () => {
    const { rig, owner, stage } = await openLimited();
    const imageId = await owner.newImage();

    const failure = await failureOf(stage(imageId, streamOf(4 * MIB)));

    expect(failure).toMatchObject({ code: "ImageTooLarge" });
    await expectNothing(rig, owner, imageId);
  });

  it("leaves nothing of a file that does not fit beside another upload, and stages it when there is room", async () => {
    const { rig, owner, stage } = await openLimited();
    const first = await owner.newImage();
    await stage(first, await rig.upload(someBytes(3 * MIB)));
    const second = await owner.newImage();
    const upload = await rig.upload(someBytes(2 * MIB));

    const failure = await failureOf(stage(second, upload));

    expect(failure).toMatchObject({
      code: "QuotaExceeded",
      message: `image_stage_total of owner "${String(owner.name)}" is over limit of 4 MiB (4194304 bytes) due to current usage 3 MiB (3145728 bytes) and delta 2 MiB (2097152 bytes)`,
    });
    expect(await rig.names("staging")).toEqual([first]);
    const plan = await rig.claim(first);
    await rig.finish(plan, 3 * MIB);
    await runStep(() => rig.cleanUp.unstageImage({ image_id: first }));
    expect(await stage(second, upload)).toMatchObject({ size: 2 * MIB });
  });

  it("stages a stream that uses all of the room", async () => {
    const { rig, owner, stage } = await openLimited();
    await stage(await owner.newImage(), await rig.upload(someBytes(1.5 * MIB)));

    const staged = await stage(await owner.newImage(), streamOf(2.5 * MIB));

    expect(staged.size).toBe(2.5 * MIB);
    expect((await owner.usage()).image_stage_total).toEqual({ usage: 4 * MIB, reserved: 0 });
  });

  it("never has more bytes in staging than the owner may have, while sixteen streams arrive", async () => {
    const { rig, owner, stage } = await openLimited();
    const imageIds = await Promise.all(Array.from({ length: 16 }, () => owner.newImage()));

    const staging = Promise.allSettled(imageIds.map((imageId) => stage(imageId, streamOf(MIB))));
    const most = await mostBytesDuring(join(rig.directory, "staging"), staging);

    expect(most).toBeLessThanOrEqual(4 * MIB);
    const settled = await staging;
    const staged = settled.flatMap((each) => (each.status === "fulfilled" ? [each.value] : []));
    for (const each of settled) {
      if (each.status === "fulfilled") continue;
      expect(each.reason).toBeInstanceOf(ImportError);
      expect(each.reason).toMatchObject({ code: "QuotaExceeded" });
    }
    expect(await rig.names("staging")).toEqual(staged.map(({ image_id: id }) => id).sort());
    expect((await owner.counted()).image_stage_total).toBe(staged.length * MIB);
    // The reservations of the refused streams are free again, so the room can be filled one upload
    // after the other.
    for (let count = staged.length; count < 4; count += 1) {
      await stage(await owner.newImage(), streamOf(MIB));
    }
    expect((await owner.counted()).image_stage_total).toBe(4 * MIB);
  });

  it("holds the room of a process that was killed until the sweeper takes over", async () => {
    const { rig, owner, stage } = await openLimited();
    const imageId = await owner.newImage();
    const upload = await rig.upload(someBytes(3 * MIB));
    const stager = rig.stageElsewhere(imageId, upload);
    await rig.awaitPart("staging", MIB);
    await stager.kill();
    const other = await owner.newImage();
    expect(await failureOf(stage(other, upload))).toMatchObject({ code: "QuotaExceeded" });
    await catalogue.silenceStager(imageId, 21);

    await runStep(() => rig.cleanUp.sweepNode());

    await expectNothing(rig, owner, imageId);
    await stage(other, upload);
    expect((await owner.counted()).image_stage_total).toBe(3 * MIB);
  });

  it("repeats its reservation when the answer was lost", async () => {
    const { rig, owner } = await openLimited();
    const relay = await Relay.open(catalogue.url);
    const database = new Database({ url: relay.through(catalogue.url) });
    const imageId = await owner.newImage();
    const stream = new PassThrough();
    const staging = stageData({ ...rig.stagingTools, database }, imageId, stream, {});
    stream.write(someBytes(MIB));
    await rig.awaitPart("staging", MIB);

    relay.cutInsteadOfAnswerTo("commit");
    // A connection that has committed before sends only the name of a prepared statement, so the
    // relay cannot recognise the commit. A new connection sends the text.
    relay.cut();
    stream.end(someBytes(2 * MIB));
    const isReserved = async (): Promise<boolean> =>
      (await catalogue.staged(imageId))?.reservedBytes === 3 * MIB;
    await vi.waitUntil(isReserved, PATIENCE);
    relay.cutInsteadOfAnswerTo("nothing any more");

    expect(await staging).toMatchObject({ size: 3 * MIB });
    expect((await owner.usage()).image_stage_total).toEqual({ usage: 3 * MIB, reserved: 0 });
    await database.close();
  });
});

describe("adoptStagedFile() within limits", () => {
  it.each([
    ["too large", 3 * MIB + 1, "ImageTooLarge"],
    ["more than the owner may stage", 3 * MIB, "QuotaExceeded"],
  ])("refuses a file that is %s, and leaves it where it is", async (_, sizeBytes, code) => {
    const { rig, owner, stage } = await openLimited();
    const first = await owner.newImage();
    await stage(first, await rig.upload(someBytes(2 * MIB)));
    const imageId = await owner.newImage();
    await writeFile(rig.staged("disk.raw"), someBytes(sizeBytes));

    const adopting = adoptStagedFile(rig.stagingTools, imageId, rig.uri("disk.raw"));

    expect(await failureOf(adopting)).toMatchObject({ code });
    expect((await catalogue.image(imageId)).status).toBe("queued");
    expect((await stat(rig.staged("disk.raw"))).size).toBe(sizeBytes);
    expect((await owner.counted()).image_stage_total).toBe(2 * MIB);
  });

  it("counts the file that it adopts", async () => {
    const { rig, owner } = await openLimited();
    const imageId = await owner.newImage();
    await writeFile(rig.staged("disk.raw"), someBytes(MIB));

    await adoptStagedFile(rig.stagingTools, imageId, rig.uri("disk.raw"));

    expect(await owner.counted()).toMatchObject({
      image_stage_total: MIB,
      image_count_uploading: 1,
    });
    await rm(rig.staged("disk.raw"));
  });
});

/**
 * Adds up the files of a directory again and again while the work runs. Each sum is synchronous, so
 * this process cannot free room and use it again between the first file and the last.
 *
 * @returns the largest sum, in bytes
 */
async function mostBytesDuring(directory: string, work: Promise<unknown>): Promise<number> {
  const state = { isOver: false };
  const ending = work.finally(() => {
    state.isOver = true;
  });
  let most = 0;
  let earlier = sizesIn(directory);
  while (!state.isOver) {
    const sizes = sizesIn(directory);
    // The files are read one after the other. Two equal results show that all files had these sizes
    // at one moment between the two reads: a file only grows, and no name is used twice.
    if (isDeepStrictEqual(sizes, earlier)) {
      most = Math.max(
        most,
        [...sizes.values()].reduce((total, size) => total + size, 0),
      );
    }
    earlier = sizes;
    await setImmediate();
  }
  await ending;
  return most;
}

/** The sizes of the files in a directory by inode: a file that is being published has two names. */
function sizesIn(directory: string): Map<number, number> {
  const names = readdirSync(directory).filter((name) => !name.startsWith("."));
  const found = names.flatMap(
    (name) => statSync(join(directory, name), { throwIfNoEntry: false }) ?? [],
  );
  return new Map(found.map(({ ino, size }) => [ino, size]));
}
