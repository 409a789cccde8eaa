import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { thisProcess, type ProcessIdentity } from "../../src/processes/process-identity.ts";
import { releaseClaim } from "../../src/db/claim-records.ts";
import { beginDeletion } from "../../src/db/deletion-records.ts";
import {
  type CopyId,
  dropLease,
  findLease,
  isPublishedLocation,
  type LeaseRow,
  listAbandonedLeases,
  listLeases,
  listLeasesOf,
  publishLease,
  requireLease,
  takeLease,
} from "../../src/db/lease-records.ts";
import { NODE, useCatalogue, type ClaimedImage } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";

const catalogue = useCatalogue();

const PUBLISHED = { sizeBytes: 4096, crc32: 7, shared: true };

const WRITER: ProcessIdentity = {
  machine: "@somewhere",
  bootId: "7b1a4c5e-0000-4000-8000-000000000000",
  pidNamespace: "pid:[1]",
  pid: 10,
  startTicks: 100,
};

/** A copy of an image that is being imported. */
async function aCopy(store = "fast"): Promise<{ claim: ClaimedImage; copy: CopyId }> {
  const claim = await catalogue.claimedImage();
  return { claim, copy: { imageId: claim.imageId, epoch: claim.epoch, store } };
}

/** Takes the lease for a new attempt; returns its token. */
async function take(copy: CopyId, part = "part"): Promise<string> {
  const token = randomUUID();
  await catalogue.database.query((db) =>
    takeLease(db, copy, { node: NODE, token, writer: WRITER, part, key: "key" }),
  );
  return token;
}

async function publish(copy: CopyId, token: string): Promise<void> {
  await catalogue.database.query((db) => publishLease(db, copy, token, PUBLISHED));
}

async function find(copy: CopyId): Promise<LeaseRow | undefined> {
  return catalogue.database.query((db) => findLease(db, copy));
}

async function release(claim: ClaimedImage): Promise<void> {
  await catalogue.database.transaction((db) =>
    releaseClaim(db, claim, { message: "Error: x" }, []),
  );
}

describe("takeLease()", () => {
  it("records the writer, its node and its part before the first byte is written", async () => {
    const { copy } = await aCopy();

    const token = await take(copy);

    expect(await find(copy)).toEqual({
      ...copy,
      node: NODE,
      token,
      writer: WRITER,
      attempt: null,
      part: "part",
      earlierParts: [],
      key: "key",
      state: "writing",
      sizeBytes: null,
      crc32: null,
      shared: false,
      version: null,
      createdAt: expect.any(Date) as Date,
      updatedAt: expect.any(Date) as Date,
    });
  });

  it("takes the lease from the attempt that held it", async () => {
    const { copy } = await aCopy();
    await take(copy, "first");
    const writer = await thisProcess();
    const token = randomUUID();

    await catalogue.database.query((db) =>
      takeLease(db, copy, { node: NODE, token, writer, part: "second", key: "key" }),
    );

    expect(await find(copy)).toMatchObject({ token, writer, part: "second", state: "writing" });
  });

  it("leaves a published lease published", async () => {
    const { copy } = await aCopy();
    await publish(copy, await take(copy));

    await take(copy);

    expect(await find(copy)).toMatchObject({ state: "published", ...PUBLISHED });
  });

  it("keeps the leases of different copies apart", async () => {
    const { copy } = await aCopy();
    const token = await take(copy, "one");

    await take({ ...copy, store: "slow" }, "two");
    await take({ ...copy, epoch: copy.epoch + 1 }, "three");

    expect(await find(copy)).toMatchObject({ token, part: "one" });
  });
});

describe("findLease()", () => {
  it("finds nothing for a copy without any attempt", async () => {
    const { copy } = await aCopy();

    expect(await find(copy)).toBeUndefined();
  });
});

describe("publishLease()", () => {
  it("records the bytes under the final name", async () => {
    const { copy } = await aCopy();
    const token = await take(copy);

    await publish(copy, token);

    expect(await find(copy)).toMatchObject({ token, state: "published", ...PUBLISHED });
  });

  it("refuses an attempt from which another took the lease, and records nothing", async () => {
    const { copy } = await aCopy();
    const late = await take(copy);
    await take(copy);
    const before = await find(copy);

    expect(await failureOf(publish(copy, late))).toMatchObject({
      code: "AttemptOvertaken",
      message: `Another attempt writes the copy of image "${copy.imageId}" in store "fast"`,
    });
    expect(await find(copy)).toEqual(before);
  });

  it("refuses an attempt whose lease is gone", async () => {
    const { copy } = await aCopy();
    const token = await take(copy);
    await catalogue.database.query((db) => dropLease(db, copy));

    expect(await failureOf(publish(copy, token))).toMatchObject({ code: "AttemptOvertaken" });
  });
});

describe("requireLease()", () => {
  async function require(copy: CopyId, token: string): Promise<void> {
    await catalogue.database.transaction((db) => requireLease(db, copy, token));
  }

  it("succeeds while this attempt holds the lease and its import holds the image", async () => {
    const { copy } = await aCopy();

    await expect(require(copy, await take(copy))).resolves.toBeUndefined();
  });

  it("fails when another attempt took the lease", async () => {
    const { copy } = await aCopy();
    const late = await take(copy);
    await take(copy);

    expect(await failureOf(require(copy, late))).toMatchObject({
      code: "AttemptOvertaken",
      message: `Another attempt writes the copy of image "${copy.imageId}" in store "fast"`,
    });
  });

  it("fails when the lease is gone", async () => {
    const { copy } = await aCopy();
    const token = await take(copy);
    await catalogue.database.query((db) => dropLease(db, copy));

    expect(await failureOf(require(copy, token))).toMatchObject({ code: "AttemptOvertaken" });
  });

  it("fails when the import was undone, though its lease is still there", async () => {
    const { copy, claim } = await aCopy();
    const token = await take(copy);
    await release(claim);

    expect(await failureOf(require(copy, token))).toMatchObject({
      code: "ImportLost",
      message: `Image "${copy.imageId}" was deleted or taken while it was imported (it is uploading)`,
    });
  });
});

describe("dropLease()", () => {
  it("forgets the lease of one copy", async () => {
    const { copy } = await aCopy();
    const other = { ...copy, store: "slow" };
    await take(copy);
    await take(other);

    await catalogue.database.query((db) => dropLease(db, copy));

    expect([await find(copy), (await find(other))?.store]).toEqual([undefined, "slow"]);
  });

  it("succeeds when there is no lease", async () => {
    const { copy } = await aCopy();

    await expect(catalogue.database.query((db) => dropLease(db, copy))).resolves.toBe(false);
  });

  it("leaves a lease that another attempt has taken", async () => {
    const { copy } = await aCopy();
    const late = await take(copy);
    const token = await take(copy);

    expect(await catalogue.database.query((db) => dropLease(db, copy, late))).toBe(false);
    expect(await find(copy)).toMatchObject({ token });
  });
});

describe("isPublishedLocation()", () => {
  async function isPublished(copy: CopyId): Promise<boolean> {
    return catalogue.database.query((db) => isPublishedLocation(db, copy));
  }

  it("is true for a copy that readers see", async () => {
    const { imageId, epoch } = await catalogue.activeImage();

    expect(await isPublished({ imageId, epoch, store: "fast" })).toBe(true);
  });

  it("is false for the copy of another epoch or another store", async () => {
    const { imageId, epoch } = await catalogue.activeImage();

    expect([
      await isPublished({ imageId, epoch: epoch + 1, store: "fast" }),
      await isPublished({ imageId, epoch, store: "slow" }),
    ]).toEqual([false, false]);
  });

  it("is false for a copy that is saved, and not yet live", async () => {
    const { copy, claim } = await aCopy();
    await catalogue.save(claim);

    expect(await isPublished(copy)).toBe(false);
  });

  it("is false for a copy that is being deleted", async () => {
    const { imageId, epoch } = await catalogue.activeImage();
    await catalogue.database.transaction((db) => beginDeletion(db, imageId));

    expect(await isPublished({ imageId, epoch, store: "fast" })).toBe(false);
  });
});

describe("listAbandonedLeases()", () => {
  /** True if the list contains the lease of this copy. */
  async function isAbandoned(copy: CopyId): Promise<boolean> {
    const leases = await catalogue.database.query(listAbandonedLeases);
    return leases.some(({ imageId, epoch, store }) => {
      return imageId === copy.imageId && epoch === copy.epoch && store === copy.store;
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
    const copy = { imageId: randomUUID(), epoch: 1, store: "fast" };
    await take(copy);

    expect(await isAbandoned(copy)).toBe(true);
  });
});

describe("listLeases()", () => {
  it("lists all leases on a store", async () => {
    const store = `store-${randomUUID()}`;
    const [one, other] = [await aCopy(store), await aCopy(store)];
    await take(one.copy, "one");
    await take(other.copy, "other");
    await take({ ...one.copy, store: "fast" }, "elsewhere");

    const leases = await catalogue.database.query((db) => listLeases(db, store));

    expect(leases.map(({ part }) => part).sort()).toEqual(["one", "other"]);
  });
});

describe("listLeasesOf()", () => {
  it("lists all leases of one import, and not those of another epoch", async () => {
    const { copy } = await aCopy();
    await take(copy, "fast");
    await take({ ...copy, store: "slow" }, "slow");
    await take({ ...copy, epoch: copy.epoch + 1 }, "later");

    const leases = await catalogue.database.query((db) => listLeasesOf(db, copy));

    expect(leases.map(({ part }) => part).sort()).toEqual(["fast", "slow"]);
  });
});
