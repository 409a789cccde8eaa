import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { adoptFile } from "../../src/db/adoption-records.ts";
import { takeLease } from "../../src/db/lease-records.ts";
import type { Place } from "../../src/domain/place.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import {
  findStagedByPath,
  findStagedSource,
  findUpload,
  knownDigests,
  lockStaged,
  moveToUploading,
  mayLink,
  recordLink,
  returnLinkRight,
  updateStaged,
  type StagedRow,
  type StagedSource,
} from "../../src/db/staged-facts.ts";
import {
  NODE,
  SOME_DIGESTS,
  SOME_FINGERPRINT,
  useCatalogue,
  SOME_WRITER,
} from "../support/catalogue.ts";

const catalogue = useCatalogue();

/** @throws Error when nothing is staged */
async function stagedOf(imageId: string): Promise<StagedRow> {
  const row = await catalogue.staged(imageId);
  if (row === undefined) throw new Error(`Nothing is staged for ${imageId}`);
  return row;
}

/** Records a file that this service did not write. */
async function adopt(imageId: string, path = `/staging/${imageId}`): Promise<void> {
  await catalogue.database.transaction((db) =>
    adoptFile(db, NO_LIMITS, {
      imageId,
      node: NODE,
      writer: SOME_WRITER,
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

describe("findUpload()", () => {
  it("finds nothing for an image without staged data", async () => {
    const imageId = await catalogue.newImage();

    expect(await catalogue.database.query((db) => findUpload(db, imageId))).toBeUndefined();
  });
});

describe("findStagedSource()", () => {
  /** An image with an upload, and the leases of its import at these places. */
  async function imageWith(...places: readonly Place[]) {
    const { imageId, epoch } = await catalogue.claimedImage();
    for (const place of places) {
      const holder = {
        node: NODE,
        token: randomUUID(),
        writer: SOME_WRITER,
        part: "p",
        path: place,
      };
      await catalogue.database.transaction((db) =>
        takeLease(db, { imageId, epoch, place }, holder, undefined),
      );
    }
    return { imageId, epoch };
  }
  const placeOf = async (source: StagedSource) =>
    (await catalogue.database.query((db) => findStagedSource(db, source)))?.place;

  it("finds the upload", async () => {
    expect(await placeOf(await imageWith("product/1"))).toBe("upload");
  });

  it("finds the download of the import before an upload", async () => {
    const { imageId, epoch } = await imageWith("download");

    expect(await placeOf({ imageId, epoch })).toBe("download");
    expect(await placeOf({ imageId, epoch: epoch + 1 })).toBe("upload");
  });

  it("finds a product by its number", async () => {
    const image = await imageWith("download", "product/1", "product/2");

    expect(await placeOf({ ...image, product: 2 })).toBe("product/2");
    expect(await placeOf({ ...image, product: 3 })).toBeUndefined();
  });

  it("finds those of the import that holds the image when the order names none", async () => {
    const { imageId } = await imageWith("download");

    expect(await placeOf({ imageId })).toBe("download");
  });
});

describe("findStagedByPath()", () => {
  it("finds the data at a path", async () => {
    const imageId = await catalogue.stagedImage();

    const found = await catalogue.database.query((db) =>
      findStagedByPath(db, { node: NODE, path: `/staging/${imageId}` }),
    );

    expect(found?.imageId).toBe(imageId);
  });

  it("finds nothing at a path without data", async () => {
    expect(
      await catalogue.database.query((db) =>
        findStagedByPath(db, { node: NODE, path: "/staging/nothing" }),
      ),
    ).toBeUndefined();
  });
});

describe("updateStaged()", () => {
  const NEW_FINGERPRINT = { ...SOME_FINGERPRINT, ctimeNs: "5" };

  it("records a new fingerprint, and leaves the digests", async () => {
    const imageId = await catalogue.stagedImage();
    const staged = await stagedOf(imageId);

    await catalogue.database.query((db) =>
      updateStaged(db, staged, { fingerprint: NEW_FINGERPRINT }),
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
    const staged = await stagedOf(imageId);

    await catalogue.database.query((db) =>
      updateStaged(db, staged, { fingerprint: NEW_FINGERPRINT, digests: SOME_DIGESTS }),
    );

    const row = await catalogue.staged(imageId);
    expect(row?.fingerprint).toEqual(NEW_FINGERPRINT);
    expect(row && knownDigests(row)).toEqual(SOME_DIGESTS);
  });

  it("changes nothing when other data took its place", async () => {
    const imageId = await catalogue.stagedImage();
    const before = await stagedOf(imageId);

    await catalogue.database.query((db) =>
      updateStaged(db, { ...before, token: randomUUID() }, { fingerprint: NEW_FINGERPRINT }),
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
    const staged = await stagedOf(imageId);
    return catalogue.database.transaction(async (db) => {
      const row = await lockStaged(db, staged);
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
    const staged = await stagedOf(imageId);
    await catalogue.database.query((db) => recordLink(db, staged, store));
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
    const { epoch } = await catalogue.claim(imageId);
    await catalogue.wholeCopy({ imageId, epoch, store: "fast" });

    await catalogue.database.query((db) =>
      returnLinkRight(db, { imageId, epoch: epoch - 1, store: "fast" }),
    );

    expect((await catalogue.staged(imageId))?.linkedStore).toBe("fast");
  });
});

describe("lockStaged()", () => {
  it("returns the upload", async () => {
    const staged = await stagedOf(await catalogue.stagedImage());

    const locked = await catalogue.database.transaction((db) => lockStaged(db, staged));

    expect(locked).toEqual(staged);
  });

  it("returns undefined when other data took its place", async () => {
    const staged = await stagedOf(await catalogue.stagedImage());
    const other = { ...staged, token: randomUUID() };

    expect(await catalogue.database.transaction((db) => lockStaged(db, other))).toBeUndefined();
  });
});
