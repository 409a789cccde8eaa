import { randomUUID } from "node:crypto";
import { sql } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import { listImages } from "../../src/db/image-list.ts";
import { findImage, type ImageRecord, type NewImage } from "../../src/db/image-records.ts";
import { IMAGE_SORT_KEYS, type ImageFilter } from "../../src/domain/image-filter.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";

const catalogue = useCatalogue();

async function find(imageId: string): Promise<ImageRecord> {
  return catalogue.database.query((db) => findImage(db, imageId));
}

describe("listImages()", () => {
  /** Images of a separate owner, the oldest first. */
  async function imagesOf(owner: string, ...fields: Partial<NewImage>[]): Promise<string[]> {
    const ids: string[] = [];
    for (const [index, each] of fields.entries()) {
      const imageId = await catalogue.newImage({ owner, ...each });
      await catalogue.execute(
        sql`UPDATE images SET created_at = now() + make_interval(mins => ${index}) WHERE id = ${imageId}`,
      );
      ids.push(imageId);
    }
    return ids;
  }

  async function listIds(filter: Parameters<typeof listImages>[1]): Promise<string[]> {
    const records = await catalogue.database.query((db) => listImages(db, filter));
    return records.map(({ image }) => image.id);
  }

  it("lists the newest first", async () => {
    const owner = randomUUID();
    const ids = await imagesOf(owner, {}, {}, {});

    expect(await listIds({ owner })).toEqual(ids.reverse());
  });

  it("lists no more than the limit, however many copies the images have", async () => {
    const owner = randomUUID();
    const older = await catalogue.activeImage({ owner }, ["fast", "slow"]);
    const newer = await catalogue.activeImage({ owner }, ["fast", "slow"]);
    await catalogue.execute(
      sql`UPDATE images SET created_at = now() + interval '1 minute' WHERE id = ${newer.imageId}`,
    );

    expect(await listIds({ owner, limit: 2 })).toEqual([newer.imageId, older.imageId]);
    expect(await listIds({ owner, limit: 1 })).toEqual([newer.imageId]);
  });

  it("shows each image with its own tags and properties", async () => {
    const owner = randomUUID();
    const [bare = "", full = ""] = await imagesOf(
      owner,
      {},
      { properties: { os_distro: "debian" }, tags: ["b", "a"] },
    );

    const records = await catalogue.database.query((db) => listImages(db, { owner }));

    expect(records).toEqual([await find(full), await find(bare)]);
    expect(records.map(({ properties, tags }) => ({ properties, tags }))).toEqual([
      { properties: { os_distro: "debian" }, tags: ["a", "b"] },
      { properties: {}, tags: [] },
    ]);
  });

  it("lists the images of one name", async () => {
    const owner = randomUUID();
    const [wanted = ""] = await imagesOf(owner, { name: "wanted" }, { name: "other" }, {});

    expect(await listIds({ owner, name: "wanted" })).toEqual([wanted]);
  });

  it("lists the images in one status", async () => {
    const owner = randomUUID();
    const { imageId } = await catalogue.activeImage({ owner });
    await imagesOf(owner, {});

    expect(await listIds({ owner, status: "active" })).toEqual([imageId]);
  });

  it("lists deleted images only on request", async () => {
    const owner = randomUUID();
    const [imageId = ""] = await imagesOf(owner, {});
    await catalogue.execute(sql`UPDATE images SET status = 'deleted' WHERE id = ${imageId}`);

    expect(await listIds({ owner })).toEqual([]);
    expect(await listIds({ owner, status: "deleted" })).toEqual([imageId]);
  });

  it("lists nothing when there is none", async () => {
    expect(await listIds({ owner: randomUUID() })).toEqual([]);
  });

  const ODD = [
    "50% off",
    "a_b",
    "it's",
    'say "hi"',
    "two\nlines",
    "ディスク",
    "back\\slash",
    "st*r?",
  ];

  it.each(ODD)("chooses by a property and a tag, to the letter: %j", async (odd) => {
    const owner = randomUUID();
    const [wanted = ""] = await imagesOf(
      owner,
      {
        properties: { [odd.replace("\n", " ")]: odd, os: "any" },
        tags: ["x", odd.replace("\n", "")],
      },
      { properties: { [odd.replace("\n", " ")]: `${odd}.`, os: "any" }, tags: ["x"] },
      { properties: { os: odd } },
    );
    const name = odd.replace("\n", " ");

    expect(await listIds({ owner, properties: { [name]: odd } })).toEqual([wanted]);
    expect(await listIds({ owner, properties: { [name]: odd, os: "any" } })).toEqual([wanted]);
    expect(await listIds({ owner, tags: ["x", odd.replace("\n", "")] })).toEqual([wanted]);
    expect(await listIds({ owner, tags: [`${odd}?`] })).toEqual([]);
  });

  it.each([
    ["*", ["50% off", "a_b", "axb", "debian-12", "debian-13"]],
    ["debian-*", ["debian-12", "debian-13"]],
    ["debian-1?", ["debian-12", "debian-13"]],
    ["*b", ["a_b", "axb"]],
    ["a_b", ["a_b"]],
    ["50% *", ["50% off"]],
    ["50%?off", ["50% off"]],
    ["50%off", []],
    ["DEBIAN-12", []],
    ["debian", []],
  ])("chooses by the pattern %s of the name", async (namePattern, names) => {
    const owner = randomUUID();
    for (const name of ["50% off", "a_b", "axb", "debian-12", "debian-13"]) {
      await catalogue.newImage({ owner, name });
    }
    await catalogue.newImage({ owner });

    const records = await catalogue.database.query((db) =>
      listImages(db, { owner, namePattern, sort: { key: "name", direction: "asc" } }),
    );

    expect(records.map(({ image }) => image.name)).toEqual(names);
  });

  it.each([
    ["\\*", "*"],
    ["\\?", "?"],
    ["\\\\", "\\"],
    ["\\%", "%"],
    ["🦆?", "🦆🦆"],
  ])("takes what follows a backslash literally: %s", async (namePattern, name) => {
    const owner = randomUUID();
    const wanted = await catalogue.newImage({ owner, name });
    await catalogue.newImage({ owner, name: "x" });

    expect(await listIds({ owner, namePattern })).toEqual([wanted]);
  });

  it("chooses by formats, store, size and times", async () => {
    const owner = randomUUID();
    const { imageId: active } = await catalogue.activeImage({ owner, diskFormat: "qcow2" }, [
      "fast",
    ]);
    const queued = await catalogue.newImage({ owner, diskFormat: "raw", containerFormat: "bare" });
    await catalogue.execute(
      sql`UPDATE images SET created_at = '2020-01-01', updated_at = '2021-01-01' WHERE id = ${queued}`,
    );
    const time = new Date("2020-06-01");

    expect(await listIds({ owner, diskFormat: "raw" })).toEqual([queued]);
    expect(await listIds({ owner, containerFormat: "bare" })).toContain(queued);
    expect(await listIds({ owner, store: "fast" })).toEqual([active]);
    expect(await listIds({ owner, store: "slow" })).toEqual([]);
    expect(await listIds({ owner, sizeMin: 4096, sizeMax: 4096 })).toEqual([active]);
    expect(await listIds({ owner, sizeMin: 4097 })).toEqual([]);
    expect(await listIds({ owner, sizeMax: 4095 })).toEqual([]);
    expect(await listIds({ owner, createdBefore: time })).toEqual([queued]);
    expect(await listIds({ owner, createdAfter: time })).toEqual([active]);
    expect(await listIds({ owner, updatedBefore: time })).toEqual([]);
    expect(await listIds({ owner, updatedAfter: time })).toEqual([active, queued]);
  });

  it("chooses the images without an owner", async () => {
    const name = randomUUID();
    await catalogue.newImage({ name, owner: "ada" });
    const wanted = await catalogue.newImage({ name });

    expect(await listIds({ name, owner: null })).toEqual([wanted]);
  });
});

describe("listImages() page by page", () => {
  /** Images with equal, different and unknown values of each key. */
  async function manyImages(): Promise<string> {
    const name = randomUUID();
    await catalogue.execute(sql`
      INSERT INTO images (id, name, owner, size, created_at, updated_at)
      SELECT gen_random_uuid(),
        CASE WHEN n % 4 > 0 THEN ${name}::text || n % 3 END, ${name}::text,
        CASE WHEN n % 5 > 0 THEN n % 6 END,
        now() + n % 7 * interval '1 microsecond', now() + n % 2 * interval '1 microsecond'
      FROM generate_series(1, 40) AS n`);
    return name;
  }

  async function walk(filter: ImageFilter): Promise<string[]> {
    const ids: string[] = [];
    for (let marker: string | undefined; ; marker = ids.at(-1)) {
      const page = marker === undefined ? filter : { ...filter, marker };
      const records = await catalogue.database.query((db) => listImages(db, page));
      if (records.length === 0) return ids;
      ids.push(...records.map(({ image }) => image.id));
    }
  }

  it.each(
    IMAGE_SORT_KEYS.flatMap(
      (key) =>
        [
          [key, "asc" as const],
          [key, "desc" as const],
        ] as const,
    ),
  )("has every image once, in the order of %s %s", async (key, direction) => {
    const owner = await manyImages();
    const sort = { key, direction };
    const all = await catalogue.database.query((db) => listImages(db, { owner, sort, limit: 100 }));

    const walked = await walk({ owner, sort, limit: 3 });

    expect(walked).toEqual(all.map(({ image }) => image.id));
    expect(new Set(walked).size).toBe(40);
  });

  it("continues after an image that was deleted meanwhile", async () => {
    const owner = await manyImages();
    const all = await walk({ owner, limit: 7 });
    await catalogue.execute(sql`UPDATE images SET status = 'deleted' WHERE id = ${all[4]}`);

    const marker = all[4] ?? "";

    const rest = await catalogue.database.query((db) => listImages(db, { owner, marker }));
    expect(rest.map(({ image }) => image.id)).toEqual(all.slice(5));
  });

  it("refuses a marker that is gone", async () => {
    const marker = randomUUID();

    const listing = catalogue.database.query((db) => listImages(db, { marker }));

    expect(await failureOf(listing)).toMatchObject({
      code: "BadRequest",
      message: `Cannot continue the list after "${marker}": it is gone`,
    });
  });
});
