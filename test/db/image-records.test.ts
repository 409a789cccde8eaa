import { randomUUID } from "node:crypto";
import { sql } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import {
  changeImage,
  findImage,
  type ImageRecord,
  insertImage,
  listPublished,
  lockImage,
  moveImage,
  type NewImage,
} from "../../src/db/image-records.ts";
import type { ImageChanges } from "../../src/domain/image-fields.ts";
import { type ImageStatus } from "../../src/domain/image-status.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import { limitsOf } from "../support/limited-owner.ts";
import { PATIENCE } from "../support/patience.ts";

const catalogue = useCatalogue();

async function find(imageId: string): Promise<ImageRecord> {
  return catalogue.database.query((db) => findImage(db, imageId));
}

async function change(imageId: string, changes: ImageChanges): Promise<void> {
  await catalogue.database.transaction((db) => changeImage(db, NO_LIMITS, imageId, changes));
}

async function move(imageId: string, to: ImageStatus): Promise<void> {
  await catalogue.database.transaction((db) => moveImage(db, imageId, to));
}

function notFound(imageId: string) {
  return { code: "ImageNotFound", message: `No image has the id "${imageId}"` };
}

describe("insertImage()", () => {
  it("adds a queued image with every given attribute", async () => {
    const image: NewImage = {
      id: randomUUID(),
      name: "debian",
      owner: "ada",
      diskFormat: "qcow2",
      containerFormat: "bare",
      properties: { os_distro: "debian", os_version: "13" },
      tags: ["new", "a tag"],
      visibility: "private",
      protected: true,
      osHidden: true,
      minDisk: 20,
      minRam: 512,
    };

    await catalogue.database.transaction((db) => insertImage(db, NO_LIMITS, image));

    expect(await find(image.id)).toEqual({
      image: {
        id: image.id,
        name: "debian",
        owner: "ada",
        status: "queued",
        diskFormat: "qcow2",
        containerFormat: "bare",
        visibility: "private",
        protected: true,
        osHidden: true,
        minDisk: 20,
        minRam: 512,
        sizeBytes: null,
        virtualSizeBytes: null,
        checksum: null,
        osHashAlgo: null,
        osHashValue: null,
        importingToStores: [],
        failedImport: [],
        directUpload: null,
        epoch: 0,
        claimTaskId: null,
        claimWorkflowId: null,
        claimRunId: null,
        claimEarlierStatus: null,
        claimSizeBytes: 0,
        claimCopies: 0,
        claimProductBytes: 0,
        createdAt: expect.any(Date) as Date,
        updatedAt: expect.any(Date) as Date,
        deletedAt: null,
      },
      properties: { os_distro: "debian", os_version: "13" },
      tags: ["a tag", "new"],
      locations: [],
      membership: null,
    });
  });

  it("adds an image without any given attribute", async () => {
    const id = randomUUID();

    await catalogue.database.transaction((db) => insertImage(db, NO_LIMITS, { id }));

    expect(await find(id)).toMatchObject({
      image: { name: null, owner: null, diskFormat: null, containerFormat: null },
      properties: {},
      tags: [],
    });
  });

  it("adds a tag once when it is given twice", async () => {
    const imageId = await catalogue.newImage({ tags: ["new", "new"] });

    expect((await find(imageId)).tags).toEqual(["new"]);
  });

  it.each(["queued", "deleted"] as const)(
    "refuses the id of an image that is %s, and leaves that image unchanged",
    async (status) => {
      const imageId = await catalogue.newImage({ name: "first" });
      await catalogue.execute(sql`UPDATE images SET status = ${status} WHERE id = ${imageId}`);

      const failure = await failureOf(catalogue.newImage({ id: imageId, name: "second" }));

      expect(failure).toMatchObject({
        code: "ImageExists",
        message: `Cannot create image "${imageId}": the id is taken`,
      });
      expect((await catalogue.image(imageId)).name).toBe("first");
    },
  );

  it("refuses a property in Glance's own namespace, and adds nothing", async () => {
    const id = randomUUID();

    const failure = await failureOf(
      catalogue.newImage({ id, properties: { fine: "1", os_glance_importing_to_stores: "x" } }),
    );

    expect(failure).toMatchObject({
      code: "BadRequest",
      message: "Attribute 'os_glance_importing_to_stores' is reserved",
      hint: "Choose another name for the property; `image-import image set --help` lists the attributes that are set in another way.",
    });
    expect(await failureOf(find(id))).toMatchObject(notFound(id));
  });
});

describe("lockImage()", () => {
  it("makes other transactions wait until this one has ended", async () => {
    const imageId = await catalogue.newImage();
    const order: string[] = [];
    let second: Promise<void> | undefined;

    await catalogue.database.transaction(async (db) => {
      await lockImage(db, imageId);
      second = catalogue.database.transaction(async (other) => {
        await lockImage(other, imageId);
        order.push("second");
      });
      await expect.poll(waitersForLocks, PATIENCE).toBe(1);
      order.push("first");
    });
    await second;

    expect(order).toEqual(["first", "second"]);
  });

  it.each(["pending_delete", "deleted"] as const)(
    "does not find an image in %s",
    async (status) => {
      const imageId = await catalogue.imageIn(status);

      expect(
        await failureOf(catalogue.database.transaction((db) => lockImage(db, imageId))),
      ).toMatchObject(notFound(imageId));
    },
  );

  it("does not find an image that does not exist", async () => {
    const imageId = randomUUID();

    expect(
      await failureOf(catalogue.database.transaction((db) => lockImage(db, imageId))),
    ).toMatchObject(notFound(imageId));
  });
});

async function waitersForLocks(): Promise<unknown> {
  const [row] = await catalogue.database.query((db) =>
    db.execute(sql`
      SELECT count(*)::int AS waiters FROM pg_stat_activity
      WHERE datname = current_database() AND wait_event_type = 'Lock'`),
  );
  return row?.["waiters"];
}

describe("findImage()", () => {
  it("shows the live copies only, in the order in which they were made", async () => {
    const { imageId } = await catalogue.activeImage({}, ["slow", "fast", "third"]);
    await catalogue.execute(sql`
      UPDATE image_locations SET status = 'pending_delete'
      WHERE image_id = ${imageId} AND store = 'third'`);
    await catalogue.execute(sql`
      UPDATE image_locations SET created_at = now() + interval '1 second'
      WHERE image_id = ${imageId} AND store = 'fast'`);

    const { locations } = await find(imageId);

    expect(locations.map(({ store, status }) => ({ store, status }))).toEqual([
      { store: "slow", status: "active" },
      { store: "fast", status: "active" },
    ]);
  });

  it("shows no copies before the activation", async () => {
    const claim = await catalogue.claimedImage();
    await catalogue.save(claim);

    expect((await find(claim.imageId)).locations).toEqual([]);
  });

  it("reads a copy as the catalogue has it", async () => {
    const { imageId } = await catalogue.activeImage();

    expect((await find(imageId)).locations).toEqual(await catalogue.locations(imageId));
  });

  it("finds an image that is being deleted", async () => {
    const imageId = await catalogue.imageIn("pending_delete");

    expect((await find(imageId)).image.status).toBe("pending_delete");
  });

  it("does not find an image that is deleted", async () => {
    const imageId = await catalogue.imageIn("deleted");

    expect(await failureOf(find(imageId))).toMatchObject(notFound(imageId));
  });

  it("does not find an image that does not exist", async () => {
    const imageId = randomUUID();

    expect(await failureOf(find(imageId))).toMatchObject(notFound(imageId));
  });
});

describe("listPublished()", () => {
  async function listIds(afterId: string | undefined, limit: number): Promise<string[]> {
    const rows = await catalogue.database.query((db) => listPublished(db, afterId, limit));
    return rows.map(({ id }) => id);
  }

  it("walks through active and deactivated images in the order of their ids", async () => {
    const published = [
      await catalogue.imageIn("active"),
      await catalogue.imageIn("deactivated"),
    ].sort();
    const others = [await catalogue.imageIn("queued"), await catalogue.imageIn("pending_delete")];

    const ids = await listIds(undefined, 10_000);

    expect(ids).toEqual([...ids].sort());
    expect(ids).toEqual(expect.arrayContaining(published));
    expect(ids).not.toEqual(expect.arrayContaining(others.slice(0, 1)));
    expect(ids).not.toEqual(expect.arrayContaining(others.slice(1)));
  });

  it("continues after an id, up to the limit", async () => {
    await Promise.all([
      catalogue.imageIn("active"),
      catalogue.imageIn("active"),
      catalogue.imageIn("active"),
    ]);
    const ids = await listIds(undefined, 10_000);

    const next = await listIds(ids[0], 1);

    expect(next).toEqual(ids.slice(1, 2));
  });
});

describe("changeImage()", () => {
  it("changes every named attribute", async () => {
    const imageId = await catalogue.newImage({
      name: "old",
      properties: { kept: "1", changed: "1", gone: "1" },
      tags: ["kept", "gone"],
    });

    await change(imageId, {
      name: "new",
      diskFormat: "qcow2",
      containerFormat: "ova",
      setProperties: { changed: "2", added: "2" },
      removeProperties: ["gone", "never there"],
      addTags: ["added", "kept"],
      removeTags: ["gone", "never there"],
    });

    expect(await find(imageId)).toMatchObject({
      image: { name: "new", diskFormat: "qcow2", containerFormat: "ova" },
      properties: { kept: "1", changed: "2", added: "2" },
      tags: ["added", "kept"],
    });
  });

  it("changes visibility and needs, replaces tags, and removes values", async () => {
    const imageId = await catalogue.newImage({
      name: "old",
      owner: "ada",
      tags: ["kept", "gone"],
      properties: { empty: "1" },
    });

    await change(imageId, {
      name: null,
      owner: null,
      diskFormat: null,
      containerFormat: null,
      visibility: "public",
      protected: true,
      osHidden: true,
      minDisk: 20,
      minRam: 512,
      tags: ["kept", "new"],
      addTags: ["added"],
      setProperties: { empty: "" },
    });

    expect(await find(imageId)).toMatchObject({
      image: {
        name: null,
        owner: null,
        diskFormat: null,
        containerFormat: null,
        visibility: "public",
        protected: true,
        osHidden: true,
        minDisk: 20,
        minRam: 512,
      },
      properties: { empty: "" },
      tags: ["added", "kept", "new"],
    });
    await change(imageId, { tags: [], protected: false });
    expect(await find(imageId)).toMatchObject({
      image: { protected: false, minRam: 512 },
      tags: [],
    });
  });

  it("leaves every other attribute unchanged", async () => {
    const imageId = await catalogue.newImage({
      name: "old",
      owner: "ada",
      properties: { kept: "1" },
      tags: ["kept"],
    });
    const before = await find(imageId);

    await change(imageId, { addTags: ["added"] });

    const { updatedAt } = (await find(imageId)).image;
    expect(await find(imageId)).toEqual({
      ...before,
      image: { ...before.image, updatedAt },
      tags: ["added", "kept"],
    });
  });

  it("keeps every one of many simultaneous changes", async () => {
    const imageId = await catalogue.newImage();
    const names = Array.from({ length: 20 }, (_, index) => `p${String(index).padStart(2, "0")}`);

    await Promise.all(names.map((name) => change(imageId, { setProperties: { [name]: "1" } })));

    expect(Object.keys((await find(imageId)).properties).sort()).toEqual(names);
  });

  it.each(["importing", "saving", "active", "deactivated"] as const)(
    "refuses to change the formats of an image that is %s, and changes nothing",
    async (status) => {
      const imageId = await catalogue.imageIn(status);
      const before = await find(imageId);

      const failure = await failureOf(change(imageId, { name: "new", diskFormat: "vmdk" }));

      expect(failure).toMatchObject({
        code: "ImageConflict",
        message: `Cannot change the formats of image "${imageId}": it is ${status}, and formats are frozen once an import begins`,
      });
      expect(await find(imageId)).toEqual(before);
    },
  );

  it.each(["importing", "saving", "active", "deactivated"] as const)(
    "changes the name of an image that is %s",
    async (status) => {
      const imageId = await catalogue.imageIn(status);

      await change(imageId, { name: "new" });

      expect((await find(imageId)).image).toMatchObject({ name: "new", status });
    },
  );

  it("changes the formats of an image whose data is staged", async () => {
    const imageId = await catalogue.stagedImage();

    await change(imageId, { containerFormat: "ova" });

    expect((await find(imageId)).image.containerFormat).toBe("ova");
  });

  it("refuses a property in Glance's own namespace, and changes nothing", async () => {
    const imageId = await catalogue.newImage();
    const before = await find(imageId);

    const failure = await failureOf(
      change(imageId, { name: "new", setProperties: { os_glance_failed_import: "" } }),
    );

    expect(failure).toMatchObject({
      code: "BadRequest",
      message: "Attribute 'os_glance_failed_import' is reserved",
    });
    expect(await find(imageId)).toEqual(before);
  });

  it("counts the image in the quotas of its new owner, with all its copies", async () => {
    const [from, to] = [randomUUID(), randomUUID()];
    const { imageId } = await catalogue.activeImage({ owner: from }, ["fast", "slow"]);
    const give = async (image_size_total: number): Promise<void> =>
      catalogue.database.transaction((db) =>
        changeImage(db, limitsOf({ image_size_total }), imageId, { owner: to }),
      );

    expect(await failureOf(give(8191))).toMatchObject({ code: "QuotaExceeded" });
    expect((await find(imageId)).image.owner).toBe(from);
    await give(8192);

    expect((await find(imageId)).image.owner).toBe(to);
  });

  it("gives one image, of several at the same time, to an owner who has room for one", async () => {
    const owner = randomUUID();
    const imageIds = await Promise.all(Array.from({ length: 6 }, () => catalogue.newImage()));

    const ends = await Promise.allSettled(
      imageIds.map((imageId) =>
        catalogue.database.transaction((db) =>
          changeImage(db, limitsOf({ image_count_total: 1 }), imageId, { owner }),
        ),
      ),
    );

    expect(ends.filter(({ status }) => status === "fulfilled")).toHaveLength(1);
  });

  it("does not find an image that is being deleted", async () => {
    const imageId = await catalogue.imageIn("pending_delete");

    expect(await failureOf(change(imageId, { name: "new" }))).toMatchObject(notFound(imageId));
  });
});

describe("moveImage()", () => {
  it.each([
    { from: "active", to: "deactivated" },
    { from: "deactivated", to: "active" },
  ] as const)("moves an image from $from to $to", async ({ from, to }) => {
    const imageId = await catalogue.imageIn(from);

    await move(imageId, to);

    expect((await catalogue.image(imageId)).status).toBe(to);
  });

  it.each([
    { from: "active", to: "active" },
    { from: "queued", to: "active" },
    { from: "uploading", to: "deactivated" },
    { from: "saving", to: "deactivated" },
    { from: "deactivated", to: "deactivated" },
  ] as const)("refuses the way from $from to $to, naming both", async ({ from, to }) => {
    const imageId = await catalogue.imageIn(from);

    expect(await failureOf(move(imageId, to))).toMatchObject({
      code: "IllegalTransition",
      message: `Cannot change an image from "${from}" to "${to}"`,
    });
    expect((await catalogue.image(imageId)).status).toBe(from);
  });

  it.each(["importing", "saving"] as const)(
    "never publishes an image that is %s, though its import may",
    async (status) => {
      const imageId = await catalogue.imageIn(status);
      const before = await catalogue.image(imageId);

      const failure = await failureOf(move(imageId, "active"));

      expect(failure).toMatchObject({
        code: "ImageBusy",
        message: `Cannot make image "${imageId}" active: task ${before.claimTaskId ?? ""} imports it`,
      });
      expect(await catalogue.image(imageId)).toEqual(before);
    },
  );

  it("does not find an image that is being deleted", async () => {
    const imageId = await catalogue.imageIn("pending_delete");

    expect(await failureOf(move(imageId, "active"))).toMatchObject(notFound(imageId));
  });
});
