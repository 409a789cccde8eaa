import { execFile } from "node:child_process";
import { randomUUID } from "node:crypto";
import { mkdir, readdir, readFile, rename, rm, stat, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import {
  CreateBucketCommand,
  DeleteBucketCommand,
  DeleteObjectCommand,
  PutObjectCommand,
} from "@aws-sdk/client-s3";
import { onTestFinished, beforeEach, describe, expect, it, vi, afterEach } from "vitest";
import { StoreMarkRecords } from "../../src/db/store-mark-records.ts";
import type { StoreSettings } from "../../src/domain/store-settings.ts";
import { Stores } from "../../src/stores/open-stores.ts";
import { MARK_NAME } from "../../src/stores/store-mark.ts";
import { storeKey, type Store } from "../../src/stores/store.ts";
import { NODE, SOME_DIGESTS, useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import { useS3Server } from "../support/s3-server.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { MAY_MOUNT } from "../support/volume.ts";
import { orderOf, stage } from "../stores/staged-source.ts";
import { sql } from "drizzle-orm";

const KEY = storeKey("6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b", 1);
const BYTES = Buffer.from("the bytes of an image");

const catalogue = useCatalogue();

/** A name that no other test uses: the marks of all are in one catalogue. */
let name: string;
let path: string;

beforeEach(async () => {
  name = `store-${randomUUID().slice(0, 8)}`;
  path = join(makeTemporaryDirectory(), "store");
  await mkdir(path);
});

/** The stores of one process, each in a directory. */
async function openStores(
  paths: Readonly<Record<string, string>>,
  settings: Partial<StoreSettings> = {},
): Promise<Stores> {
  const stores = Object.fromEntries(
    Object.entries(paths).map(([each, at]) => [
      each,
      { type: "file", path: at, zeroCopy: false, ...settings } as StoreSettings,
    ]),
  );
  return Stores.open(stores, name, new StoreMarkRecords(catalogue.database));
}

async function openStore(settings?: Partial<StoreSettings>): Promise<Store> {
  return (await openStores({ [name]: path }, settings)).get(name);
}

async function publish(store: Store): Promise<void> {
  await (await store.copy(orderOf(await stage(BYTES)))).publish();
}

/** Lists a copy in the catalogue, as an import of an earlier version left it. */
async function listCopy(store: string, key = KEY): Promise<void> {
  const imageId = await catalogue.newImage();
  await catalogue.execute(
    sql`INSERT INTO image_locations (image_id, store, epoch, status, node, key, url, size, crc32)
        VALUES (${imageId}, ${store}, 1, 'active', ${NODE}, ${key}, 'file:///x', ${SOME_DIGESTS.sizeBytes}, 7)`,
  );
}

/** Leaves the same as an unmounted volume: an empty directory of the same name. */
async function unmount(): Promise<void> {
  await rename(path, `${path}.away`);
  await mkdir(path);
}

async function mountAgain(): Promise<void> {
  await rm(path, { recursive: true });
  await rename(`${path}.away`, path);
}

describe("a file store", () => {
  it("is marked when it is first used", async () => {
    await publish(await openStore());

    const [mark] = (await readFile(join(path, MARK_NAME), "utf8")).split("\n");
    expect(await new StoreMarkRecords(catalogue.database).find(name)).toBe(mark);
  });

  it.each([
    ["copy", async (store: Store) => store.copy(orderOf(await stage(BYTES)))],
    ["find", async (store: Store) => store.find(KEY)],
    ["open", async (store: Store) => store.open(KEY)],
    ["remove", async (store: Store) => store.remove([KEY])],
    ["list", async (store: Store) => store.listParts(0)],
    ["prepare", async (store: Store) => store.prepare()],
  ])("is unavailable to %s while its volume is not mounted", async (_what, use) => {
    const store = await openStore();
    await publish(store);
    await unmount();

    expect(await failureOf(use(store))).toMatchObject({
      code: "StoreUnavailable",
      retryable: true,
      message: expect.stringContaining(`"${path}" does not have the mark`) as unknown,
      hint: expect.stringContaining(`stores --adopt ${name}`) as unknown,
    });
    expect(await readdir(path)).toEqual([]);
    await mountAgain();
    expect(await store.find(KEY)).toMatchObject({ sizeBytes: BYTES.length });
  });

  it("gets no published copy when its volume was unmounted during the copy", async () => {
    const store = await openStore();
    const copy = await store.copy(orderOf(await stage(BYTES)));
    await unmount();

    expect(await failureOf(copy.publish())).toMatchObject({ code: "StoreUnavailable" });
    expect(await readdir(path)).toEqual([]);
    await mountAgain();
    expect(await copy.publish()).toBe("published");
  });

  it("is unavailable when another store's directory has its place", async () => {
    const other = join(makeTemporaryDirectory(), "other");
    await mkdir(other);
    const stores = await openStores({ [name]: path, [`${name}-b`]: other });
    await publish(stores.get(name));
    await publish(stores.get(`${name}-b`));
    await rename(path, `${path}.away`);
    await rename(other, path);

    expect(await failureOf(stores.get(name).find(KEY))).toMatchObject({
      code: "StoreUnavailable",
      message: expect.stringContaining("has the mark") as unknown,
    });
  });

  it("is refused when two names lead to one directory", async () => {
    const alias = join(makeTemporaryDirectory(), "alias");
    await symlink(path, alias);
    const stores = await openStores({ [name]: path, [`${name}-b`]: alias });
    await publish(stores.get(name));

    expect(await failureOf(stores.get(`${name}-b`).prepare())).toMatchObject({
      code: "StoreUnavailable",
      message: expect.stringContaining(`has the mark of store "${name}"`) as unknown,
    });
  });

  it("takes its mark with it when it is renamed before it held anything", async () => {
    await (await openStore()).prepare();
    const renamed = (await openStores({ [`${name}-new`]: path })).get(`${name}-new`);

    await renamed.prepare();

    expect(await renamed.find(KEY)).toBeUndefined();
  });

  it("gets one mark when several processes use it first at once", async () => {
    const stores = await Promise.all(Array.from({ length: 8 }, () => openStore()));

    await Promise.all(stores.map((store) => store.prepare()));

    await Promise.all(stores.map((store) => store.find(KEY)));
    expect(await readdir(path)).toEqual([MARK_NAME]);
  });

  describe("from before there were marks", () => {
    it("is marked when it holds a copy that the catalogue lists", async () => {
      await listCopy(name, "an-image-that-was-lost.1");
      await listCopy(name);
      await writeFile(join(path, KEY), BYTES);

      await (await openStore()).prepare();

      expect(await readdir(path)).toContain(MARK_NAME);
    });

    it("is unavailable when it holds none of them", async () => {
      await listCopy(name);
      const store = await openStore();

      expect(await failureOf(store.prepare())).toMatchObject({
        code: "StoreUnavailable",
        message: expect.stringContaining("none of the copies") as unknown,
      });
      expect(await failureOf(store.remove([KEY]))).toMatchObject({ code: "StoreUnavailable" });
      expect(await readdir(path)).toEqual([]);
    });

    it("is read without a mark where nothing may be written", async () => {
      await listCopy(name);
      await writeFile(join(path, KEY), BYTES);
      const store = await openStore({ readOnly: true });

      expect(await store.find(KEY)).toMatchObject({ sizeBytes: BYTES.length });
      expect(await store.check()).toMatchObject({ works: true, mark: "none yet" });
      expect(await readdir(path)).toEqual([KEY]);
    });
  });

  describe("adopt()", () => {
    it("makes an emptied place that of the store", async () => {
      const store = await openStore();
      await publish(store);
      await listCopy(name);
      await unmount();

      expect(await store.adopt()).toMatchObject({ isNew: true, lookedFor: 1, found: 0 });
      expect(await store.find(KEY)).toBeUndefined();
    });

    it("takes the mark that is already in the place", async () => {
      await publish(await openStore());
      await catalogue.execute(
        sql`UPDATE store_marks SET mark = ${randomUUID()} WHERE store = ${name}`,
      );
      const store = await openStore();
      expect(await failureOf(store.find(KEY))).toMatchObject({ code: "StoreUnavailable" });

      expect(await store.adopt()).toMatchObject({ isNew: false });
      expect(await store.find(KEY)).toMatchObject({ sizeBytes: BYTES.length });
    });

    it("is refused for the place of another store", async () => {
      const other = join(makeTemporaryDirectory(), "other");
      await mkdir(other);
      const stores = await openStores({ [name]: path, [`${name}-b`]: other });
      await publish(stores.get(name));
      const both = await openStores({ [name]: other, [`${name}-b`]: path });

      expect(await failureOf(both.get(`${name}-b`).adopt())).toMatchObject({
        code: "ImageConflict",
        message: expect.stringContaining(`it belongs to store "${name}"`) as unknown,
      });
    });

    it("is noticed by a process that used the store before", async () => {
      const [before, person] = [await openStore(), await openStore()];
      await publish(before);
      await unmount();
      await person.adopt();
      await rm(path, { recursive: true });
      await rename(`${path}.away`, path);

      expect(await failureOf(before.copy(orderOf(await stage(BYTES))))).toMatchObject({
        code: "StoreUnavailable",
      });
    });
  });

  describe("whose directory is missing", () => {
    it("gets it when it was never used", async () => {
      path = join(path, "new");
      const store = await openStore();
      expect(await store.check()).toEqual({ works: true, mark: "none yet" });

      await store.prepare();

      expect((await stat(path)).mode & 0o777).toBe(0o750);
      expect(await store.check()).toMatchObject({ works: true, mark: "present" });
    });

    it("is refused with the way out when it cannot be made", async () => {
      path = join(path, "missing", "new");
      const unready = await (await openStores({ [name]: path })).prepare(60_000);

      expect(unready.get(name)).toMatchObject({
        neverWorked: true,
        failure: {
          code: "BadConfiguration",
          message: expect.stringContaining(`Cannot create the directory "${path}"`) as unknown,
          hint: expect.stringContaining(`stores.${name}.path`) as unknown,
        },
      });
    });

    it("gets it by its first copy, when it could not be made ready before", async () => {
      path = join(path, "new");
      const store = await openStore();

      expect(await store.find(KEY)).toBeUndefined();
      await publish(store);

      expect(await store.find(KEY)).toMatchObject({ sizeBytes: BYTES.length });
    });

    it.each([
      ["a file", () => writeFile(join(path, "new"), "")],
      ["a symbolic link to nothing", () => symlink("/no/such/place", join(path, "new"))],
    ])("is refused when %s has its path", async (_what, make) => {
      await make();
      path = join(path, "new");
      const stores = await openStores({ [name]: path });

      expect((await stores.prepare(60_000)).get(name)).toMatchObject({
        neverWorked: true,
        failure: { code: "BadConfiguration" },
      });
    });

    it("is waited for when it was used before", async () => {
      const stores = await openStores({ [name]: path });
      await publish(stores.get(name));
      await rename(path, `${path}.away`);

      expect((await stores.prepare(60_000)).get(name)).toMatchObject({
        neverWorked: false,
        failure: { code: "StoreUnavailable" },
      });
      expect(await failureOf(publish(stores.get(name)))).toMatchObject({
        code: "StoreUnavailable",
        message: expect.stringContaining("does not exist") as unknown,
      });
    });
  });

  it.runIf(MAY_MOUNT)("distinguishes a real mount from its mount point", async () => {
    await promisify(execFile)("mount", ["-t", "tmpfs", "tmpfs", path]);
    onTestFinished(async () => {
      await promisify(execFile)("umount", ["--lazy", path]).catch(() => undefined);
    });
    const store = await openStore();
    await publish(store);
    const copy = await store.copy(orderOf(await stage(BYTES)));
    // While the copy is not published nothing holds the volume.
    await promisify(execFile)("umount", [path]);

    expect(await failureOf(copy.publish())).toMatchObject({ code: "StoreUnavailable" });
    expect(await failureOf(store.remove([KEY]))).toMatchObject({ code: "StoreUnavailable" });
    expect(await readdir(path)).toEqual([]);
  });
});

describe("an S3 store", () => {
  const server = useS3Server();
  let bucket: string;

  beforeEach(async () => {
    for (const [variable, value] of Object.entries(server.env)) vi.stubEnv(variable, value);
    bucket = await server.makeBucket();
  });

  afterEach(() => {
    vi.unstubAllEnvs();
  });

  async function openObjects(changes: { prefix?: string; bucket?: string } = {}): Promise<Stores> {
    const settings = {
      type: "s3",
      bucket,
      prefix: "images/",
      region: server.region,
      endpoint: server.endpoint,
      pathStyle: true,
      checksums: "when_supported",
      partSizeBytes: 5 * 1024 ** 2,
      partsInFlight: 1,
      ...changes,
    } as const;
    return Stores.open({ [name]: settings }, name, new StoreMarkRecords(catalogue.database));
  }

  async function dropBucket(): Promise<void> {
    for (const Key of [`images/${MARK_NAME}`, `images/${KEY}`]) {
      await server.client.send(new DeleteObjectCommand({ Bucket: bucket, Key }));
    }
    await server.client.send(new DeleteBucketCommand({ Bucket: bucket }));
  }

  it.each([
    ["copy", async (store: Store) => store.copy(orderOf(await stage(BYTES)))],
    ["find", async (store: Store) => store.find(KEY)],
    ["open", async (store: Store) => store.open(KEY)],
    ["remove", async (store: Store) => store.remove([KEY])],
  ])(
    "is unavailable to %s when its bucket was emptied, replaced or is gone",
    async (_what, use) => {
      const store = (await openObjects()).get(name);
      await publish(store);
      await dropBucket();

      expect(await failureOf(use(store))).toMatchObject({
        code: "StoreUnavailable",
        message: expect.stringContaining("no longer exists") as unknown,
      });
      await server.client.send(new CreateBucketCommand({ Bucket: bucket }));
      expect(await failureOf(use(store))).toMatchObject({
        code: "StoreUnavailable",
        message: expect.stringContaining("does not have the mark") as unknown,
      });
      await store.adopt();
      expect(await store.find(KEY)).toBeUndefined();
    },
  );

  it("is unavailable under another prefix", async () => {
    await publish((await openObjects()).get(name));

    expect(
      await failureOf((await openObjects({ prefix: "other/" })).get(name).find(KEY)),
    ).toMatchObject({
      code: "StoreUnavailable",
      message: expect.stringContaining('prefix "other/"') as unknown,
    });
  });

  it("gets one mark when several processes use it first at once", async () => {
    const stores = await Promise.all(Array.from({ length: 6 }, () => openObjects()));

    const unready = await Promise.all(stores.map((each) => each.prepare(60_000)));

    expect(unready.map(({ size }) => size)).toEqual([0, 0, 0, 0, 0, 0]);
  });

  it("is refused with the way out when its bucket never existed", async () => {
    const stores = await openObjects({ bucket: `${bucket}-missing` });

    expect((await stores.prepare(60_000)).get(name)).toMatchObject({
      neverWorked: true,
      failure: {
        code: "BadConfiguration",
        message: expect.stringContaining(`bucket "${bucket}-missing"`) as unknown,
        hint: expect.stringContaining("Create the bucket") as unknown,
      },
    });
    expect(await failureOf(publish(stores.get(name)))).toMatchObject({ code: "BadConfiguration" });
  });

  it("from before there were marks is marked when it holds a copy that the catalogue lists", async () => {
    await listCopy(name);
    const stores = await openObjects();
    expect((await stores.prepare(60_000)).get(name)).toMatchObject({
      failure: { code: "StoreUnavailable" },
    });
    await server.client.send(
      new PutObjectCommand({ Bucket: bucket, Key: `images/${KEY}`, Body: BYTES }),
    );

    expect((await stores.prepare(60_000)).size).toBe(0);
    expect(await stores.get(name).check()).toMatchObject({ works: true, mark: "present" });
  });
});
