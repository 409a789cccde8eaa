import { randomBytes } from "node:crypto";
import { crc32 } from "node:zlib";
import { describe, expect, it } from "vitest";
import { BLOCK_BYTES } from "../../src/bytes/block-size.ts";
import { keyOfPart, newPartName } from "../../src/bytes/part-name.ts";
import { readFully } from "../../src/bytes/positional-io.ts";
import { storeKey, type Copied, type Store } from "../../src/stores/store.ts";
import { failureOf } from "../support/failure-of.ts";
import { orderOf, stage, type StagedSource } from "./staged-source.ts";

const IMAGE_ID = "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b";
const KEY = storeKey(IMAGE_ID, 1);

/**
 * The promises of every store; see `Store`.
 *
 * @param createStore - makes an empty store of the running test's own
 * @param blockBytes - bytes that the store moves at once, and does not move again when it resumes.
 *   Default: 1 MiB
 */
export function itKeepsTheStoreContract(
  createStore: () => Promise<Store>,
  blockBytes = BLOCK_BYTES,
): void {
  const RANDOM = randomBytes(blockBytes);
  const ZEROS = Buffer.alloc(blockBytes);

  describe("copy()", () => {
    it.each([
      ["nothing", Buffer.alloc(0)],
      ["one byte", Buffer.from("x")],
      ["a block", RANDOM],
      ["a block and a byte", Buffer.concat([RANDOM, Buffer.from("x")])],
      ["zeros", Buffer.concat([ZEROS, ZEROS])],
      ["zeros around bytes", Buffer.concat([ZEROS, RANDOM, ZEROS, Buffer.from("x"), ZEROS])],
      ["zeros at an odd end", Buffer.concat([RANDOM, ZEROS.subarray(5)])],
    ])("brings %s into the store as it is, and returns its crc32", async (_, bytes) => {
      const store = await createStore();
      const source = await stage(bytes);

      const copied = await keep(store, source);

      expect((await readBack(store)).equals(bytes)).toBe(true);
      expect(copied.crc32).toBe(crc32(bytes));
    });

    it("shows nothing under the key before it is published", async () => {
      const store = await createStore();

      await store.copy(orderOf(await stage(RANDOM)));

      expect(await store.find(KEY)).toBeUndefined();
    });

    it("reports its progress, up to the end", async () => {
      const store = await createStore();
      const bytes = Buffer.concat([RANDOM, RANDOM, Buffer.from("x")]);
      const progress: number[] = [];

      await store.copy(
        orderOf(await stage(bytes), { report: (doneBytes) => progress.push(doneBytes) }),
      );

      expect(progress).toEqual([...progress].sort((one, other) => one - other));
      expect(progress.at(-1)).toBe(bytes.length);
    });

    it("shares no inode with the source", async () => {
      const store = await createStore();
      const source = await stage(RANDOM);

      const copied = await store.copy(orderOf(source, { crc32: source.crc32 }));

      expect(copied.shared).toBe(false);
    });

    it("keeps what it has when it is cancelled, and resumes from there", async () => {
      const store = await createStore();
      const bytes = Buffer.concat([RANDOM, randomBytes(blockBytes), RANDOM, RANDOM]);
      const source = await stage(bytes);
      const part = newPartName(IMAGE_ID, 1);
      await cancelAfter(2 * blockBytes, store, source, part);

      const copied = await keep(store, source, { part, mayResume: true });

      expect((await readBack(store)).equals(bytes)).toBe(true);
      expect(copied.crc32).toBe(crc32(bytes));
      expect(copied.writtenBytes).toBeLessThan(bytes.length);
    });

    it("is done at once when a cancelled copy was complete already", async () => {
      const store = await createStore();
      const source = await stage(Buffer.concat([RANDOM, RANDOM]));
      const part = newPartName(IMAGE_ID, 1);
      await store.copy(orderOf(source, { part }));

      const copied = await keep(store, source, { part, mayResume: true });

      expect(copied).toMatchObject({ crc32: source.crc32, writtenBytes: 0 });
    });

    it("starts from byte 0 when the attempt that it may resume never began", async () => {
      const store = await createStore();
      const source = await stage(RANDOM);

      await keep(store, source, { mayResume: true });

      expect((await readBack(store)).equals(RANDOM)).toBe(true);
    });

    it("does not begin when it is cancelled already", async () => {
      const store = await createStore();
      const reason = new Error("Enough");

      const copying = store.copy(
        orderOf(await stage(RANDOM), { signal: AbortSignal.abort(reason) }),
      );

      await expect(copying).rejects.toBe(reason);
    });

    it("finds out that the source is shorter than it must be", async () => {
      const store = await createStore();
      const source = await stage(RANDOM);

      expect(
        await failureOf(store.copy(orderOf(source, { sizeBytes: blockBytes + 1 }))),
      ).toMatchObject({ code: "StagedDataChanged", retryable: false });
    });

    it("takes no more of the source than was ordered", async () => {
      const store = await createStore();
      const source = await stage(Buffer.concat([RANDOM, RANDOM]));

      await keep(store, source, { sizeBytes: blockBytes - 1 });

      expect((await readBack(store)).equals(RANDOM.subarray(0, -1))).toBe(true);
    });
  });

  describe("publish()", () => {
    it("gives a copy its key, and takes the private name away", async () => {
      const store = await createStore();
      const copy = await store.copy(orderOf(await stage(RANDOM)));

      expect(await copy.publish()).toBe("published");

      expect((await readBack(store)).equals(RANDOM)).toBe(true);
      expect(await store.listParts(-1)).toEqual([]);
    });

    it("never replaces a key, and takes the private copy away", async () => {
      const store = await createStore();
      await keep(store, await stage(RANDOM));
      const copy = await store.copy(orderOf(await stage(Buffer.from("another"))));

      expect(await copy.publish()).toBe("exists");

      expect((await readBack(store)).equals(RANDOM)).toBe(true);
      expect(await store.listParts(-1)).toEqual([]);
    });

    it("lets one of many at once win, whole", async () => {
      const store = await createStore();
      const contents = Array.from({ length: 8 }, (_, index) => `content ${index}`);
      const copies = await Promise.all(
        contents.map(async (content) => store.copy(orderOf(await stage(Buffer.from(content))))),
      );

      const outcomes = await Promise.all(copies.map((copy) => copy.publish()));

      expect(outcomes.filter((outcome) => outcome === "published")).toHaveLength(1);
      expect((await readBack(store)).toString()).toBe(contents[outcomes.indexOf("published")]);
    });

    it("keeps copies of different imports apart", async () => {
      const store = await createStore();
      const laterKey = storeKey(IMAGE_ID, 2);

      await keep(store, await stage(Buffer.from("first")));
      await keep(store, await stage(Buffer.from("second")), {}, laterKey);

      expect((await readBack(store)).toString()).toBe("first");
      expect((await readBack(store, laterKey)).toString()).toBe("second");
    });
  });

  describe("find()", () => {
    it("finds a published copy, with its size", async () => {
      const store = await createStore();
      await keep(store, await stage(RANDOM));

      expect(await store.find(KEY)).toMatchObject({ sizeBytes: blockBytes });
    });

    it("finds nothing where there is none", async () => {
      const store = await createStore();

      expect(await store.find(KEY)).toBeUndefined();
    });
  });

  describe("open()", () => {
    it("reads any range, in any order", async () => {
      const store = await createStore();
      const bytes = Buffer.concat([RANDOM, randomBytes(blockBytes)]);
      await keep(store, await stage(bytes));
      await using copy = await store.open(KEY);
      const ranges = [
        [bytes.length - 3, 3],
        [0, 10],
        [10, 1000],
        [blockBytes - 5, 10],
      ] as const;

      for (const [position, lengthBytes] of ranges) {
        const buffer = Buffer.alloc(lengthBytes);
        await readFully(copy, buffer, position);

        expect(buffer.equals(bytes.subarray(position, position + lengthBytes))).toBe(true);
      }
    });

    it("fails where there is no copy", async () => {
      const store = await createStore();

      expect(await failureOf(store.open(KEY))).toMatchObject({ code: "StoreUnavailable" });
    });
  });

  describe("remove()", () => {
    it("removes private names and keys, and nothing else", async () => {
      const store = await createStore();
      const part = newPartName(IMAGE_ID, 1);
      const [otherKey, thirdKey] = [storeKey(IMAGE_ID, 2), storeKey(IMAGE_ID, 3)];
      const source = await stage(RANDOM);
      await keep(store, source);
      await keep(store, source, {}, otherKey);
      await store.copy(orderOf(source, { part }));
      await store.copy(orderOf(source, { part: newPartName(IMAGE_ID, 3), key: thirdKey }));

      await store.remove([part, KEY]);

      expect(await store.find(KEY)).toBeUndefined();
      expect((await readBack(store, otherKey)).equals(RANDOM)).toBe(true);
      expect((await store.listParts(-1)).map(keyOfPart)).toEqual([thirdKey]);
    });

    it("leaves a late writer nothing to publish", async () => {
      const store = await createStore();
      const part = newPartName(IMAGE_ID, 1);
      const late = await store.copy(orderOf(await stage(RANDOM), { part }));
      await store.remove([part]);

      await failureOf(late.publish());

      expect(await store.find(KEY)).toBeUndefined();
    });

    it("lets private names be removed without the key that they were for", async () => {
      const store = await createStore();
      const part = newPartName(IMAGE_ID, 1);
      await keep(store, await stage(RANDOM));
      await store.copy(orderOf(await stage(RANDOM), { part }));

      await store.remove([part]);

      expect(await store.listParts(-1)).toEqual([]);
      expect((await readBack(store)).equals(RANDOM)).toBe(true);
    });

    it("takes nothing there for success", async () => {
      const store = await createStore();

      await expect(store.remove([newPartName(IMAGE_ID, 1), KEY])).resolves.toBeUndefined();
    });

    it("lets the key be published again", async () => {
      const store = await createStore();
      await keep(store, await stage(Buffer.from("first")));
      await store.remove([KEY]);

      await keep(store, await stage(Buffer.from("second")));

      expect((await readBack(store)).toString()).toBe("second");
    });
  });

  describe("listParts()", () => {
    it("leaves out private names that were written just now, and all keys", async () => {
      const store = await createStore();
      const source = await stage(RANDOM);
      await keep(store, source);
      await store.copy(orderOf(source));

      expect(await store.listParts(3_600_000)).toEqual([]);
    });
  });

  describe("urlOf()", () => {
    it("gives every key a URL of its own", async () => {
      const store = await createStore();

      const urls = [store.urlOf(KEY), store.urlOf(storeKey(IMAGE_ID, 2))];

      expect(new Set(urls).size).toBe(2);
      expect(urls.every((url) => URL.canParse(url))).toBe(true);
    });
  });

  describe("check()", () => {
    it("says that the store works", async () => {
      const store = await createStore();

      expect(await store.check()).toMatchObject({ works: true });
    });
  });
}

/** Copies and publishes, as an import does. */
async function keep(
  store: Store,
  source: StagedSource,
  fields: Parameters<typeof orderOf>[1] = {},
  key = KEY,
): Promise<Copied> {
  const copy = await store.copy(orderOf(source, { key, ...fields }));
  await copy.publish();
  return copy;
}

async function readBack(store: Store, key = KEY): Promise<Buffer> {
  await using copy = await store.open(key);
  // One more than there is: the end must be found where it is.
  const buffer = Buffer.alloc(copy.sizeBytes + 1);
  return buffer.subarray(0, await readFully(copy, buffer, 0));
}

/** Cancels a copy as soon as it says that so many bytes are in it. */
async function cancelAfter(
  doneBytes: number,
  store: Store,
  source: StagedSource,
  part: string,
): Promise<void> {
  const controller = new AbortController();
  const reason = new Error("Enough");
  const copying = store.copy(
    orderOf(source, {
      part,
      signal: controller.signal,
      report: (soFar) => {
        if (soFar >= doneBytes) controller.abort(reason);
      },
    }),
  );
  await expect(copying).rejects.toBe(reason);
}
