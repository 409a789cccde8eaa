import { randomBytes, randomUUID } from "node:crypto";
import { sql } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import { thisProcess, type ProcessIdentity } from "../../src/processes/process-identity.ts";
import { beginDeletion } from "../../src/db/deletion-records.ts";
import {
  adoptStaged,
  dropStagedRow,
  findStaged,
  findStagedByPath,
  knownDigests,
  listStaged,
  lockStaged,
  moveToUploading,
  returnLinkRight,
  type StagedData,
  type StagedRow,
  takeLinkRight,
  updateStaged,
} from "../../src/db/staged-records.ts";
import {
  beginStaging,
  dropStaging,
  finishStaging,
  listExpiredStaging,
  renewStaging,
  type StagingAttempt,
  takeOverStaging,
  takeStagedAway,
} from "../../src/db/upload-records.ts";
import type { Digests } from "../../src/domain/digests.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import { NODE, SOME_DIGESTS, SOME_FINGERPRINT, useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";

const catalogue = useCatalogue();

const WRITER: ProcessIdentity = {
  machine: "@somewhere",
  bootId: "7b1a4c5e-0000-4000-8000-000000000000",
  pidNamespace: "pid:[1]",
  pid: 4711,
  startTicks: 100,
};

function attemptAt(imageId: string, fields: Partial<StagingAttempt> = {}): StagingAttempt {
  return {
    imageId,
    node: NODE,
    token: randomUUID(),
    writer: WRITER,
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

function stagedDataOf(imageId: string, digests: Digests | undefined = SOME_DIGESTS): StagedData {
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
  it("moves a queued image to uploading, and tells who stages it", async () => {
    const imageId = await catalogue.newImage();
    const attempt = attemptAt(imageId);

    const before = await begin(attempt);

    expect(before).toBeUndefined();
    expect(await bothOf(imageId)).toEqual({
      image: expect.objectContaining({ status: "uploading" }) as unknown,
      staged: {
        imageId,
        product: 0,
        node: NODE,
        state: "staging",
        token: attempt.token,
        writer: WRITER,
        renewedAt: expect.any(Date) as Date,
        part: attempt.part,
        path: attempt.path,
        ours: true,
        reservedBytes: 0,
        epoch: null,
        attempt: null,
        fetchedFrom: null,
        singleConnection: false,
        sizeBytes: null,
        fingerprint: null,
        checksum: null,
        osHashAlgo: null,
        osHashValue: null,
        crc32: null,
        zeroBlocks: "",
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

  it("takes over from a stager that was silent for more than 20 s, and tells what that one left", async () => {
    const imageId = await catalogue.newImage();
    const first = attemptAt(imageId);
    await begin(first);
    await catalogue.silenceStager(imageId, 21);
    const second = attemptAt(imageId, { part: "second.part" });

    const before = await begin(second);

    expect(before).toMatchObject({ token: first.token, part: first.part });
    expect(await bothOf(imageId)).toMatchObject({
      image: { status: "uploading" },
      staged: { state: "staging", token: second.token, part: "second.part" },
    });
  });

  it("lets one of many at once take over", async () => {
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

  it("refuses to stage over staged data, and changes nothing", async () => {
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

  it("stages over staged data when that is asked for, and tells what was there", async () => {
    const imageId = await catalogue.stagedImage();
    const attempt = attemptAt(imageId, { replace: true });

    const before = await begin(attempt);

    expect(before).toMatchObject({ state: "staged", path: `/staging/${imageId}` });
    expect(await catalogue.staged(imageId)).toMatchObject({
      state: "staging",
      token: attempt.token,
      sizeBytes: null,
      checksum: null,
    });
  });

  it("refuses a queued image whose leftovers somebody is just removing", async () => {
    const imageId = await catalogue.newImage();
    await adopt(imageId);
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

describe("renewStaging()", () => {
  async function renew(imageId: string, token: string): Promise<void> {
    await catalogue.database.query((db) => renewStaging(db, imageId, token));
  }

  it("keeps others away for another 20 s", async () => {
    const imageId = await catalogue.newImage();
    const token = await catalogue.beginStaging(imageId);
    await catalogue.silenceStager(imageId, 21);

    await renew(imageId, token);

    expect(await failureOf(begin(attemptAt(imageId)))).toMatchObject({ code: "StagingBusy" });
  });

  it("tells a stager from whom another took over", async () => {
    const imageId = await catalogue.newImage();
    const late = await catalogue.beginStaging(imageId);
    await catalogue.silenceStager(imageId, 21);
    await begin(attemptAt(imageId));
    const before = await bothOf(imageId);

    expect(await failureOf(renew(imageId, late))).toMatchObject(takenOver(imageId));
    expect(await bothOf(imageId)).toEqual(before);
  });

  it("tells a stager whose staging has ended", async () => {
    const imageId = await catalogue.newImage();
    const token = await catalogue.beginStaging(imageId);
    await finish(imageId, token);

    expect(await failureOf(renew(imageId, token))).toMatchObject(takenOver(imageId));
  });
});

describe("finishStaging()", () => {
  it("records what was staged, and its size with the image", async () => {
    const imageId = await catalogue.newImage();
    const token = await catalogue.beginStaging(imageId);

    await finish(imageId, token);

    expect(await bothOf(imageId)).toMatchObject({
      image: { status: "uploading", sizeBytes: 4096 },
      staged: {
        state: "staged",
        token,
        part: null,
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

  it("is done once when it is asked for again, because its answer was lost", async () => {
    const imageId = await catalogue.newImage();
    const token = await catalogue.beginStaging(imageId);
    await finish(imageId, token);
    const before = await bothOf(imageId);

    await finish(imageId, token);

    expect(await bothOf(imageId)).toEqual(before);
  });

  it("refuses a stager from whom another took over, and changes nothing", async () => {
    const imageId = await catalogue.newImage();
    const late = await catalogue.beginStaging(imageId);
    await catalogue.silenceStager(imageId, 21);
    await begin(attemptAt(imageId));
    const before = await bothOf(imageId);

    expect(await failureOf(finish(imageId, late))).toMatchObject(takenOver(imageId));
    expect(await bothOf(imageId)).toEqual(before);
  });

  it("refuses a stager from whom another took over and finished, and changes nothing", async () => {
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
    expect(await catalogue.staged(imageId)).toMatchObject({ state: "staging" });
  });
});

describe("dropStaging()", () => {
  it("brings the image back to queued, with nothing staged", async () => {
    const imageId = await catalogue.newImage();
    const token = await catalogue.beginStaging(imageId);

    await drop(imageId, token);

    expect(await bothOf(imageId)).toMatchObject({
      image: { status: "queued", sizeBytes: null },
      staged: undefined,
    });
  });

  it("forgets the size that the image had from its staged data", async () => {
    const imageId = await catalogue.stagedImage();

    await drop(imageId, await tokenOf(imageId));

    expect(await catalogue.image(imageId)).toMatchObject({ status: "queued", sizeBytes: null });
  });

  it("changes nothing for a stager from whom another took over", async () => {
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

/** Records a file that somebody else put there. */
async function adopt(imageId: string, path = `/staging/${imageId}`): Promise<void> {
  await catalogue.database.transaction((db) =>
    adoptStaged(db, {
      imageId,
      node: NODE,
      token: randomUUID(),
      writer: WRITER,
      path,
      sizeBytes: 4096,
      fingerprint: SOME_FINGERPRINT,
      digests: undefined,
      timeToLiveMs: 60_000,
    }),
  );
}

describe("adoptStaged()", () => {
  it("records a file as staged and not ours, digests unknown", async () => {
    const imageId = await catalogue.newImage();

    await adopt(imageId, "/staging/theirs");

    expect(await catalogue.staged(imageId)).toMatchObject({
      state: "staged",
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

  it("takes the place of what was recorded before", async () => {
    const imageId = await catalogue.newImage();
    await adopt(imageId, "/staging/first");

    await adopt(imageId, "/staging/second");

    expect((await catalogue.staged(imageId))?.path).toBe("/staging/second");
  });
});

describe("moveToUploading()", () => {
  it("moves a queued image, and takes the size", async () => {
    const imageId = await catalogue.newImage();

    await catalogue.database.query((db) => moveToUploading(db, imageId, 4096));

    expect(await catalogue.image(imageId)).toMatchObject({ status: "uploading", sizeBytes: 4096 });
  });

  it("leaves any other image as it is", async () => {
    const { imageId } = await catalogue.activeImage();
    const before = await catalogue.image(imageId);

    await catalogue.database.query((db) => moveToUploading(db, imageId, 1));

    expect(await catalogue.image(imageId)).toEqual(before);
  });
});

describe("findStaged()", () => {
  it("finds nothing for an image without staged data", async () => {
    const imageId = await catalogue.newImage();

    expect(await catalogue.database.query((db) => findStaged(db, imageId))).toBeUndefined();
  });
});

describe("findStagedByPath()", () => {
  it("finds whose data lies there", async () => {
    const imageId = await catalogue.stagedImage();

    const found = await catalogue.database.query((db) =>
      findStagedByPath(db, `/staging/${imageId}`),
    );

    expect(found?.imageId).toBe(imageId);
  });

  it("finds nothing where no data of anyone lies", async () => {
    expect(
      await catalogue.database.query((db) => findStagedByPath(db, "/staging/nobody's")),
    ).toBeUndefined();
  });
});

describe("listStaged()", () => {
  it("lists all that lies on a node, staged or not", async () => {
    const node = randomBytes(6).toString("hex");
    const [one, other] = [await catalogue.stagedImage(), await catalogue.newImage()];
    await catalogue.beginStaging(other);
    await catalogue.stagedImage();
    await catalogue.execute(
      sql`UPDATE staged_files SET node = ${node} WHERE image_id IN (${one}, ${other})`,
    );

    const rows = await catalogue.database.query((db) => listStaged(db, node));

    expect(rows.map(({ imageId }) => imageId).sort()).toEqual([one, other].sort());
  });
});

describe("updateStaged()", () => {
  const NEW_FINGERPRINT = { ...SOME_FINGERPRINT, ctimeNs: "5" };

  it("takes a new fingerprint, and leaves the digests", async () => {
    const imageId = await catalogue.stagedImage();
    const token = await tokenOf(imageId);

    await catalogue.database.query((db) =>
      updateStaged(db, imageId, token, { fingerprint: NEW_FINGERPRINT }),
    );

    expect(await catalogue.staged(imageId)).toMatchObject({
      fingerprint: NEW_FINGERPRINT,
      checksum: SOME_DIGESTS.checksum,
      crc32: 7,
    });
  });

  it("takes digests that were computed later", async () => {
    const imageId = await catalogue.newImage();
    await adopt(imageId);
    const token = await tokenOf(imageId);

    await catalogue.database.query((db) =>
      updateStaged(db, imageId, token, { fingerprint: NEW_FINGERPRINT, digests: SOME_DIGESTS }),
    );

    const row = await catalogue.staged(imageId);
    expect(row?.fingerprint).toEqual(NEW_FINGERPRINT);
    expect(row && knownDigests(row)).toEqual(SOME_DIGESTS);
  });

  it("changes nothing of data that took the place of what was meant", async () => {
    const imageId = await catalogue.stagedImage();
    const before = await catalogue.staged(imageId);

    await catalogue.database.query((db) =>
      updateStaged(db, imageId, randomUUID(), { fingerprint: NEW_FINGERPRINT }),
    );

    expect(await catalogue.staged(imageId)).toEqual(before);
  });
});

describe("knownDigests()", () => {
  it("knows the digests of what our own staging wrote", async () => {
    const row = await catalogue.staged(await catalogue.stagedImage());

    expect(row && knownDigests(row)).toEqual(SOME_DIGESTS);
  });

  it("knows none of what was adopted", async () => {
    const imageId = await catalogue.newImage();
    await adopt(imageId);
    const row = await catalogue.staged(imageId);

    expect(row && knownDigests(row)).toBeUndefined();
  });

  it.each(["checksum", "osHashAlgo", "osHashValue", "crc32", "sizeBytes"] as const)(
    "knows none when %s alone is missing",
    async (column) => {
      const row = await catalogue.staged(await catalogue.stagedImage());

      expect(row && knownDigests({ ...row, [column]: null })).toBeUndefined();
    },
  );
});

describe("takeLinkRight()", () => {
  async function take(imageId: string, store: string, token?: string): Promise<boolean> {
    const ours = token ?? (await tokenOf(imageId));
    return catalogue.database.query((db) => takeLinkRight(db, imageId, ours, store));
  }

  it("gives the right to one store, also when that one asks again", async () => {
    const imageId = await catalogue.stagedImage();

    expect([await take(imageId, "fast"), await take(imageId, "fast")]).toEqual([true, true]);
  });

  it("gives it to no second store", async () => {
    const imageId = await catalogue.stagedImage();
    await take(imageId, "fast");

    expect(await take(imageId, "slow")).toBe(false);
    expect((await catalogue.staged(imageId))?.linkedStore).toBe("fast");
  });

  it("gives it to one of many stores at once", async () => {
    const imageId = await catalogue.stagedImage();
    const stores = Array.from({ length: 10 }, (_, index) => `store-${index}`);

    const taken = await Promise.all(stores.map((store) => take(imageId, store)));

    expect(taken.filter((isTaken) => isTaken)).toHaveLength(1);
  });

  it("never gives it for data that is not ours", async () => {
    const imageId = await catalogue.newImage();
    await adopt(imageId);

    expect(await take(imageId, "fast")).toBe(false);
  });

  it("never gives it for data that took the place of what was meant", async () => {
    const imageId = await catalogue.stagedImage();

    expect(await take(imageId, "fast", randomUUID())).toBe(false);
  });

  it("gives it to another store once it was given back", async () => {
    const imageId = await catalogue.stagedImage();
    await take(imageId, "fast");
    await catalogue.database.query((db) =>
      returnLinkRight(db, { imageId, epoch: 1, store: "fast" }),
    );

    expect(await take(imageId, "slow")).toBe(true);
  });

  it("is not given back by a store that does not have it", async () => {
    const imageId = await catalogue.stagedImage();
    await take(imageId, "fast");

    await catalogue.database.query((db) =>
      returnLinkRight(db, { imageId, epoch: 1, store: "slow" }),
    );

    expect((await catalogue.staged(imageId))?.linkedStore).toBe("fast");
  });

  it("stays with a later import that has linked into the same store meanwhile", async () => {
    const imageId = await catalogue.stagedImage();
    await take(imageId, "fast");
    await catalogue.publishedLease({ imageId, epoch: 2, store: "fast" });

    await catalogue.database.query((db) =>
      returnLinkRight(db, { imageId, epoch: 1, store: "fast" }),
    );

    expect((await catalogue.staged(imageId))?.linkedStore).toBe("fast");
  });
});

describe("lockStaged()", () => {
  it("answers what is staged", async () => {
    const imageId = await catalogue.stagedImage();
    const staged = await catalogue.staged(imageId);

    const locked = await catalogue.database.transaction((db) =>
      lockStaged(db, imageId, staged?.token ?? ""),
    );

    expect(locked).toEqual(staged);
  });

  it("answers nothing when other data took its place", async () => {
    const imageId = await catalogue.stagedImage();

    expect(
      await catalogue.database.transaction((db) => lockStaged(db, imageId, randomUUID())),
    ).toBeUndefined();
  });
});

describe("listExpiredStaging()", () => {
  async function isListed(imageId: string, node = NODE): Promise<boolean> {
    const rows = await catalogue.database.query((db) => listExpiredStaging(db, node));
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

  it("leaves out staged data that may still live", async () => {
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

  it("leaves out what lies on another node", async () => {
    const imageId = await catalogue.stagedImage();
    await catalogue.expireStaged(imageId);

    expect(await isListed(imageId, "ba9876543210")).toBe(false);
  });
});

/** Takes over what may be swept, as a sweeper does; returns what it was. */
async function sweep(
  imageId: string,
  token: string = randomUUID(),
): Promise<StagedRow | undefined> {
  const writer = await thisProcess();
  return catalogue.database.transaction((db) =>
    takeOverStaging(db, { imageId, product: 0 }, { node: NODE, token, writer }),
  );
}

describe("takeOverStaging()", () => {
  it("takes what may be swept, and tells what it was", async () => {
    const imageId = await catalogue.stagedImage();
    await catalogue.expireStaged(imageId);
    const staged = await catalogue.staged(imageId);
    const token = randomUUID();

    const taken = await sweep(imageId, token);

    expect(taken).toEqual(staged);
    expect(await catalogue.staged(imageId)).toMatchObject({ state: "staging", token });
  });

  it("keeps everybody else away: no import, no stager, no second sweeper", async () => {
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

  it("ends with a queued image, once what was taken is dropped", async () => {
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

  it("is itself taken over when the sweeper dies", async () => {
    const imageId = await catalogue.stagedImage();
    await catalogue.expireStaged(imageId);
    await sweep(imageId);
    await catalogue.silenceStager(imageId, 21);

    expect(await sweep(imageId)).toMatchObject({ imageId });
  });

  it("refuses the stager that it was taken from", async () => {
    const imageId = await catalogue.newImage();
    const late = await catalogue.beginStaging(imageId);
    await catalogue.silenceStager(imageId, 21);
    await sweep(imageId);

    expect(await failureOf(finish(imageId, late))).toMatchObject(takenOver(imageId));
  });

  it("takes nothing that may not be swept any more", async () => {
    const imageId = await catalogue.stagedImage();
    const before = await bothOf(imageId);

    expect(await sweep(imageId)).toBeUndefined();
    expect(await bothOf(imageId)).toEqual(before);
  });
});

describe("dropStagedRow()", () => {
  it("forgets staged data, and that a copy was shared with it", async () => {
    const { imageId } = await catalogue.activeImage();
    await catalogue.execute(
      sql`UPDATE image_locations SET shared = true WHERE image_id = ${imageId}`,
    );
    const token = await tokenOf(imageId);
    await catalogue.database.query((db) => takeLinkRight(db, imageId, token, "fast"));

    await catalogue.database.transaction((db) => dropStagedRow(db, imageId, token));

    expect(await catalogue.staged(imageId)).toBeUndefined();
    expect(await catalogue.locations(imageId)).toMatchObject([{ shared: false }]);
  });

  it("leaves a copy shared that is a link to a product", async () => {
    const { imageId } = await catalogue.activeImage();
    await catalogue.execute(
      sql`UPDATE image_locations SET shared = true WHERE image_id = ${imageId}`,
    );
    const token = await tokenOf(imageId);

    await catalogue.database.transaction((db) => dropStagedRow(db, imageId, token));

    expect(await catalogue.locations(imageId)).toMatchObject([{ shared: true }]);
  });

  it("changes nothing when other data took its place", async () => {
    const { imageId } = await catalogue.activeImage();
    await catalogue.execute(
      sql`UPDATE image_locations SET shared = true WHERE image_id = ${imageId}`,
    );

    await catalogue.database.transaction((db) => dropStagedRow(db, imageId, randomUUID()));

    expect(await catalogue.staged(imageId)).toMatchObject({ state: "staged" });
    expect(await catalogue.locations(imageId)).toMatchObject([{ shared: true }]);
  });
});

describe("takeStagedAway()", () => {
  async function takeAway(imageId: string, token: string = randomUUID()): Promise<StagedRow> {
    return catalogue.database.transaction((db) =>
      takeStagedAway(db, imageId, { token, writer: WRITER }),
    );
  }

  it("takes staged data from its image, and tells what it was", async () => {
    const imageId = await catalogue.stagedImage();
    const staged = await catalogue.staged(imageId);
    const token = randomUUID();

    const taken = await takeAway(imageId, token);

    expect(taken).toEqual(staged);
    expect(await catalogue.staged(imageId)).toMatchObject({
      state: "staging",
      token,
      writer: WRITER,
    });
  });

  it("keeps imports away until it is dropped", async () => {
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
