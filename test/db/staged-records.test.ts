import { randomBytes, randomUUID } from "node:crypto";
import { sql } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import type { ProcessIdentity } from "../../src/processes/process-identity.ts";
import { adoptFile } from "../../src/db/adoption-records.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import {
  dropStagedRow,
  findStaged,
  findStagedByPath,
  knownDigests,
  listStaged,
  lockStaged,
  moveToUploading,
  mayLink,
  recordLink,
  returnLinkRight,
  updateStaged,
} from "../../src/db/staged-records.ts";
import { NODE, SOME_DIGESTS, SOME_FINGERPRINT, useCatalogue } from "../support/catalogue.ts";

const catalogue = useCatalogue();

const WRITER: ProcessIdentity = {
  machine: "@somewhere",
  bootId: "7b1a4c5e-0000-4000-8000-000000000000",
  pidNamespace: "pid:[1]",
  pid: 4711,
  startTicks: 100,
};

async function tokenOf(imageId: string): Promise<string> {
  return (await catalogue.staged(imageId))?.token ?? "";
}

/** Records a file that this service did not write. */
async function adopt(imageId: string, path = `/staging/${imageId}`): Promise<void> {
  await catalogue.database.transaction((db) =>
    adoptFile(db, NO_LIMITS, {
      imageId,
      node: NODE,
      writer: WRITER,
      path,
      fingerprint: SOME_FINGERPRINT,
      isOwnFile: false,
      timeToLiveMs: 60_000,
    }),
  );
}

describe("moveToUploading()", () => {
  it("moves a queued image to uploading, and records the size", async () => {
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
  it("finds the data at a path", async () => {
    const imageId = await catalogue.stagedImage();

    const found = await catalogue.database.query((db) =>
      findStagedByPath(db, `/staging/${imageId}`),
    );

    expect(found?.imageId).toBe(imageId);
  });

  it("finds nothing at a path without data", async () => {
    expect(
      await catalogue.database.query((db) => findStagedByPath(db, "/staging/nothing")),
    ).toBeUndefined();
  });
});

describe("listStaged()", () => {
  it("lists all data on a node, staged or not", async () => {
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

  it("records a new fingerprint, and leaves the digests", async () => {
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

  it("records digests that were computed later", async () => {
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

  it("changes nothing when other data took its place", async () => {
    const imageId = await catalogue.stagedImage();
    const before = await catalogue.staged(imageId);

    await catalogue.database.query((db) =>
      updateStaged(db, imageId, randomUUID(), { fingerprint: NEW_FINGERPRINT }),
    );

    expect(await catalogue.staged(imageId)).toEqual(before);
  });
});

describe("knownDigests()", () => {
  it("returns the digests of an upload that this service staged", async () => {
    const row = await catalogue.staged(await catalogue.stagedImage());

    expect(row && knownDigests(row)).toEqual(SOME_DIGESTS);
  });

  it("returns none for an adopted file", async () => {
    const imageId = await catalogue.newImage();
    await adopt(imageId);
    const row = await catalogue.staged(imageId);

    expect(row && knownDigests(row)).toBeUndefined();
  });

  it.each(["checksum", "osHashAlgo", "osHashValue", "crc32", "sizeBytes"] as const)(
    "returns none when only %s is missing",
    async (column) => {
      const row = await catalogue.staged(await catalogue.stagedImage());

      expect(row && knownDigests({ ...row, [column]: null })).toBeUndefined();
    },
  );
});

describe("mayLink()", () => {
  /** Takes the right under the lock of the row, like a step that links the file. */
  async function take(imageId: string, store: string): Promise<boolean> {
    const token = await tokenOf(imageId);
    return catalogue.database.transaction(async (db) => {
      const row = await lockStaged(db, imageId, token);
      if (row === undefined || !mayLink(row, store)) return false;
      await recordLink(db, row, store);
      return true;
    });
  }

  it("is true for one store, also when that store asks again", async () => {
    const imageId = await catalogue.stagedImage();

    expect([await take(imageId, "fast"), await take(imageId, "fast")]).toEqual([true, true]);
  });

  it("is false for every other store once a link is recorded", async () => {
    const imageId = await catalogue.stagedImage();
    await take(imageId, "fast");

    expect(await take(imageId, "slow")).toBe(false);
    expect((await catalogue.staged(imageId))?.linkedStore).toBe("fast");
  });

  it("is true for one of many simultaneous stores", async () => {
    const imageId = await catalogue.stagedImage();
    const stores = Array.from({ length: 10 }, (_, index) => `store-${index}`);

    const taken = await Promise.all(stores.map((store) => take(imageId, store)));

    expect(taken.filter((isTaken) => isTaken)).toHaveLength(1);
  });

  it("is false for data that this service did not stage", async () => {
    const imageId = await catalogue.newImage();
    await adopt(imageId);

    expect(await take(imageId, "fast")).toBe(false);
  });
});

describe("returnLinkRight()", () => {
  async function recordLinkOf(imageId: string, store: string): Promise<void> {
    const token = await tokenOf(imageId);
    await catalogue.database.query((db) => recordLink(db, { imageId, token }, store));
  }

  it("lets another store link", async () => {
    const imageId = await catalogue.stagedImage();
    await recordLinkOf(imageId, "fast");
    await catalogue.database.query((db) =>
      returnLinkRight(db, { imageId, epoch: 1, store: "fast" }),
    );

    const row = await catalogue.staged(imageId);
    expect(row !== undefined && mayLink(row, "slow")).toBe(true);
  });

  it("changes nothing for a store that does not have the right", async () => {
    const imageId = await catalogue.stagedImage();
    await recordLinkOf(imageId, "fast");

    await catalogue.database.query((db) =>
      returnLinkRight(db, { imageId, epoch: 1, store: "slow" }),
    );

    expect((await catalogue.staged(imageId))?.linkedStore).toBe("fast");
  });

  it("leaves the right to a later import that has linked into the same store meanwhile", async () => {
    const imageId = await catalogue.stagedImage();
    await recordLinkOf(imageId, "fast");
    await catalogue.publishedLease({ imageId, epoch: 2, store: "fast" });

    await catalogue.database.query((db) =>
      returnLinkRight(db, { imageId, epoch: 1, store: "fast" }),
    );

    expect((await catalogue.staged(imageId))?.linkedStore).toBe("fast");
  });
});

describe("lockStaged()", () => {
  it("returns the upload", async () => {
    const imageId = await catalogue.stagedImage();
    const staged = await catalogue.staged(imageId);

    const locked = await catalogue.database.transaction((db) =>
      lockStaged(db, imageId, staged?.token ?? ""),
    );

    expect(locked).toEqual(staged);
  });

  it("returns undefined when other data took its place", async () => {
    const imageId = await catalogue.stagedImage();

    expect(
      await catalogue.database.transaction((db) => lockStaged(db, imageId, randomUUID())),
    ).toBeUndefined();
  });
});

describe("dropStagedRow()", () => {
  it("removes the row, and the mark of a copy that was shared with the upload", async () => {
    const { imageId } = await catalogue.activeImage();
    await catalogue.execute(
      sql`UPDATE image_locations SET shared = true WHERE image_id = ${imageId}`,
    );
    const token = await tokenOf(imageId);
    await catalogue.database.query((db) => recordLink(db, { imageId, token }, "fast"));

    await catalogue.database.transaction((db) => dropStagedRow(db, imageId, token));

    expect(await catalogue.staged(imageId)).toBeUndefined();
    expect(await catalogue.locations(imageId)).toMatchObject([{ shared: false }]);
  });

  it("leaves the mark of a copy that is a link to a product", async () => {
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
