import { randomUUID } from "node:crypto";
import { sql } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import { thisProcess } from "../../src/processes/process-identity.ts";
import { adoptFile } from "../../src/db/adoption-records.ts";
import { beginDeletion } from "../../src/db/deletion-records.ts";
import {
  type LeaseRow,
  listAbandonedLeases,
  takeAbandonedLease,
} from "../../src/db/lease-records.ts";
import type { StagedData, StagedRow } from "../../src/db/staged-facts.ts";
import {
  beginStaging,
  dropStaging,
  finishStaging,
  keepStaging,
  renewStaging,
  type StagingAttempt,
  takeStagedAway,
} from "../../src/db/upload-records.ts";
import type { Digests } from "../../src/domain/digests.ts";
import { uploadOf } from "../../src/domain/place.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import {
  NODE,
  SOME_DIGESTS,
  SOME_FINGERPRINT,
  useCatalogue,
  SOME_WRITER,
} from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";

const catalogue = useCatalogue();

function attemptAt(imageId: string, fields: Partial<StagingAttempt> = {}): StagingAttempt {
  return {
    imageId,
    node: NODE,
    token: randomUUID(),
    writer: SOME_WRITER,
    part: `${imageId}.0.11111111.part`,
    path: `/staging/${imageId}`,
    sizeBytes: 0,
    replace: false,
    ...fields,
  };
}

async function begin(attempt: StagingAttempt): Promise<StagedRow | undefined> {
  return catalogue.database.transaction((db) => beginStaging(db, NO_LIMITS, attempt));
}

function stagedDataOf(
  imageId: string,
  digests: Digests | undefined = SOME_DIGESTS,
): StagedData & { readonly path: string } {
  return {
    path: `/staging/${imageId}`,
    sizeBytes: 4096,
    fingerprint: SOME_FINGERPRINT,
    digests,
    timeToLiveMs: 60_000,
  };
}

async function finish(imageId: string, token: string): Promise<void> {
  await catalogue.database.transaction((db) =>
    finishStaging(db, imageId, token, stagedDataOf(imageId)),
  );
}

async function drop(imageId: string, token: string): Promise<void> {
  await catalogue.database.transaction((db) => dropStaging(db, imageId, token));
}

async function tokenOf(imageId: string): Promise<string> {
  return (await catalogue.staged(imageId))?.token ?? "";
}

/** Image and row, for "nothing has changed". */
async function bothOf(imageId: string) {
  return { image: await catalogue.image(imageId), staged: await catalogue.staged(imageId) };
}

function takenOver(imageId: string) {
  return {
    code: "StagingBusy",
    message: `Staging of image "${imageId}" was taken over by another process, or the image was deleted`,
  };
}

describe("beginStaging()", () => {
  it("moves a queued image to uploading, and records its stager", async () => {
    const imageId = await catalogue.newImage();
    const attempt = attemptAt(imageId);

    const before = await begin(attempt);

    expect(before).toBeUndefined();
    expect(await bothOf(imageId)).toEqual({
      image: expect.objectContaining({ status: "uploading" }) as unknown,
      staged: {
        imageId,
        epoch: 0,
        place: "upload",
        node: NODE,
        state: "writing",
        token: attempt.token,
        writer: SOME_WRITER,
        renewedAt: expect.any(Date) as Date,
        part: attempt.part,
        path: attempt.path,
        ours: null,
        reservedBytes: 0,
        earlierParts: [],
        copy: null,
        effects: null,
        attempt: null,
        fetchedFrom: null,
        resumable: null,
        resumableUntil: null,
        singleConnection: false,
        sizeBytes: null,
        fingerprint: null,
        checksum: null,
        osHashAlgo: null,
        osHashValue: null,
        crc32: null,
        zeroBlocks: null,
        linkedStore: null,
        stagedAt: null,
        expiresAt: null,
        made: null,
      },
    });
  });

  it("refuses a second stager while the first one lives, naming that one, and changes nothing", async () => {
    const imageId = await catalogue.newImage();
    await begin(attemptAt(imageId));
    await catalogue.silenceStager(imageId, 19);
    const before = await bothOf(imageId);

    const failure = await failureOf(begin(attemptAt(imageId, { replace: true })));

    expect(failure).toMatchObject({
      code: "StagingBusy",
      message: `Cannot stage image "${imageId}": process 4711 on node "${NODE}" is staging it`,
    });
    expect(await bothOf(imageId)).toEqual(before);
  });

  it("takes over from a stager that was silent for more than 20 s, and returns the part of that stager", async () => {
    const imageId = await catalogue.newImage();
    const first = attemptAt(imageId);
    await begin(first);
    await catalogue.silenceStager(imageId, 21);
    const second = attemptAt(imageId, { part: "second.part" });

    const before = await begin(second);

    expect(before).toMatchObject({ token: first.token, part: first.part });
    expect(await bothOf(imageId)).toMatchObject({
      image: { status: "uploading" },
      staged: { state: "writing", token: second.token, part: "second.part" },
    });
  });

  it("lets one of many simultaneous stagers take over", async () => {
    const imageId = await catalogue.newImage();
    await begin(attemptAt(imageId));
    await catalogue.silenceStager(imageId, 21);

    const outcomes = await Promise.all(
      Array.from({ length: 20 }, () =>
        begin(attemptAt(imageId)).then(
          () => "staging",
          (error: unknown) => (error as { code: string }).code,
        ),
      ),
    );

    expect(outcomes.sort()).toEqual([...Array<string>(19).fill("StagingBusy"), "staging"]);
  });

  it("refuses to replace an upload without a request, and changes nothing", async () => {
    const imageId = await catalogue.stagedImage();
    const before = await bothOf(imageId);

    const failure = await failureOf(begin(attemptAt(imageId)));

    expect(failure).toMatchObject({
      code: "ImageConflict",
      message: `The image "${imageId}" has data on staging already`,
      hint: `Start it (\`image-import start ${imageId}\`), or stage with --replace.`,
    });
    expect(await bothOf(imageId)).toEqual(before);
  });

  it("replaces an upload on request, and returns the replaced one", async () => {
    const imageId = await catalogue.stagedImage();
    const attempt = attemptAt(imageId, { replace: true });

    const before = await begin(attempt);

    expect(before).toMatchObject({ state: "whole", path: `/staging/${imageId}` });
    expect(await catalogue.staged(imageId)).toMatchObject({
      state: "writing",
      token: attempt.token,
      sizeBytes: null,
      checksum: null,
    });
  });

  it("refuses to replace the upload of a protected image, and changes nothing", async () => {
    const imageId = await catalogue.stagedImage({ protected: true });
    const before = await bothOf(imageId);

    const failure = await failureOf(begin(attemptAt(imageId, { replace: true })));

    expect(failure).toMatchObject({
      code: "ImageProtected",
      message: `Image "${imageId}" is protected and its staged data cannot be replaced.`,
    });
    expect(await bothOf(imageId)).toEqual(before);
  });

  it("refuses a queued image while the sweeper removes its leftovers", async () => {
    const imageId = await catalogue.newImage();
    await catalogue.database.transaction((db) =>
      adoptFile(db, NO_LIMITS, {
        imageId,
        node: NODE,
        writer: SOME_WRITER,
        path: `/staging/${imageId}`,
        fingerprint: SOME_FINGERPRINT,
        isOwnFile: false,
        timeToLiveMs: 60_000,
      }),
    );
    await catalogue.expireStaged(imageId);
    await sweep(imageId);

    expect(await failureOf(begin(attemptAt(imageId)))).toMatchObject({ code: "StagingBusy" });
  });

  it.each(["active", "deactivated"] as const)("refuses an image that is %s", async (status) => {
    const { imageId } = await catalogue.activeImage();
    await catalogue.execute(sql`UPDATE images SET status = ${status} WHERE id = ${imageId}`);
    const before = await bothOf(imageId);

    const failure = await failureOf(begin(attemptAt(imageId, { replace: true })));

    expect(failure).toMatchObject({
      code: "ImageConflict",
      message: `Cannot stage image "${imageId}": it is ${status}, and only a queued image is staged`,
    });
    expect(await bothOf(imageId)).toEqual(before);
  });

  it("refuses an image that is being imported, and leaves its staged data", async () => {
    const { imageId } = await catalogue.claimedImage();
    const before = await bothOf(imageId);

    const failure = await failureOf(begin(attemptAt(imageId, { replace: true })));

    expect(failure).toMatchObject({
      code: "ImageConflict",
      message: `Cannot stage image "${imageId}": it is importing, and only a queued image is staged`,
    });
    expect(await bothOf(imageId)).toEqual(before);
  });

  it("does not find an image that is being deleted", async () => {
    const imageId = await catalogue.newImage();
    await catalogue.database.transaction((db) => beginDeletion(db, imageId));

    expect(await failureOf(begin(attemptAt(imageId)))).toMatchObject({ code: "ImageNotFound" });
  });
});

describe("keepStaging()", () => {
  it("does not wait for a transaction that has locked the lease", async () => {
    const imageId = await catalogue.newImage();
    const attempt = attemptAt(imageId);
    await begin(attempt);

    await catalogue.database.transaction(async (holder) => {
      await holder.execute(sql`SELECT 1 FROM leases WHERE image_id = ${imageId} FOR UPDATE`);
      await catalogue.database.renewal((db) => keepStaging(db, imageId, attempt.token));
    });
  });
});

describe("renewStaging()", () => {
  async function renew(imageId: string, token: string): Promise<void> {
    await catalogue.database.query((db) => renewStaging(db, imageId, token));
  }

  it("refuses other stagers for another 20 s", async () => {
    const imageId = await catalogue.newImage();
    const token = await catalogue.beginStaging(imageId);
    await catalogue.silenceStager(imageId, 21);

    await renew(imageId, token);

    expect(await failureOf(begin(attemptAt(imageId)))).toMatchObject({ code: "StagingBusy" });
  });

  it("fails after another stager has taken over", async () => {
    const imageId = await catalogue.newImage();
    const late = await catalogue.beginStaging(imageId);
    await catalogue.silenceStager(imageId, 21);
    await begin(attemptAt(imageId));
    const before = await bothOf(imageId);

    expect(await failureOf(renew(imageId, late))).toMatchObject(takenOver(imageId));
    expect(await bothOf(imageId)).toEqual(before);
  });

  it("fails after the staging has ended", async () => {
    const imageId = await catalogue.newImage();
    const token = await catalogue.beginStaging(imageId);
    await finish(imageId, token);

    expect(await failureOf(renew(imageId, token))).toMatchObject(takenOver(imageId));
  });
});

describe("finishStaging()", () => {
  it("records the upload, and its size with the image", async () => {
    const imageId = await catalogue.newImage();
    const token = await catalogue.beginStaging(imageId);

    await finish(imageId, token);

    expect(await bothOf(imageId)).toMatchObject({
      image: { status: "uploading", sizeBytes: 4096 },
      staged: {
        state: "whole",
        token,
        path: `/staging/${imageId}`,
        ours: true,
        sizeBytes: 4096,
        fingerprint: SOME_FINGERPRINT,
        checksum: SOME_DIGESTS.checksum,
        osHashAlgo: "sha512",
        osHashValue: SOME_DIGESTS.osHashValue,
        crc32: 7,
      },
    });
  });

  it("gives the data its time to live from now on", async () => {
    const imageId = await catalogue.newImage();

    await finish(imageId, await catalogue.beginStaging(imageId));

    const { stagedAt, expiresAt } = (await catalogue.staged(imageId)) ?? {};
    expect((expiresAt?.getTime() ?? 0) - (stagedAt?.getTime() ?? 0)).toBe(60_000);
  });

  it("takes effect once when it is repeated, because its answer was lost", async () => {
    const imageId = await catalogue.newImage();
    const token = await catalogue.beginStaging(imageId);
    await finish(imageId, token);
    const before = await bothOf(imageId);

    await finish(imageId, token);

    expect(await bothOf(imageId)).toEqual(before);
  });

  it("refuses a stager after another has taken over, and changes nothing", async () => {
    const imageId = await catalogue.newImage();
    const late = await catalogue.beginStaging(imageId);
    await catalogue.silenceStager(imageId, 21);
    await begin(attemptAt(imageId));
    const before = await bothOf(imageId);

    expect(await failureOf(finish(imageId, late))).toMatchObject(takenOver(imageId));
    expect(await bothOf(imageId)).toEqual(before);
  });

  it("refuses a stager after another has taken over and finished, and changes nothing", async () => {
    const imageId = await catalogue.newImage();
    const late = await catalogue.beginStaging(imageId);
    await catalogue.silenceStager(imageId, 21);
    const attempt = attemptAt(imageId);
    await begin(attempt);
    await finish(imageId, attempt.token);
    const before = await bothOf(imageId);

    expect(await failureOf(finish(imageId, late))).toMatchObject(takenOver(imageId));
    expect(await bothOf(imageId)).toEqual(before);
  });

  it("refuses a stager whose image was deleted meanwhile", async () => {
    const imageId = await catalogue.newImage();
    const token = await catalogue.beginStaging(imageId);
    await catalogue.database.transaction((db) => beginDeletion(db, imageId));

    expect(await failureOf(finish(imageId, token))).toMatchObject({ code: "ImageNotFound" });
    expect(await catalogue.staged(imageId)).toMatchObject({ state: "writing" });
  });
});

describe("dropStaging()", () => {
  it("moves the image back to queued, without an upload", async () => {
    const imageId = await catalogue.newImage();
    const token = await catalogue.beginStaging(imageId);

    await drop(imageId, token);

    expect(await bothOf(imageId)).toMatchObject({
      image: { status: "queued", sizeBytes: null },
      staged: undefined,
    });
  });

  it("forgets the size that the image had from its upload", async () => {
    const imageId = await catalogue.stagedImage();

    await drop(imageId, await tokenOf(imageId));

    expect(await catalogue.image(imageId)).toMatchObject({ status: "queued", sizeBytes: null });
  });

  it("changes nothing for a stager after another has taken over", async () => {
    const imageId = await catalogue.newImage();
    const late = await catalogue.beginStaging(imageId);
    await catalogue.silenceStager(imageId, 21);
    await begin(attemptAt(imageId));
    const before = await bothOf(imageId);

    await drop(imageId, late);

    expect(await bothOf(imageId)).toEqual(before);
  });

  it("changes nothing when it is repeated", async () => {
    const imageId = await catalogue.newImage();
    const token = await catalogue.beginStaging(imageId);
    await drop(imageId, token);
    const before = await bothOf(imageId);

    await drop(imageId, token);

    expect(await bothOf(imageId)).toEqual(before);
  });

  it.each([
    ["is being imported", () => catalogue.claimedImage(), "importing"],
    ["is published", () => catalogue.activeImage(), "active"],
  ] as const)("leaves the status of an image that %s", async (_, make, status) => {
    const { imageId } = await make();

    await drop(imageId, await tokenOf(imageId));

    expect((await catalogue.image(imageId)).status).toBe(status);
  });
});

describe("listAbandonedLeases() of uploads", () => {
  async function isListed(imageId: string, node = NODE): Promise<boolean> {
    const rows = await catalogue.database.query((db) => listAbandonedLeases(db, { node }));
    return rows.some((row) => row.imageId === imageId);
  }

  it("leaves out a staging whose stager lives", async () => {
    const imageId = await catalogue.newImage();
    await catalogue.beginStaging(imageId);
    await catalogue.silenceStager(imageId, 19);

    expect(await isListed(imageId)).toBe(false);
  });

  it("lists a staging whose stager was silent for more than 20 s", async () => {
    const imageId = await catalogue.newImage();
    await catalogue.beginStaging(imageId);
    await catalogue.silenceStager(imageId, 21);

    expect(await isListed(imageId)).toBe(true);
  });

  it("leaves out staged data within its time to live", async () => {
    const imageId = await catalogue.stagedImage();
    await catalogue.silenceStager(imageId, 21);

    expect(await isListed(imageId)).toBe(false);
  });

  it("lists staged data past its time to live", async () => {
    const imageId = await catalogue.stagedImage();
    await catalogue.expireStaged(imageId);

    expect(await isListed(imageId)).toBe(true);
  });

  it("never lists staged data that an import holds", async () => {
    const { imageId } = await catalogue.claimedImage();
    await catalogue.expireStaged(imageId);

    expect(await isListed(imageId)).toBe(false);
  });

  it.each(["active", "deactivated", "deleted"] as const)(
    "lists staged data of an image that is %s",
    async (status) => {
      const { imageId } = await catalogue.activeImage();
      await catalogue.execute(sql`UPDATE images SET status = ${status} WHERE id = ${imageId}`);

      expect(await isListed(imageId)).toBe(true);
    },
  );

  it("leaves out data on another node", async () => {
    const imageId = await catalogue.stagedImage();
    await catalogue.expireStaged(imageId);

    expect(await isListed(imageId, "ba9876543210")).toBe(false);
  });
});

/** Takes over expired data like a sweeper. Returns its earlier row. */
async function sweep(imageId: string, token: string = randomUUID()): Promise<LeaseRow | undefined> {
  const writer = await thisProcess();
  return catalogue.database.transaction((db) =>
    takeAbandonedLease(db, uploadOf(imageId), { token, writer }),
  );
}

describe("takeAbandonedLease() of an upload", () => {
  it("takes over expired data, and returns its earlier row", async () => {
    const imageId = await catalogue.stagedImage();
    await catalogue.expireStaged(imageId);
    const staged = await catalogue.staged(imageId);
    const token = randomUUID();

    const taken = await sweep(imageId, token);

    expect(staged).toMatchObject({ ...taken });
    expect(await catalogue.staged(imageId)).toMatchObject({ state: "writing", token });
  });

  it("refuses imports, stagers and a second sweeper from then on", async () => {
    const imageId = await catalogue.stagedImage();
    await catalogue.expireStaged(imageId);
    await sweep(imageId);

    const importing = await failureOf(catalogue.claim(imageId));
    const staging = await failureOf(begin(attemptAt(imageId, { replace: true })));
    const sweeping = await sweep(imageId);

    expect([importing.code, staging.code, sweeping]).toEqual([
      "StagingBusy",
      "StagingBusy",
      undefined,
    ]);
  });

  it("leads to a queued image once the data is dropped", async () => {
    const imageId = await catalogue.stagedImage();
    await catalogue.expireStaged(imageId);
    const token = randomUUID();
    await sweep(imageId, token);

    await drop(imageId, token);

    expect(await bothOf(imageId)).toMatchObject({
      image: { status: "queued", sizeBytes: null },
      staged: undefined,
    });
  });

  it("takes over from a sweeper that died", async () => {
    const imageId = await catalogue.stagedImage();
    await catalogue.expireStaged(imageId);
    await sweep(imageId);
    await catalogue.silenceStager(imageId, 21);

    expect(await sweep(imageId)).toMatchObject({ imageId });
  });

  it("makes the earlier stager fail", async () => {
    const imageId = await catalogue.newImage();
    const late = await catalogue.beginStaging(imageId);
    await catalogue.silenceStager(imageId, 21);
    await sweep(imageId);

    expect(await failureOf(finish(imageId, late))).toMatchObject(takenOver(imageId));
  });

  it("takes nothing that has not expired", async () => {
    const imageId = await catalogue.stagedImage();
    const before = await bothOf(imageId);

    expect(await sweep(imageId)).toBeUndefined();
    expect(await bothOf(imageId)).toEqual(before);
  });
});

describe("takeStagedAway()", () => {
  async function takeAway(imageId: string, token: string = randomUUID()): Promise<LeaseRow> {
    return catalogue.database.transaction((db) =>
      takeStagedAway(db, imageId, { token, writer: SOME_WRITER }),
    );
  }

  it("takes staged data from its image, and returns its earlier row", async () => {
    const imageId = await catalogue.stagedImage();
    const staged = await catalogue.staged(imageId);
    const token = randomUUID();

    const taken = await takeAway(imageId, token);

    expect(staged).toMatchObject({ ...taken });
    expect(await catalogue.staged(imageId)).toMatchObject({
      state: "writing",
      token,
      writer: SOME_WRITER,
    });
  });

  it("refuses imports until the data is dropped", async () => {
    const imageId = await catalogue.stagedImage();
    await takeAway(imageId);

    expect(await failureOf(catalogue.claim(imageId))).toMatchObject({ code: "StagingBusy" });
  });

  it("refuses an image that is being imported, and changes nothing", async () => {
    const { imageId } = await catalogue.claimedImage();
    const before = await bothOf(imageId);

    expect(await failureOf(takeAway(imageId))).toMatchObject({
      code: "ImageBusy",
      message: `Image "${imageId}" is being imported`,
    });
    expect(await bothOf(imageId)).toEqual(before);
  });

  it("refuses data that is still being staged, and changes nothing", async () => {
    const imageId = await catalogue.newImage();
    await catalogue.beginStaging(imageId);
    const before = await bothOf(imageId);

    expect(await failureOf(takeAway(imageId))).toMatchObject({ code: "StagingBusy" });
    expect(await bothOf(imageId)).toEqual(before);
  });

  it("does not find an image that is being deleted", async () => {
    const imageId = await catalogue.stagedImage();
    await catalogue.database.transaction((db) => beginDeletion(db, imageId));

    expect(await failureOf(takeAway(imageId))).toMatchObject({ code: "ImageNotFound" });
  });
});
