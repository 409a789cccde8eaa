import { randomBytes, randomUUID } from "node:crypto";
import { sql } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import { findReferencedImages, findReferencedTasks } from "../../src/db/reference-records.ts";
import { useCatalogue } from "../support/catalogue.ts";

const catalogue = useCatalogue();

async function found(reference: string): Promise<string[]> {
  const candidates = await catalogue.database.query((db) => findReferencedImages(db, reference));
  return candidates.map(({ id }) => id);
}

/** Ten hex digits that no other test's ids begin with. */
function someDigits(): string {
  return randomBytes(5).toString("hex");
}

function idWith(digits: string): string {
  const rest = randomUUID().replaceAll("-", "").slice(digits.length);
  return `${digits}${rest}`.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, "$1-$2-$3-$4-$5");
}

async function become(imageId: string, status: string): Promise<void> {
  await catalogue.execute(sql`UPDATE images SET status = ${status} WHERE id = ${imageId}`);
}

describe("findReferencedImages()", () => {
  it.each(["debian 13", "50%", "a_b", "it's", 'say "hi"', "ディスク", "back\\slash", "🦆"])(
    "finds an image by its exact name: %s",
    async (name) => {
      const id = await catalogue.newImage({ name });
      await catalogue.newImage({ name: `${name}x` });
      await catalogue.newImage({ name: name.toUpperCase() + " " });

      expect(await found(name)).toEqual([id]);
    },
  );

  it("finds an image by the beginning of its id, in any case, with or without hyphens", async () => {
    const digits = someDigits();
    const id = await catalogue.newImage({ id: idWith(digits) });

    expect(await found(id.slice(0, 11).toUpperCase())).toEqual([id]);
    expect(await found(digits)).toEqual([id]);
  });

  it("finds every image of the name, newest first", async () => {
    const name = randomUUID();
    const first = await catalogue.newImage({ name });
    const second = await catalogue.newImage({ name });

    expect(await found(name)).toEqual([second, first]);
  });

  it("prefers a name to the beginning of an id", async () => {
    const digits = someDigits();
    await catalogue.newImage({ id: idWith(digits) });
    const named = await catalogue.newImage({ name: digits });

    expect(await found(digits)).toEqual([named]);
  });

  it("prefers the name of an image that is being deleted to the beginning of an id", async () => {
    const digits = someDigits();
    await catalogue.newImage({ id: idWith(digits) });
    const named = await catalogue.newImage({ name: digits });
    await become(named, "pending_delete");

    expect(await found(digits)).toEqual([named]);
  });

  it("finds an image that is being deleted only if no other image has the name", async () => {
    const name = randomUUID();
    const old = await catalogue.newImage({ name });
    await become(old, "pending_delete");
    expect(await found(name)).toEqual([old]);

    const id = await catalogue.newImage({ name });

    expect(await found(name)).toEqual([id]);
  });

  it("finds no deleted image", async () => {
    const name = randomUUID();
    const digits = someDigits();
    await become(await catalogue.newImage({ name, id: idWith(digits) }), "deleted");

    expect([await found(name), await found(digits)]).toEqual([[], []]);
  });

  it("reads few of many, and uses the indexes", async () => {
    const name = randomUUID();
    await catalogue.execute(sql`
      INSERT INTO images (id, name) SELECT gen_random_uuid(), ${name} FROM generate_series(1, 30)`);
    await catalogue.execute(sql`
      INSERT INTO images (id, name)
      SELECT gen_random_uuid(), 'other ' || n FROM generate_series(1, 5000) AS n`);
    await catalogue.execute(sql`ANALYZE images`);

    expect(await found(name)).toHaveLength(11);
    const plan = await catalogue.database.query((db) =>
      db.execute(sql`EXPLAIN SELECT id FROM images WHERE name = 'other 7' AND status <> 'deleted'`),
    );
    expect(JSON.stringify(plan)).toContain("images_name_index");
  });
});

describe("findReferencedTasks()", () => {
  it("finds a task by the beginning of its id", async () => {
    const { taskId } = await catalogue.claimedImage();
    const find = (reference: string) =>
      catalogue.database.query((db) => findReferencedTasks(db, reference));

    expect(await find(taskId.slice(0, 13).toUpperCase())).toMatchObject([{ id: taskId }]);
    expect(await find("debian")).toEqual([]);
  });
});
