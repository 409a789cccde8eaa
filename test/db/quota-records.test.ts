import fc from "fast-check";
import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { thisProcess } from "../../src/processes/process-identity.ts";
import { beginCopyRemoval } from "../../src/db/deletion-records.ts";
import { findQuotaLeft } from "../../src/db/quota-records.ts";
import { takeAbandonedLease } from "../../src/db/lease-records.ts";
import { uploadOf } from "../../src/domain/place.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import {
  quotaExceeded,
  QUOTAS,
  UNLIMITED,
  type Limits,
  type Quota,
} from "../../src/domain/quota.ts";
import { NODE, useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import { LimitedOwner, limitsOf, type HeldImport } from "../support/limited-owner.ts";

const catalogue = useCatalogue();

function ownerWith(
  quotas: Partial<Record<Quota, number>>,
  imageSizeCapBytes?: number,
): LimitedOwner {
  return new LimitedOwner(catalogue, limitsOf(quotas, imageSizeCapBytes));
}

/** Matches the refusal of an amount that does not fit. */
function over(
  owner: LimitedOwner,
  quota: Quota,
  limit: number,
  usage: number,
  wanted: number,
): object {
  const { code, message } = quotaExceeded(owner.name, quota, { limit, usage, wanted });
  return { code, message };
}

describe("readUsage()", () => {
  it("is zero for an unknown owner", async () => {
    const none = { usage: 0, reserved: 0 };

    expect(await ownerWith({}).usage()).toEqual({
      image_size_total: none,
      image_stage_total: none,
      image_count_total: none,
      image_count_uploading: none,
    });
  });

  it("distinguishes existing bytes from reserved ones", async () => {
    const owner = ownerWith({});
    await owner.active(1000, ["fast", "slow"]);
    await owner.claim(await owner.staged(100), ["fast", "slow"]);
    await owner.begin(await owner.newImage(), 10);
    await owner.newImage();

    expect(await owner.usage()).toEqual({
      image_size_total: { usage: 2000, reserved: 200 },
      image_stage_total: { usage: 100, reserved: 10 },
      image_count_total: { usage: 4, reserved: 0 },
      image_count_uploading: { usage: 2, reserved: 0 },
    });
  });

  it("counts for each owner only their images, and images without an owner separately", async () => {
    const [one, other] = [ownerWith({}), ownerWith({})];
    const nobody = new LimitedOwner(catalogue, limitsOf({}), null);
    const before = await nobody.counted();
    await one.active(1000);
    await nobody.active(10);

    expect(await other.counted()).toMatchObject({ image_size_total: 0, image_count_total: 0 });
    expect((await one.counted()).image_size_total).toBe(1000);
    expect((await nobody.counted()).image_size_total - before.image_size_total).toBe(10);
  });
});

describe("image_count_total", () => {
  it("refuses one image too many, and creates nothing", async () => {
    const owner = ownerWith({ image_count_total: 2 });
    await owner.newImage();
    await owner.newImage();

    expect(await failureOf(owner.newImage())).toMatchObject(
      over(owner, "image_count_total", 2, 2, 1),
    );
    expect((await owner.counted()).image_count_total).toBe(2);
  });

  it("has room again once a deletion has begun", async () => {
    const owner = ownerWith({ image_count_total: 1 });
    await owner.delete(await owner.newImage());

    await owner.newImage();

    expect((await owner.counted()).image_count_total).toBe(1);
  });

  it("refuses every image when the limit is 0", async () => {
    const owner = ownerWith({ image_count_total: 0 });

    expect(await failureOf(owner.newImage())).toMatchObject({ code: "QuotaExceeded" });
  });

  it("holds for one named owner, and not for others", async () => {
    const name = `owner-${randomUUID()}`;
    const limits: Limits = {
      imageSizeCapBytes: Infinity,
      everyOwner: UNLIMITED,
      owners: new Map([[name, { ...UNLIMITED, image_count_total: 0 }]]),
    };

    await new LimitedOwner(catalogue, limits).newImage();

    const refused = new LimitedOwner(catalogue, limits, name).newImage();
    expect(await failureOf(refused)).toMatchObject({ code: "QuotaExceeded" });
  });

  it("holds for images without an owner, too", async () => {
    const nobody = new LimitedOwner(catalogue, limitsOf({ image_count_total: 0 }), null);

    const { message } = await failureOf(nobody.newImage());

    expect(message).toMatch(/^image_count_total of images without an owner is over limit of 0/);
  });
});

describe("image_count_uploading", () => {
  it("refuses to stage one image too many, which stays queued", async () => {
    const owner = ownerWith({ image_count_uploading: 1 });
    await owner.staged(10);
    const second = await owner.newImage();

    expect(await failureOf(owner.begin(second))).toMatchObject(
      over(owner, "image_count_uploading", 1, 1, 1),
    );
    expect((await catalogue.image(second)).status).toBe("queued");
    expect(await catalogue.staged(second)).toBeUndefined();
  });

  it("refuses to import a queued image that is one too many", async () => {
    const owner = ownerWith({ image_count_uploading: 1 });
    await owner.staged(10);
    const second = await owner.newImage();

    expect(await failureOf(owner.claim(second, ["fast"], "file:///staging/x"))).toMatchObject(
      over(owner, "image_count_uploading", 1, 1, 1),
    );
    expect(await catalogue.image(second)).toMatchObject({ status: "queued", claimTaskId: null });
  });

  it("counts an image once, from its staging to its activation", async () => {
    const owner = ownerWith({ image_count_uploading: 1 });
    const held = await owner.claim(await owner.staged(10));

    expect((await owner.counted()).image_count_uploading).toBe(1);
    await owner.publish(held, 10);
    expect((await owner.counted()).image_count_uploading).toBe(0);
  });

  it("lets an upload be staged again and imported, also when the limit was lowered", async () => {
    const owner = ownerWith({});
    const imageId = await owner.staged(10);
    const strict = new LimitedOwner(catalogue, limitsOf({ image_count_uploading: 0 }), owner.name);

    await strict.finish(imageId, await strict.begin(imageId, 10, true), 10);
    await strict.claim(imageId);

    expect((await catalogue.image(imageId)).status).toBe("importing");
  });
});

describe("image_stage_total", () => {
  it("refuses a file that does not fit before its first byte", async () => {
    const owner = ownerWith({ image_stage_total: 100 });
    await owner.staged(60);
    const second = await owner.newImage();

    expect(await failureOf(owner.begin(second, 41))).toMatchObject(
      over(owner, "image_stage_total", 100, 60, 41),
    );
    await owner.begin(second, 40);
    expect((await owner.counted()).image_stage_total).toBe(100);
  });

  it("refuses a stream when it grows too long, and grants it the last byte", async () => {
    const owner = ownerWith({ image_stage_total: 100 });
    await owner.staged(60);
    const second = await owner.newImage();
    const token = await owner.begin(second);

    expect(await owner.grow(second, token, 10, 20)).toBe(20);
    expect(await owner.grow(second, token, 30, 60)).toBe(40);
    expect(await owner.grow(second, token, 40)).toBe(40);
    expect(await failureOf(owner.grow(second, token, 41))).toMatchObject(
      over(owner, "image_stage_total", 100, 100, 1),
    );
  });

  it("counts the real size of the upload once it is staged", async () => {
    const owner = ownerWith({ image_stage_total: 100 });
    const imageId = await owner.newImage();
    const token = await owner.begin(imageId);
    await owner.grow(imageId, token, 10, 100);

    await owner.finish(imageId, token, 10);

    expect((await owner.usage()).image_stage_total).toEqual({ usage: 10, reserved: 0 });
  });

  it("counts data that is replaced once", async () => {
    const owner = ownerWith({ image_stage_total: 100 });
    const imageId = await owner.staged(80);

    await owner.begin(imageId, 100, true);

    expect((await owner.counted()).image_stage_total).toBe(100);
  });

  it.each<[string, (owner: LimitedOwner, imageId: string) => Promise<void>]>([
    [
      "its stager has given up",
      async (owner, imageId) => {
        await owner.drop(imageId, (await catalogue.staged(imageId))?.token ?? "");
      },
    ],
    ["its image is deleted", (owner, imageId) => owner.delete(imageId)],
    [
      "the sweeper has taken over from a stager that died",
      async (owner, imageId) => {
        await catalogue.silenceStager(imageId, 21);
        const token = randomUUID();
        const sweeper = { node: NODE, token, writer: await thisProcess() };
        await catalogue.database.transaction((db) =>
          takeAbandonedLease(db, uploadOf(imageId), sweeper),
        );
        expect((await owner.counted()).image_stage_total).toBe(100);
        await owner.drop(imageId, token);
      },
    ],
  ])("has room again once %s", async (_, end) => {
    const owner = ownerWith({ image_stage_total: 100, image_count_uploading: 1 });
    const imageId = await owner.newImage();
    await owner.begin(imageId, 100);

    await end(owner, imageId);

    await owner.staged(100);
    expect((await owner.counted()).image_stage_total).toBe(100);
  });

  it("counts a stager that died once, when another one takes over", async () => {
    const owner = ownerWith({ image_stage_total: 100 });
    const imageId = await owner.newImage();
    const dead = await owner.begin(imageId, 90);
    await catalogue.silenceStager(imageId, 21);

    const token = await owner.begin(imageId);

    expect(await owner.grow(imageId, token, 100)).toBe(100);
    expect(await failureOf(owner.grow(imageId, dead, 1))).toMatchObject({ code: "StagingBusy" });
  });

  it("counts the products of an import, until it ends", async () => {
    const owner = ownerWith({ image_stage_total: 100 });
    const held = await owner.claim(await owner.staged(60));

    expect(
      await owner.growImport(held, { imageBytes: 30, welcomeBytes: 90, productBytes: 30 }),
    ).toBe(40);
    expect((await owner.usage()).image_stage_total).toEqual({ usage: 60, reserved: 40 });
    expect(
      await failureOf(owner.growImport(held, { imageBytes: 41, productBytes: 41 })),
    ).toMatchObject(over(owner, "image_stage_total", 100, 100, 1));
    await owner.release(held);
    expect((await owner.usage()).image_stage_total).toEqual({ usage: 60, reserved: 0 });
  });
});

describe("image_size_total", () => {
  it("counts every copy: accepts an import only if its copies in all stores fit", async () => {
    const owner = ownerWith({ image_size_total: 300 });
    await owner.active(50, ["fast", "slow"]);
    const imageId = await owner.staged(101);

    expect(await failureOf(owner.claim(imageId, ["fast", "slow"]))).toMatchObject(
      over(owner, "image_size_total", 300, 100, 202),
    );
    expect(await catalogue.image(imageId)).toMatchObject({
      status: "uploading",
      claimTaskId: null,
      epoch: 0,
    });
    await owner.claim(imageId, ["fast"]);
    expect((await owner.usage()).image_size_total).toEqual({ usage: 100, reserved: 101 });
  });

  it("does not limit staging, like Glance", async () => {
    const owner = ownerWith({ image_size_total: 0 });

    await owner.staged(100);

    expect((await owner.counted()).image_size_total).toBe(0);
  });

  it("counts the real size of the copies once they are made", async () => {
    const owner = ownerWith({ image_size_total: 200 });
    const held = await owner.claim(await owner.staged(100), ["fast", "slow"]);

    await owner.publish(held, 100, ["fast"]);

    expect((await owner.usage()).image_size_total).toEqual({ usage: 100, reserved: 0 });
  });

  it.each<[string, (owner: LimitedOwner, held: HeldImport) => Promise<void>]>([
    ["its import was undone", (owner, held) => owner.release(held)],
    ["its image is deleted while it is imported", (owner, held) => owner.delete(held.imageId)],
    [
      "the published image is deleted",
      async (owner, held) => {
        await owner.publish(held, 100);
        await owner.delete(held.imageId);
      },
    ],
  ])("has all its room again once %s", async (_, end) => {
    const owner = ownerWith({ image_size_total: 200 });
    const held = await owner.claim(await owner.staged(100), ["fast", "slow"]);

    await end(owner, held);

    await owner.claim(await owner.staged(200));
    expect((await owner.counted()).image_size_total).toBe(200);
  });

  it("has the room of a copy again once its removal has begun", async () => {
    const owner = ownerWith({});
    const imageId = await owner.active(100, ["fast", "slow"]);

    await catalogue.database.transaction((db) => beginCopyRemoval(db, imageId, "slow"));

    expect((await owner.counted()).image_size_total).toBe(100);
  });

  it("counts an import once when its run was lost and the next one takes its claim", async () => {
    const owner = ownerWith({ image_size_total: 100 });
    const lost = await owner.claim(await owner.staged(100));
    await owner.loseRun(lost);

    const next = await owner.claim(lost.imageId);

    expect((await owner.counted()).image_size_total).toBe(100);
    expect(await failureOf(owner.growImport(lost, { imageBytes: 1 }))).toMatchObject({
      code: "ImportLost",
    });
    await owner.release(next);
    expect((await owner.counted()).image_size_total).toBe(0);
  });

  it("returns the same claim again to the run that holds it, also when no room is left", async () => {
    const owner = ownerWith({ image_size_total: 100 });
    const imageId = await owner.staged(100);
    const held = await owner.claim(imageId);
    const strict = limitsOf({ image_size_total: 0 });

    const again = await catalogue.claim(imageId, held);

    expect(again.epoch).toBe(held.epoch);
    await new LimitedOwner(catalogue, strict, owner.name).growImport(held, { imageBytes: 100 });
  });

  it("counts a growing size once for each store when it is known only while the bytes arrive", async () => {
    const owner = ownerWith({ image_size_total: 100 });
    const held = await owner.claim(await owner.newImage(), ["fast", "slow"], "file:///staging/x");

    expect(await owner.growImport(held, { imageBytes: 10, welcomeBytes: 20 })).toBe(20);
    expect(await owner.growImport(held, { imageBytes: 10 })).toBe(10);
    expect((await owner.counted()).image_size_total).toBe(40);
    expect(await owner.growImport(held, { imageBytes: 25, welcomeBytes: 90 })).toBe(50);
    expect(await failureOf(owner.growImport(held, { imageBytes: 51 }))).toMatchObject(
      over(owner, "image_size_total", 100, 100, 2),
    );
  });
});

describe("image_size_cap", () => {
  it("refuses to stage a file that is larger", async () => {
    const owner = ownerWith({}, 100);
    const imageId = await owner.newImage();

    expect(await failureOf(owner.begin(imageId, 101))).toMatchObject({ code: "ImageTooLarge" });
    expect((await catalogue.image(imageId)).status).toBe("queued");
  });

  it("refuses a stream that grows larger", async () => {
    const owner = ownerWith({}, 100);
    const imageId = await owner.newImage();
    const token = await owner.begin(imageId);

    expect(await owner.grow(imageId, token, 90, 180)).toBe(100);
    expect(await failureOf(owner.grow(imageId, token, 101))).toMatchObject({
      code: "ImageTooLarge",
    });
  });

  it("refuses to import an upload that was staged under a higher limit", async () => {
    const owner = ownerWith({});
    const imageId = await owner.staged(101);
    const capped = new LimitedOwner(catalogue, limitsOf({}, 100), owner.name);

    expect(await failureOf(capped.claim(imageId))).toMatchObject({ code: "ImageTooLarge" });
  });

  it("refuses an import that grows larger", async () => {
    const owner = ownerWith({}, 100);
    const held = await owner.claim(await owner.newImage(), ["fast"], "file:///staging/x");

    expect(await owner.growImport(held, { imageBytes: 90, welcomeBytes: 180 })).toBe(100);
    expect(await failureOf(owner.growImport(held, { imageBytes: 101 }))).toMatchObject({
      code: "ImageTooLarge",
    });
  });
});

describe("findQuotaLeft()", () => {
  it.each<[string, Partial<Record<Quota, number>>, number, number]>([
    ["without limits", {}, Infinity, Infinity],
    ["by the cap", {}, 70, 70],
    ["by the room for images, in two stores", { image_size_total: 100 }, 70, 50],
    ["by the room in staging", { image_stage_total: 30 }, 70, 30],
  ])("returns how large a file may become: %s", async (_, quotas, cap, expected) => {
    const owner = ownerWith(quotas, cap);
    const held = await owner.claim(await owner.newImage(), ["fast", "slow"], "file:///staging/x");

    const left = await catalogue.database.transaction((db) =>
      findQuotaLeft(db, limitsOf(quotas, cap), held),
    );

    expect(left).toBe(expected);
  });
});

/** Reads the counted usage again and again while the work runs. Returns the largest value. */
async function mostDuring(owner: LimitedOwner, quota: Quota, work: Promise<unknown>) {
  const state = { isOver: false };
  let most = 0;
  const ending = work.finally(() => {
    state.isOver = true;
  });
  while (!state.isOver) most = Math.max(most, (await owner.counted())[quota]);
  await ending;
  return Math.max(most, (await owner.counted())[quota]);
}

/** The number of refusals for a quota. Throws any other failure. */
function refusals(settled: readonly PromiseSettledResult<unknown>[]): number {
  const failures = settled.flatMap((each) =>
    each.status === "rejected" ? [each.reason as unknown] : [],
  );
  for (const failure of failures) {
    if (!(failure instanceof ImportError) || failure.code !== "QuotaExceeded") throw failure;
  }
  return failures.length;
}

async function sixteen<T>(make: (index: number) => Promise<T>): Promise<T[]> {
  return Promise.all(Array.from({ length: 16 }, (_, index) => make(index)));
}

describe("sixteen simultaneous operations of one owner", () => {
  it("never create more images than the quota allows", async () => {
    const owner = ownerWith({ image_count_total: 5 });

    const creating = Promise.allSettled(Array.from({ length: 16 }, () => owner.newImage()));

    expect(await mostDuring(owner, "image_count_total", creating)).toBe(5);
    expect(refusals(await creating)).toBe(11);
  });

  it("never stage more files than the quota allows", async () => {
    const owner = ownerWith({ image_stage_total: 1000 });
    const imageIds = await sixteen(() => owner.newImage());

    const staging = Promise.allSettled(imageIds.map((imageId) => owner.begin(imageId, 190)));

    expect(await mostDuring(owner, "image_stage_total", staging)).toBe(5 * 190);
    expect(refusals(await staging)).toBe(11);
  });

  it("never let streams grow beyond the quota, and use all of the room", async () => {
    const owner = ownerWith({ image_stage_total: 1000 });
    const streams = await sixteen(async () => {
      const imageId = await owner.newImage();
      return { imageId, token: await owner.begin(imageId) };
    });

    // Each stream has 160 bytes. Together they do not fit.
    const growing = Promise.allSettled(
      streams.map(async ({ imageId, token }) => {
        for (let sizeBytes = 10; sizeBytes <= 160; sizeBytes += 10) {
          await owner.grow(imageId, token, sizeBytes);
        }
      }),
    );

    expect(await mostDuring(owner, "image_stage_total", growing)).toBe(1000);
    expect(refusals(await growing)).toBeGreaterThan(0);
  });

  it("never import more than the quota allows, and free all of the room when they are undone", async () => {
    const owner = ownerWith({ image_size_total: 1000 });
    const imageIds = await sixteen(() => owner.staged(95));
    const stores = ["fast", "slow"];

    for (let round = 0; round < 3; round += 1) {
      const claiming = Promise.allSettled(imageIds.map((imageId) => owner.claim(imageId, stores)));
      expect(await mostDuring(owner, "image_size_total", claiming)).toBe(5 * 190);
      expect(refusals(await claiming)).toBe(11);
      for (const each of await claiming) {
        if (each.status === "fulfilled") await owner.release(each.value);
      }
      expect((await owner.counted()).image_size_total).toBe(0);
    }
  });

  it("never exceed a quota while images are published, undone and deleted", async () => {
    const owner = ownerWith({ image_size_total: 1000 });

    const working = sixteen(async (index) => {
      for (let round = 0; round < 3; round += 1) {
        const imageId = await owner.staged(95);
        try {
          const held = await owner.claim(imageId, ["fast", "slow"]);
          if (index % 2 === 0) await owner.publish(held, 95);
          else await owner.release(held);
        } catch (error) {
          if (!(error instanceof ImportError) || error.code !== "QuotaExceeded") throw error;
        }
        await owner.delete(imageId);
      }
    });

    expect(await mostDuring(owner, "image_size_total", working)).toBeLessThanOrEqual(1000);
    expect(await owner.counted()).toEqual({
      image_size_total: 0,
      image_stage_total: 0,
      image_count_total: 0,
      image_count_uploading: 0,
    });
  });
});

/** An image with the amounts that the model counts for it. */
interface ModelImage {
  readonly id: string;
  /** The bytes in staging; `isWhole` is true when staging is complete. */
  staged: { bytes: number; token: string; isWhole: boolean } | undefined;
  held: HeldImport | undefined;
  /** Bytes that an import reserves in each store. */
  reserved: number;
  stored: number;
}

const ROOM: Readonly<Record<Quota, number>> = {
  image_size_total: 60,
  image_stage_total: 40,
  image_count_total: 5,
  image_count_uploading: 3,
};

const step = fc.record({
  act: fc.constantFrom(
    "create",
    "begin",
    "grow",
    "finish",
    "drop",
    "claim",
    "growImport",
    "release",
    "publish",
    "delete",
  ),
  image: fc.nat({ max: 4 }),
  bytes: fc.integer({ min: 1, max: 25 }),
  copies: fc.integer({ min: 1, max: 2 }),
});

type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never;

/** A simple model that adds up the quotas of its images. */
class Model {
  readonly images: ModelImage[] = [];

  counted(): Record<Quota, number> {
    const sum = (of: (image: ModelImage) => number): number =>
      this.images.reduce((total, image) => total + of(image), 0);
    return {
      image_size_total: sum(
        ({ stored, reserved, held }) => stored + reserved * (held?.stores.length ?? 0),
      ),
      image_stage_total: sum(({ staged }) => staged?.bytes ?? 0),
      image_count_total: this.images.length,
      image_count_uploading: sum(({ staged, held }) => ((staged ?? held) === undefined ? 0 : 1)),
    };
  }

  /**
   * Does a step with the owner if it is possible. Fails when the model does not expect its success
   * or its refusal.
   */
  async take(owner: LimitedOwner, { act, image: index, bytes, copies }: Step): Promise<void> {
    const attempt = async <T>(
      change: Partial<Record<Quota, number>>,
      work: () => Promise<T>,
    ): Promise<T | undefined> => {
      const counted = this.counted();
      const fits = QUOTAS.every(
        (quota) =>
          (change[quota] ?? 0) <= 0 || counted[quota] + (change[quota] ?? 0) <= ROOM[quota],
      );
      if (fits) return work();
      expect(await failureOf(work())).toMatchObject({ code: "QuotaExceeded" });
      return undefined;
    };
    if (act === "create") {
      const id = await attempt({ image_count_total: 1 }, () => owner.newImage());
      const none = { staged: undefined, held: undefined, reserved: 0, stored: 0 };
      if (id !== undefined) this.images.push({ id, ...none });
      return;
    }
    const image = this.images[index % Math.max(1, this.images.length)];
    if (image === undefined) return;
    const { id, staged, held } = image;
    const stores = ["fast", "slow"].slice(0, copies);
    const isStaging = staged?.isWhole === false;
    if (act === "delete") {
      await owner.delete(id);
      this.images.splice(this.images.indexOf(image), 1);
    } else if (held !== undefined) {
      const grown = Math.max(0, bytes - image.reserved) * held.stores.length;
      if (act === "release") {
        await owner.release(held);
        image.held = undefined;
      } else if (act === "publish") {
        await owner.publish(held, image.reserved);
        image.stored = image.reserved * held.stores.length;
        image.held = image.staged = undefined;
      } else if (act === "growImport") {
        const granted = await attempt({ image_size_total: grown }, () =>
          owner.growImport(held, { imageBytes: bytes }),
        );
        image.reserved = Math.max(image.reserved, granted ?? 0);
      }
    } else if (image.stored > 0) {
      return;
    } else if (act === "begin" && staged === undefined) {
      const change = { image_stage_total: bytes, image_count_uploading: 1 };
      const token = await attempt(change, () => owner.begin(id, bytes));
      if (token !== undefined) image.staged = { bytes, token, isWhole: false };
    } else if (act === "grow" && isStaging) {
      const change = { image_stage_total: bytes - staged.bytes };
      await attempt(change, () => owner.grow(id, staged.token, bytes)).then((granted) => {
        staged.bytes = Math.max(staged.bytes, granted ?? 0);
      });
    } else if (act === "finish" && isStaging) {
      await owner.finish(id, staged.token, Math.min(bytes, staged.bytes));
      image.staged = { ...staged, bytes: Math.min(bytes, staged.bytes), isWhole: true };
    } else if (act === "drop" && staged !== undefined) {
      await owner.drop(id, staged.token);
      image.staged = undefined;
    } else if (act === "claim" && staged?.isWhole === true) {
      const change = { image_size_total: staged.bytes * copies };
      image.held = await attempt(change, () => owner.claim(id, stores));
      image.reserved = staged.bytes;
    }
  }
}

describe("any order of steps", () => {
  it("counts like the model, and refuses only the steps that do not fit", async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 10, maxLength: 40 }), async (steps) => {
        const owner = ownerWith(ROOM);
        const model = new Model();
        for (const each of steps) {
          await model.take(owner, each);
          expect(await owner.counted()).toEqual(model.counted());
        }
      }),
      { numRuns: 30 },
    );
  });
});
