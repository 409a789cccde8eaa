import { createHash, randomUUID } from "node:crypto";
import {
  mkdir,
  open,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from "node:fs/promises";
import { join } from "node:path";
import { PassThrough, Readable } from "node:stream";
import { pathToFileURL } from "node:url";
import { crc32 } from "node:zlib";
import { describe, expect, onTestFinished, vi } from "vitest";
import { isPartName } from "../../src/bytes/part-name.ts";
import {
  adoptStagedFile,
  dropStagedData,
  stageData,
  type StagedImage,
  type StageOptions,
} from "../../src/client/stage-image.ts";
import { Database } from "../../src/db/connect.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import { ZeroBlocks } from "../../src/bytes/zero-blocks.ts";
import { MIB } from "../support/mib.ts";
import {
  type NodeRig,
  onNode,
  openNode,
  outcomeOf,
  runStep,
  someBytes,
} from "../support/node-rig.ts";
import { Relay } from "../support/relay.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { MAY_MOUNT, mountSmallVolume } from "../support/volume.ts";
import { PATIENCE } from "../support/patience.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);
const needsMount = MAY_MOUNT ? "" : " (skipped: this user may not mount file systems)";

async function stage(
  rig: NodeRig,
  imageId: string,
  source: string | Readable,
  options: StageOptions = {},
): Promise<StagedImage> {
  return stageData(rig.stagingTools, imageId, source, options);
}

/** A staging in progress: some bytes of its stream are staged, and the test may write more. */
async function beginToStage(rig: NodeRig, options: StageOptions = {}) {
  const imageId = await catalogue.newImage();
  const stream = new PassThrough();
  const staging = stage(rig, imageId, stream, options);
  staging.catch(() => undefined);
  stream.write(someBytes(2 * MIB));
  const part = await rig.awaitPart("staging", MIB);
  return { imageId, stream, staging, part };
}

function sha512(bytes: Buffer): string {
  return createHash("sha512").update(bytes).digest("hex");
}

describe("stageData()", () => {
  it("stages a file under the image's id, with its digests", async ({ rig }) => {
    const bytes = someBytes(2 * MIB + 9);
    const imageId = await catalogue.newImage();

    const staged = await stage(rig, imageId, await rig.upload(bytes));

    expect(staged).toEqual({
      image_id: imageId,
      status: "uploading",
      path: rig.staged(imageId),
      size: bytes.length,
      checksum: createHash("md5").update(bytes).digest("hex"),
      os_hash_algo: "sha512",
      os_hash_value: sha512(bytes),
    });
    expect(await rig.names("staging")).toEqual([imageId]);
    expect((await readFile(rig.staged(imageId))).equals(bytes)).toBe(true);
  });

  it("moves the image to uploading, with its size", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));

    expect(await catalogue.image(imageId)).toMatchObject({ status: "uploading", sizeBytes: 100 });
  });

  it("records digests, fingerprint and time to live with the file", async ({ rig }) => {
    const bytes = someBytes(100);
    const imageId = await rig.stage(bytes);

    const { ino, ctimeNs } = await stat(rig.staged(imageId), { bigint: true });
    const row = await catalogue.staged(imageId);
    expect(row).toMatchObject({
      node: rig.dependencies.staging.node,
      state: "whole",
      path: rig.staged(imageId),
      ours: true,
      sizeBytes: 100,
      osHashValue: sha512(bytes),
      crc32: crc32(bytes),
      linkedStore: null,
      fingerprint: { ino: String(ino), ctimeNs: String(ctimeNs), sizeBytes: "100" },
    });
    expect(Number(row?.expiresAt) - Number(row?.stagedAt)).toBe(60_000);
  });

  it("waits for a catalogue that is unreachable when a stream has ended", async ({ rig }) => {
    const relay = await Relay.open(catalogue.url);
    const database = new Database({ url: relay.through(catalogue.url) });
    onTestFinished(() => database.close());
    const bytes = someBytes(MIB + 5);
    const imageId = await catalogue.newImage();
    const report = (doneBytes: number): void => {
      if (doneBytes < bytes.length) return;
      relay.cutInsteadOfAnswerTo('"os_hash_value" = ');
      setTimeout(() => {
        relay.cutInsteadOfAnswerTo("nothing that is ever sent");
      }, 1_500);
    };

    const tools = { ...rig.stagingTools, database };
    await stageData(tools, imageId, Readable.from([bytes]), { report });

    expect(await catalogue.staged(imageId)).toMatchObject({ state: "whole", crc32: crc32(bytes) });
    expect((await readFile(rig.staged(imageId))).equals(bytes)).toBe(true);
  });

  it("stages a stream to its end, with pieces of any size", async ({ rig }) => {
    const bytes = someBytes(2 * MIB + 3);
    const imageId = await catalogue.newImage();
    const pieces = [0, 1, 70_000, MIB, MIB + 1, bytes.length];
    const stream = Readable.from(
      pieces.slice(1).map((end, index) => bytes.subarray(pieces[index], end)),
    );

    const staged = await stage(rig, imageId, stream);

    expect(staged).toMatchObject({ size: bytes.length, os_hash_value: sha512(bytes) });
    expect((await readFile(rig.staged(imageId))).equals(bytes)).toBe(true);
  });

  it.for([
    ["a file", async (rig: NodeRig) => rig.upload(Buffer.alloc(0))],
    ["a stream", async () => Readable.from([])],
  ] as const)("stages %s of no bytes", async ([_, make], { rig }) => {
    const imageId = await catalogue.newImage();

    const staged = await stage(rig, imageId, await make(rig));

    expect(staged).toMatchObject({ size: 0, os_hash_value: sha512(Buffer.alloc(0)) });
    expect((await stat(rig.staged(imageId))).size).toBe(0);
  });

  it("keeps a sparse file sparse", async ({ rig }) => {
    const imageId = await catalogue.newImage();
    const upload = await rig.upload(someBytes(MIB));
    await truncate(upload, 64 * MIB);

    await stage(rig, imageId, upload);

    const { size, blocks } = await stat(rig.staged(imageId));
    expect(size).toBe(64 * MIB);
    expect(blocks * 512).toBeLessThan(2 * MIB);
  });

  it("records which blocks are zero, so that a copy need not read them", async ({ rig }) => {
    const imageId = await catalogue.newImage();
    const zeros = Buffer.alloc(MIB);

    await stage(rig, imageId, Readable.from([someBytes(MIB), zeros, someBytes(MIB), zeros]));

    const staged = await catalogue.staged(imageId);
    const known = new ZeroBlocks(staged?.zeroBlocks ?? undefined);
    expect([0, 1, 2, 3, 4].filter((block) => known.has(block))).toEqual([1, 3]);
  });

  it("reports its progress, and the total of a file", async ({ rig }) => {
    const progress: unknown[] = [];
    const report = (...reported: unknown[]): void => void progress.push(reported);
    const upload = await rig.upload(someBytes(2 * MIB + 1));

    await stage(rig, await catalogue.newImage(), upload, { report });
    await stage(rig, await catalogue.newImage(), Readable.from([someBytes(5)]), { report });

    const total = 2 * MIB + 1;
    expect(progress).toEqual([
      [MIB, total],
      [2 * MIB, total],
      [total, total],
      [5, undefined],
    ]);
  });

  it("replaces an existing file that was not staged", async ({ rig }) => {
    const bytes = someBytes(100);
    const imageId = await catalogue.newImage();
    await writeFile(rig.staged(imageId), "another file");

    await stage(rig, imageId, await rig.upload(bytes));

    expect(await readFile(rig.staged(imageId))).toEqual(bytes);
  });

  it("knows the file by its real path when the staging root is reached through a symbolic link", async () => {
    const rig = await openNode(catalogue, {
      makeStaging: async (directory) => {
        await mkdir(join(directory, "staging"));
        await symlink(join(directory, "staging"), join(directory, "alias"));
        return pathToFileURL(join(directory, "alias")).href;
      },
    });

    const imageId = await rig.stage(someBytes(100));

    expect((await catalogue.staged(imageId))?.path).toBe(rig.staged(imageId));
  });
});

describe("stageData() over data that is staged already", () => {
  it("is a conflict, and touches nothing", async ({ rig }) => {
    const bytes = someBytes(100);
    const imageId = await rig.stage(bytes);
    const row = await catalogue.staged(imageId);

    const failure = await failureOf(stage(rig, imageId, await rig.upload(someBytes(50))));

    expect(failure).toMatchObject({
      code: "ImageConflict",
      message: `The image "${imageId}" has data on staging already`,
    });
    expect(await catalogue.staged(imageId)).toEqual(row);
    expect(await readFile(rig.staged(imageId))).toEqual(bytes);
  });

  it("replaces it on request, under a new inode", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));
    await using before = await open(rig.staged(imageId));
    const inode = (await before.stat()).ino;
    const bytes = someBytes(50);

    const staged = await stage(rig, imageId, await rig.upload(bytes), { replace: true });

    expect(staged.os_hash_value).toBe(sha512(bytes));
    expect(await readFile(rig.staged(imageId))).toEqual(bytes);
    expect((await stat(rig.staged(imageId))).ino).not.toBe(inode);
    expect(await catalogue.image(imageId)).toMatchObject({ status: "uploading", sizeBytes: 50 });
  });

  it("never writes to the inode that a failed import had linked to a store", async () => {
    const rig = await openNode(catalogue, { stores: { fast: { zeroCopy: true } } });
    const bytes = someBytes(100);
    const plan = await rig.stageAndClaim(bytes);
    await rig.store(plan, 100);
    await rig.release(plan);

    await stage(rig, plan.image_id, await rig.upload(someBytes(50)), { replace: true });

    expect(await readFile(rig.copyPath(plan))).toEqual(bytes);
  });

  it("leaves no bytes, and the image queued, when the replacement fails", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));
    const broken = new Readable({
      read() {
        this.destroy(new Error("the pipe broke"));
      },
    });

    await expect(stage(rig, imageId, broken, { replace: true })).rejects.toThrow("the pipe broke");
    expect(await rig.names("staging")).toEqual([]);
    expect((await catalogue.image(imageId)).status).toBe("queued");
  });
});

describe("stageData() that is refused", () => {
  it("fails when no image has the id", async ({ rig }) => {
    const failure = await failureOf(stage(rig, randomUUID(), await rig.upload(someBytes(1))));

    expect(failure).toMatchObject({ code: "ImageNotFound" });
    expect(await rig.names("staging")).toEqual([]);
  });

  it.for([
    ["importing", async (rig: NodeRig) => rig.stageAndClaim(someBytes(1))],
    ["saving", async (rig: NodeRig) => rig.saved(someBytes(1))],
    ["active", async (rig: NodeRig) => rig.import(someBytes(1))],
  ] as const)(
    "refuses an image that is %s, also to replace its data",
    async ([status, make], { rig }) => {
      const plan = await make(rig);
      const before = await rig.snapshot(plan);
      const upload = await rig.upload(someBytes(1));

      const failure = await failureOf(stage(rig, plan.image_id, upload, { replace: true }));

      expect(failure).toMatchObject({
        code: "ImageConflict",
        message: `Cannot stage image "${plan.image_id}": it is ${status}, and only a queued image is staged`,
      });
      expect(await rig.snapshot(plan)).toEqual(before);
    },
  );

  it("fails when there is no file, and leaves the image queued", async ({ rig }) => {
    const imageId = await catalogue.newImage();

    const failure = await failureOf(stage(rig, imageId, "/no/such/file"));

    expect(failure).toMatchObject({ code: "FileNotFound" });
    expect((await catalogue.image(imageId)).status).toBe("queued");
  });

  it.skipIf(!MAY_MOUNT)(
    `fails before the first byte when no space is left${needsMount}`,
    async () => {
      const volume = await mountSmallVolume(2);
      const makeStaging = async (): Promise<string> => pathToFileURL(volume).href;
      const rig = await openNode(catalogue, { makeStaging });
      const imageId = await catalogue.newImage();

      const failure = await failureOf(stage(rig, imageId, await rig.upload(someBytes(3 * MIB))));

      expect(failure).toMatchObject({
        code: "NoSpace",
        message: "Cannot stage 3 MiB: the staging area has 2 MiB free",
      });
      expect((await catalogue.image(imageId)).status).toBe("queued");
    },
  );

  it.skipIf(!MAY_MOUNT)(
    `leaves nothing when the space runs out on the way${needsMount}`,
    async () => {
      const volume = await mountSmallVolume(2);
      const makeStaging = async (): Promise<string> => pathToFileURL(volume).href;
      const rig = await openNode(catalogue, { makeStaging });
      const imageId = await catalogue.newImage();
      const stream = Readable.from([someBytes(MIB), someBytes(MIB), someBytes(MIB)]);

      const failure = await failureOf(stage(rig, imageId, stream));

      expect(failure).toMatchObject({ code: "NoSpace", retryable: false });
      expect((await rig.dependencies.staging.listParts(-1)).length).toBe(0);
      expect((await catalogue.image(imageId)).status).toBe("queued");
    },
  );

  it.skipIf(!MAY_MOUNT)(`needs no room for the holes of a sparse file${needsMount}`, async () => {
    const volume = await mountSmallVolume(3);
    const makeStaging = async (): Promise<string> => pathToFileURL(volume).href;
    const rig = await openNode(catalogue, { makeStaging });
    const upload = await rig.upload(someBytes(MIB));
    await truncate(upload, 64 * MIB);

    const staged = await stage(rig, await catalogue.newImage(), upload);

    expect(staged.size).toBe(64 * MIB);
  });
});

describe("stageData() while another process stages the image", () => {
  it("is a conflict that names the stager", async ({ rig }) => {
    const { imageId, stream, staging } = await beginToStage(rig);

    const failure = await failureOf(stage(rig, imageId, await rig.upload(someBytes(1))));

    expect(failure).toMatchObject({
      code: "StagingBusy",
      message: `Cannot stage image "${imageId}": process ${String(process.pid)} on node "${rig.dependencies.staging.node}" is staging it`,
    });
    stream.end();
    expect(await staging).toMatchObject({ size: 2 * MIB });
  });

  it("lets one of two simultaneous stagers stage it", async ({ rig }) => {
    const imageId = await catalogue.newImage();
    const uploads = [await rig.upload(someBytes(MIB)), await rig.upload(someBytes(MIB))];

    const outcomes = await Promise.allSettled(uploads.map((upload) => stage(rig, imageId, upload)));

    expect(outcomes.map(({ status }) => status).sort()).toEqual(["fulfilled", "rejected"]);
    expect(await rig.names("staging")).toEqual([imageId]);
  });

  it("keeps its lease while it runs, however slow its source is", async ({ rig }) => {
    const { imageId, stream, staging } = await beginToStage(rig);
    await catalogue.silenceStager(imageId, 15);

    await vi.waitUntil(async () => (await silenceOf(imageId)) < 14_000, PATIENCE);

    stream.end();
    expect(await staging).toMatchObject({ size: 2 * MIB });
  });

  /** Takes over from a stager that is made silent, again where it renews its lease just then. */
  async function takeOver(rig: NodeRig, imageId: string, bytes: Buffer): Promise<void> {
    const upload = await rig.upload(bytes);
    await vi.waitFor(async () => {
      await catalogue.silenceStager(imageId, 21);
      await stage(rig, imageId, upload);
    }, PATIENCE);
  }

  async function silenceOf(imageId: string): Promise<number> {
    return Date.now() - Number((await catalogue.staged(imageId))?.renewedAt);
  }

  it("is a conflict to import the image", async ({ rig }) => {
    const { imageId, stream, staging } = await beginToStage(rig);

    expect(await failureOf(rig.claim(imageId))).toMatchObject({ code: "StagingBusy" });
    stream.end();
    await staging;
  });

  it("takes over from a stager that has been silent for 20 s, and removes its part", async ({
    rig,
  }) => {
    const { imageId, stream, staging } = await beginToStage(rig);
    const bytes = someBytes(100);

    await takeOver(rig, imageId, bytes);

    expect(await rig.names("staging")).toEqual([imageId]);
    stream.end();
    await expect(staging).rejects.toMatchObject({ code: "StagingBusy" });
    expect(await readFile(rig.staged(imageId))).toEqual(bytes);
    expect(await catalogue.staged(imageId)).toMatchObject({ state: "whole", sizeBytes: 100 });
  });

  it("ends a staging that was taken over, also while its source sends nothing", async ({ rig }) => {
    const { imageId, staging } = await beginToStage(rig);
    const bytes = someBytes(100);
    await takeOver(rig, imageId, bytes);

    expect(await failureOf(staging)).toMatchObject({
      code: "StagingBusy",
      message: `Staging of image "${imageId}" was taken over by another process, or the image was deleted`,
    });
    expect(await readFile(rig.staged(imageId))).toEqual(bytes);
  });

  it("ends a staging whose image is deleted", async ({ rig }) => {
    const { imageId, stream, staging } = await beginToStage(rig);
    await rig.beginDeletion(imageId);
    await runStep(() => rig.cleanUp.removeImageBytes(imageId));

    stream.end();

    expect(await failureOf(staging)).toMatchObject({ code: "StagingBusy" });
    expect(await rig.names("staging")).toEqual([]);
    expect(await rig.control.finishDeletion(imageId)).toBe(true);
  });
});

describe("stageData() that is interrupted", () => {
  it.for([
    ["a file", async (rig: NodeRig) => rig.upload(someBytes(2 * MIB))],
    ["a stream", async () => Readable.from([someBytes(2 * MIB), someBytes(2 * MIB)])],
  ] as const)("leaves no bytes of %s, and the image queued", async ([_, make], { rig }) => {
    const imageId = await catalogue.newImage();
    const abort = new AbortController();
    const report = (): void => {
      abort.abort();
    };

    const failure = await failureOf(
      stage(rig, imageId, await make(rig), { signal: abort.signal, report }),
    );

    expect(failure).toMatchObject({
      code: "Interrupted",
      message: `Staging of image "${imageId}" was interrupted`,
    });
    expect(await rig.names("staging")).toEqual([]);
    expect(await catalogue.staged(imageId)).toBeUndefined();
    expect(await catalogue.image(imageId)).toMatchObject({ status: "queued", sizeBytes: null });
  });

  it("stops also when its stream sends nothing", async ({ rig }) => {
    const abort = new AbortController();
    const { imageId, staging } = await beginToStage(rig, { signal: abort.signal });

    abort.abort();

    expect(await failureOf(staging)).toMatchObject({ code: "Interrupted" });
    expect(await rig.names("staging")).toEqual([]);
    expect((await catalogue.image(imageId)).status).toBe("queued");
  });

  it("does not begin when it is interrupted before", async ({ rig }) => {
    const imageId = await catalogue.newImage();
    const upload = await rig.upload(someBytes(100));

    const failure = await failureOf(stage(rig, imageId, upload, { signal: AbortSignal.abort() }));

    expect(failure).toMatchObject({ code: "Interrupted" });
    expect((await catalogue.image(imageId)).status).toBe("queued");
  });

  it("reports the interruption also when it cannot clean up", async ({ rig }) => {
    const abort = new AbortController();
    const { staging } = await beginToStage(rig, { signal: abort.signal });
    await rename(rig.staged(""), rig.stored("../away"));

    abort.abort();

    expect(await failureOf(staging)).toMatchObject({ code: "Interrupted" });
  });

  it("can be staged again at once", async ({ rig }) => {
    const abort = new AbortController();
    const { imageId, staging } = await beginToStage(rig, { signal: abort.signal });
    abort.abort();
    await staging.catch(() => undefined);

    const staged = await stage(rig, imageId, await rig.upload(someBytes(100)));

    expect(staged.size).toBe(100);
  });

  it("leaves no bytes of a stream that breaks, and the image queued", async ({ rig }) => {
    const { imageId, stream, staging } = await beginToStage(rig);

    stream.destroy(new Error("the pipe broke"));

    await expect(staging).rejects.toThrow("the pipe broke");
    expect(await rig.names("staging")).toEqual([]);
    expect((await catalogue.image(imageId)).status).toBe("queued");
  });
});

describe("stageData() in a process that is killed in the middle of its bytes", () => {
  const SIZE_BYTES = 12 * MIB;

  /** Kills a staging in the middle of its bytes. */
  async function killInTheMiddle(rig: NodeRig): Promise<{ imageId: string; part: string }> {
    const imageId = await catalogue.newImage();
    const upload = await rig.upload(someBytes(SIZE_BYTES));
    const stager = rig.stageElsewhere(imageId, upload);
    const part = await rig.awaitPart("staging", MIB);
    await stager.kill();
    await rm(upload);
    return { imageId, part };
  }

  it("leaves bytes that can never be imported", async ({ rig }) => {
    const { imageId, part } = await killInTheMiddle(rig);
    const thief = await rig.claim(await catalogue.newImage(), { uri: rig.uri(part) });

    expect((await stat(rig.staged(part))).size).toBeLessThan(SIZE_BYTES);
    expect(await failureOf(rig.claim(imageId))).toMatchObject({ code: "StagingBusy" });
    expect(await failureOf(rig.claim(imageId, { uri: rig.uri(part) }))).toMatchObject({
      code: "StagingBusy",
    });
    expect(await failureOf(rig.verify(thief))).toMatchObject({ code: "StagedDataRefused" });
  });

  it("is taken over once it has been silent for 20 s, and none of its bytes stay", async ({
    rig,
  }) => {
    const { imageId } = await killInTheMiddle(rig);
    const bytes = someBytes(100);
    const upload = await rig.upload(bytes);
    expect(await failureOf(stage(rig, imageId, upload))).toMatchObject({ code: "StagingBusy" });
    await catalogue.silenceStager(imageId, 21);

    await stage(rig, imageId, upload);

    expect(await rig.names("staging")).toEqual([imageId]);
    const plan = await rig.claim(imageId);
    await rig.finish(plan, 100);
    expect(await readFile(rig.copyPath(plan))).toEqual(bytes);
  });

  it("is swept once it has been silent for 20 s, and the image is queued", async ({ rig }) => {
    const { imageId, part } = await killInTheMiddle(rig);
    expect(await runStep(() => rig.cleanUp.sweepNode())).toEqual({ staged: 0, parts: 0 });
    expect(await rig.names("staging")).toEqual([part]);
    await catalogue.silenceStager(imageId, 21);

    await runStep(() => rig.cleanUp.sweepNode());

    expect(await rig.names("staging")).toEqual([]);
    expect((await catalogue.image(imageId)).status).toBe("queued");
  });

  it("changes nothing when it was only stopped and continues after another staging took over", async ({
    rig,
  }) => {
    const imageId = await catalogue.newImage();
    const stager = rig.stageElsewhere(imageId, await rig.upload(someBytes(SIZE_BYTES)));
    await rig.awaitPart("staging", MIB);
    await stager.stop();
    await catalogue.silenceStager(imageId, 21);
    await stage(rig, imageId, await rig.upload(someBytes(100)));
    const plan = await rig.claim(imageId);
    const before = await rig.snapshot(plan);

    stager.continue();

    expect(await outcomeOf(stager)).toEqual({ code: "StagingBusy" });
    expect(await rig.snapshot(plan)).toEqual(before);
  });
});

describe("adoptStagedFile()", () => {
  it("records a file below the staging root as staged, without digests", async ({ rig }) => {
    const imageId = await catalogue.newImage();
    await writeFile(rig.staged("disk.raw"), someBytes(700));

    const staged = await adoptStagedFile(rig.stagingTools, imageId, rig.uri("disk.raw"));

    expect(staged).toEqual({
      image_id: imageId,
      status: "uploading",
      path: rig.staged("disk.raw"),
      size: 700,
      checksum: null,
      os_hash_algo: null,
      os_hash_value: null,
    });
    expect(await catalogue.image(imageId)).toMatchObject({ status: "uploading", sizeBytes: 700 });
    expect(await catalogue.staged(imageId)).toMatchObject({
      state: "whole",
      ours: false,
      path: rig.staged("disk.raw"),
      checksum: null,
    });
  });

  it("takes the file at the default place when none is named", async ({ rig }) => {
    const imageId = await catalogue.newImage();
    await writeFile(rig.staged(imageId), someBytes(700));

    const staged = await adoptStagedFile(rig.stagingTools, imageId, undefined);

    expect(staged.path).toBe(rig.staged(imageId));
  });

  it("makes an image that can be imported", async ({ rig }) => {
    const imageId = await catalogue.newImage();
    const bytes = someBytes(700);
    await writeFile(rig.staged("disk.raw"), bytes);
    await adoptStagedFile(rig.stagingTools, imageId, rig.uri("disk.raw"));

    const plan = await rig.claim(imageId, { uri: rig.uri("disk.raw") });
    await rig.verify(plan);
    await rig.finish(plan, 700);

    expect(await readFile(rig.copyPath(plan))).toEqual(bytes);
    expect(await catalogue.image(imageId)).toMatchObject({
      status: "active",
      osHashValue: sha512(bytes),
    });
  });

  it("makes an image that can be imported without naming the file again", async ({ rig }) => {
    const imageId = await catalogue.newImage();
    const bytes = someBytes(700);
    await writeFile(rig.staged("disk.raw"), bytes);
    await adoptStagedFile(rig.stagingTools, imageId, rig.uri("disk.raw"));

    const plan = await rig.claim(imageId);
    await rig.verify(plan);
    await rig.finish(plan, 700);

    expect(await readFile(rig.copyPath(plan))).toEqual(bytes);
  });

  it("refuses an image that has staged data", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));
    await writeFile(rig.staged("disk.raw"), someBytes(700));

    const failure = await failureOf(
      adoptStagedFile(rig.stagingTools, imageId, rig.uri("disk.raw")),
    );

    expect(failure).toMatchObject({
      code: "ImageConflict",
      message: `Cannot stage image "${imageId}": it is uploading, and only a queued image is staged`,
    });
  });

  it("fails for an image that does not exist", async ({ rig }) => {
    const imageId = randomUUID();

    const failure = await failureOf(adoptStagedFile(rig.stagingTools, imageId, undefined));

    expect(failure).toMatchObject({
      code: "ImageNotFound",
      message: `No image has the id "${imageId}"`,
    });
  });

  it("refuses the staged data of another image", async ({ rig }) => {
    const owner = await rig.stage(someBytes(100));
    const imageId = await catalogue.newImage();

    const failure = await failureOf(adoptStagedFile(rig.stagingTools, imageId, rig.uri(owner)));

    expect(failure).toMatchObject({
      code: "StagedDataRefused",
      message: `Cannot adopt "${rig.staged(owner)}": it belongs to image "${owner}"`,
    });
    expect((await catalogue.image(imageId)).status).toBe("queued");
  });

  it("refuses the private file of a stager", async ({ rig }) => {
    const { stream, staging, part } = await beginToStage(rig);
    const imageId = await catalogue.newImage();

    const failure = await failureOf(adoptStagedFile(rig.stagingTools, imageId, rig.uri(part)));

    expect(isPartName(part)).toBe(true);
    expect(failure).toMatchObject({ code: "StagedDataRefused" });
    stream.end();
    await staging;
  });

  it.for([
    ["does not exist", "StagedDataMissing", async () => undefined],
    ["is a directory", "StagedDataRefused", async (path: string) => mkdir(path)],
    ["is a link", "StagedDataRefused", async (path: string) => symlink("/etc/hostname", path)],
  ] as const)("refuses a path that %s", async ([_, code, make], { rig }) => {
    const imageId = await catalogue.newImage();
    await make(rig.staged("disk.raw"));

    const failure = await failureOf(
      adoptStagedFile(rig.stagingTools, imageId, rig.uri("disk.raw")),
    );

    expect(failure).toMatchObject({ code });
    expect((await catalogue.image(imageId)).status).toBe("queued");
  });

  it("refuses a file outside of the staging root", async ({ rig }) => {
    const elsewhere = join(makeTemporaryDirectory(), "disk.raw");
    await writeFile(elsewhere, someBytes(10));

    const failure = await failureOf(
      adoptStagedFile(rig.stagingTools, await catalogue.newImage(), pathToFileURL(elsewhere).href),
    );

    expect(failure).toMatchObject({ code: "StagedDataRefused" });
  });
});

describe("dropStagedData()", () => {
  it("removes staged data, and moves the image back to queued", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));

    await dropStagedData(rig.stagingTools, imageId);

    expect(await rig.names("staging")).toEqual([]);
    expect(await catalogue.staged(imageId)).toBeUndefined();
    expect(await catalogue.image(imageId)).toMatchObject({ status: "queued", sizeBytes: null });
  });

  it("succeeds where nothing is staged", async ({ rig }) => {
    const dropping = dropStagedData(rig.stagingTools, await catalogue.newImage());

    await expect(dropping).resolves.toBeUndefined();
  });

  it("refuses to remove data that an import holds", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(100));
    const before = await rig.snapshot(plan);

    const failure = await failureOf(dropStagedData(rig.stagingTools, plan.image_id));

    expect(failure).toMatchObject({ code: "ImageBusy" });
    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it("refuses to remove data while it is being staged", async ({ rig }) => {
    const { imageId, stream, staging } = await beginToStage(rig);

    expect(await failureOf(dropStagedData(rig.stagingTools, imageId))).toMatchObject({
      code: "StagingBusy",
    });
    stream.end();
    await staging;
  });

  it("refuses imports of the data that it is about to remove", async ({ rig }) => {
    const imageId = await rig.stage(someBytes(100));
    await rename(rig.staged(""), rig.stored("../away"));
    await dropStagedData(rig.stagingTools, imageId).catch(() => undefined);

    expect(await failureOf(rig.claim(imageId))).toMatchObject({ code: "StagingBusy" });
  });
});
