import { randomUUID } from "node:crypto";
import { sql } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import { releaseClaim } from "../../src/db/claim-records.ts";
import { beginDeletion } from "../../src/db/deletion-records.ts";
import {
  dropLease,
  findLease,
  finishLease,
  type LeaseId,
  type LeaseRow,
  listAbandonedLeases,
  listLeasesOf,
  listStoreLeases,
  takeAbandonedLease,
  takeLease,
  takeLeaseAway,
} from "../../src/db/lease-records.ts";
import { recordLink, recordStaged } from "../../src/db/staged-facts.ts";
import { storePlace } from "../../src/domain/place.ts";
import {
  NODE,
  SOME_FINGERPRINT,
  useCatalogue,
  type ClaimedImage,
  SOME_WRITER,
} from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";

const catalogue = useCatalogue();

const COPY = { sizeBytes: 4096, crc32: 7, shared: true };

/** A copy of an image that is being imported. */
async function aCopy(store = "fast"): Promise<{ claim: ClaimedImage; copy: LeaseId }> {
  const claim = await catalogue.claimedImage();
  const { imageId, epoch } = claim;
  return { claim, copy: { imageId, epoch, place: storePlace(store) } };
}

/** Takes the lease for a new attempt; returns its token. */
async function take(copy: LeaseId, part = "part"): Promise<string> {
  const holder = { node: NODE, token: randomUUID(), writer: SOME_WRITER, part, path: "key" };
  await catalogue.database.transaction(async (db) =>
    takeLease(db, copy, holder, await findLease(db, copy)),
  );
  return holder.token;
}

async function finish(copy: LeaseId, token: string): Promise<void> {
  await catalogue.database.transaction((db) => finishLease(db, copy, token, { copy: COPY }));
}

async function find(copy: LeaseId): Promise<LeaseRow | undefined> {
  return catalogue.database.query((db) => findLease(db, copy));
}

async function drop(copy: LeaseId, token?: string): Promise<boolean> {
  return catalogue.database.transaction((db) => dropLease(db, copy, token));
}

const aTaker = () => ({ token: randomUUID(), writer: SOME_WRITER });

async function release(claim: ClaimedImage): Promise<void> {
  await catalogue.database.transaction((db) =>
    releaseClaim(db, claim, { message: "Error: x" }, []),
  );
}

describe("takeLease()", () => {
  it("records all that is known of the writer", async () => {
    const { copy } = await aCopy();

    const token = await take(copy);

    expect(await find(copy)).toEqual({
      ...copy,
      node: NODE,
      token,
      writer: SOME_WRITER,
      attempt: null,
      part: "part",
      earlierParts: [],
      path: "key",
      state: "writing",
      renewedAt: expect.any(Date) as Date,
      reservedBytes: 0,
      fetchedFrom: null,
      resumable: null,
      resumableUntil: null,
      singleConnection: false,
      copy: null,
      effects: null,
    });
  });

  it("takes nothing when the lease has changed since it was read", async () => {
    const { copy } = await aCopy();
    const before = await find(copy);
    const token = await take(copy);
    const holder = { node: NODE, token: randomUUID(), writer: SOME_WRITER, part: "p", path: "key" };

    const isTaken = await catalogue.database.transaction((db) =>
      takeLease(db, copy, holder, before),
    );

    expect(isTaken).toBe(false);
    expect(await find(copy)).toMatchObject({ token });
  });

  it("forgets the facts of the bytes before, unless it continues with them", async () => {
    const { imageId, epoch } = await catalogue.claimedImage();
    const product: LeaseId = { imageId, epoch, place: "product/1" };
    const facts = { sizeBytes: 1, fingerprint: SOME_FINGERPRINT, digests: undefined };
    await take(product, "first");
    await catalogue.database.transaction((db) =>
      recordStaged(db, product, { ...facts, timeToLiveMs: 1000 }),
    );
    const continues = {
      node: NODE,
      token: randomUUID(),
      writer: SOME_WRITER,
      part: "p",
      path: "key",
    };

    await catalogue.database.transaction(async (db) =>
      takeLease(db, product, { ...continues, resumes: true }, await findLease(db, product)),
    );
    const continued = await catalogue.staged(imageId, 1);
    await take(product, "second");

    expect(continued).toMatchObject({ token: continues.token, sizeBytes: 1 });
    expect(await catalogue.staged(imageId, 1)).toMatchObject({ part: "second", sizeBytes: null });
  });

  it("keeps the leases of different places and imports apart", async () => {
    const { copy } = await aCopy();
    const token = await take(copy, "one");

    await take({ ...copy, place: "store/slow" }, "two");
    await take({ ...copy, place: "product/1" }, "three");

    expect(await find(copy)).toMatchObject({ token, part: "one" });
  });
});

describe("finishLease()", () => {
  it("records the facts of a copy", async () => {
    const { copy } = await aCopy();

    await finish(copy, await take(copy));

    expect(await find(copy)).toMatchObject({ state: "whole", copy: COPY });
  });

  it("names the attempt that was overtaken", async () => {
    const { copy } = await aCopy();
    const late = await take(copy);
    await take(copy);

    expect(await failureOf(finish(copy, late))).toMatchObject({
      code: "AttemptOvertaken",
      message: `Another attempt has taken over the copy of image "${copy.imageId}" in store "fast", or an undo removes it`,
    });
  });

  it("fails when the import was undone, though its lease is still there", async () => {
    const { copy, claim } = await aCopy();
    const token = await take(copy);
    await release(claim);

    expect(await failureOf(finish(copy, token))).toMatchObject({
      code: "ImportLost",
      message: `Image "${copy.imageId}" was deleted or taken while it was imported (it is uploading)`,
    });
  });
});

describe("dropLease()", () => {
  it("forgets the lease of one copy", async () => {
    const { copy } = await aCopy();
    const other: LeaseId = { ...copy, place: "store/slow" };
    await take(copy);
    await take(other);

    expect(await drop(copy)).toBe(true);

    expect([await find(copy), (await find(other))?.place]).toEqual([undefined, "store/slow"]);
  });

  it("succeeds when there is no lease", async () => {
    const { copy } = await aCopy();

    expect(await drop(copy)).toBe(false);
  });

  it("gives another store the right to link", async () => {
    const { imageId, epoch } = await catalogue.claimedImage();
    const copy: LeaseId = { imageId, epoch, place: "store/fast" };
    const token = await take(copy);
    const upload: LeaseId = { imageId, epoch: 0, place: "upload" };
    await catalogue.database.query((db) => recordLink(db, upload, "fast"));

    await drop(copy, token);

    expect((await catalogue.staged(imageId))?.linkedStore).toBeNull();
  });

  it("forgets the facts of staged bytes, and the mark of a copy that was shared with them", async () => {
    const { imageId } = await catalogue.activeImage();
    await catalogue.execute(
      sql`UPDATE image_locations SET shared = true WHERE image_id = ${imageId}`,
    );
    const upload: LeaseId = { imageId, epoch: 0, place: "upload" };
    await catalogue.database.query((db) => recordLink(db, upload, "fast"));

    await drop(upload);

    expect(await catalogue.staged(imageId)).toBeUndefined();
    expect(await catalogue.locations(imageId)).toMatchObject([{ shared: false }]);
  });

  it("leaves the mark of a copy that is a link to a product", async () => {
    const { imageId } = await catalogue.activeImage();
    await catalogue.execute(
      sql`UPDATE image_locations SET shared = true WHERE image_id = ${imageId}`,
    );

    await drop({ imageId, epoch: 0, place: "upload" });

    expect(await catalogue.locations(imageId)).toMatchObject([{ shared: true }]);
  });
});

describe("takeLeaseAway()", () => {
  const takeAway = (copy: LeaseId) =>
    catalogue.database.transaction((db) => takeLeaseAway(db, copy, aTaker()));

  /** An active image, and a lease of its copy that is left. */
  async function published(): Promise<LeaseId> {
    const { imageId, epoch } = await catalogue.activeImage();
    const copy: LeaseId = { imageId, epoch, place: "store/fast" };
    await catalogue.execute(sql`
      INSERT INTO leases (image_id, epoch, place, node, token, writer, path, state)
      VALUES (${imageId}, ${epoch}, 'store/fast', ${NODE}, gen_random_uuid(), '{}', 'key', 'writing')`);
    return copy;
  }

  it("leaves a copy that readers see", async () => {
    expect(await takeAway(await published())).toBeUndefined();
  });

  it("takes a copy that is being deleted", async () => {
    const copy = await published();
    await catalogue.database.transaction((db) => beginDeletion(db, copy.imageId));

    expect(await takeAway(copy)).toMatchObject(copy);
  });

  it("takes a copy that is saved, and not yet live, and forgets that it is whole", async () => {
    const { copy, claim } = await aCopy();
    await catalogue.save(claim);

    expect(await takeAway(copy)).toMatchObject({ ...copy, state: "whole" });
    expect(await find(copy)).toMatchObject({ state: "writing", copy: null });
  });
});

describe("takeAbandonedLease()", () => {
  const takeOrphaned = (copy: LeaseId, token: string) =>
    catalogue.database.transaction((db) => takeAbandonedLease(db, copy, aTaker(), token));

  it("takes nothing while the import holds its image", async () => {
    const { copy } = await aCopy();

    expect(await takeOrphaned(copy, await take(copy))).toBeUndefined();
  });

  it("takes the lease of an attempt whose import was undone before it began", async () => {
    const { copy, claim } = await aCopy();
    const token = await take(copy);
    await release(claim);

    expect(await takeOrphaned(copy, token)).toMatchObject({ ...copy, token });
    expect((await find(copy))?.token).not.toBe(token);
  });

  it("leaves the lease of another attempt", async () => {
    const { copy, claim } = await aCopy();
    const late = await take(copy);
    const token = await take(copy);
    await release(claim);

    expect(await takeOrphaned(copy, late)).toBeUndefined();
    expect(await find(copy)).toMatchObject({ token });
  });
});

describe("listAbandonedLeases()", () => {
  /** True if the list contains the lease of this copy. */
  async function isAbandoned(copy: LeaseId): Promise<boolean> {
    const leases = await catalogue.database.query((db) => listAbandonedLeases(db));
    return leases.some(({ imageId, epoch, place }) => {
      return imageId === copy.imageId && epoch === copy.epoch && place === copy.place;
    });
  }

  it("leaves out a lease of an import that holds its image", async () => {
    const { copy } = await aCopy();
    await take(copy);

    expect(await isAbandoned(copy)).toBe(false);
  });

  it("lists a lease whose import released the image", async () => {
    const { copy, claim } = await aCopy();
    await take(copy);
    await release(claim);

    expect(await isAbandoned(copy)).toBe(true);
  });

  it("lists a lease whose image another import holds now", async () => {
    const { copy, claim } = await aCopy();
    await take(copy);
    await catalogue.claim(claim.imageId);

    expect(await isAbandoned(copy)).toBe(true);
  });

  it("lists a lease whose image does not exist", async () => {
    const copy: LeaseId = { imageId: randomUUID(), epoch: 1, place: "store/fast" };
    await catalogue.execute(sql`
      INSERT INTO leases (image_id, epoch, place, node, token, writer, path, state)
      VALUES (${copy.imageId}, 1, 'store/fast', ${NODE}, gen_random_uuid(), '{}', 'key', 'writing')`);

    expect(await isAbandoned(copy)).toBe(true);
  });
});

describe("listStoreLeases()", () => {
  it("lists all leases on a store", async () => {
    const store = `store-${randomUUID()}`;
    const [one, other] = [await aCopy(store), await aCopy(store)];
    await take(one.copy, "one");
    await take(other.copy, "other");
    await take({ ...one.copy, place: "store/fast" }, "elsewhere");

    const leases = await catalogue.database.query((db) => listStoreLeases(db, storePlace(store)));

    expect(leases.map(({ part }) => part).sort()).toEqual(["one", "other"]);
  });
});

describe("listLeasesOf()", () => {
  it("lists all leases of one import, and not those of another epoch", async () => {
    const { copy, claim } = await aCopy();
    await take(copy, "fast");
    await take({ ...copy, place: "product/1" }, "product");
    await release(claim);
    await catalogue.claim(copy.imageId);
    await take({ ...copy, epoch: copy.epoch + 1 }, "later");

    const leases = await catalogue.database.query((db) => listLeasesOf(db, copy));

    expect(leases.map(({ part }) => part).sort()).toEqual(["fast", "product"]);
  });
});
