import { randomBytes } from "node:crypto";
import { mkdir, readFile, stat, statfs } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { FileStore } from "../../src/stores/file-store.ts";
import { storeKey } from "../../src/stores/store.ts";
import { mountCloningVolume, WHY_NO_CLONES } from "../support/cloning-volume.ts";
import { orderOf, stage } from "./staged-source.ts";
import { itKeepsTheStoreContract } from "./store-contract.ts";
import { MIB } from "../support/mib.ts";

const KEY = storeKey("6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b", 1);

async function openStoreOn(volume: string): Promise<FileStore> {
  await mkdir(join(volume, "store"));
  return new FileStore({ name: "cloning", path: join(volume, "store"), zeroCopy: true });
}

async function freeBytesOf(volume: string): Promise<number> {
  const { bavail, bsize } = await statfs(volume);
  return bavail * bsize;
}

const why = WHY_NO_CLONES === undefined ? "" : ` (no btrfs can be mounted: ${WHY_NO_CLONES})`;

describe.skipIf(WHY_NO_CLONES !== undefined)(
  `FileStore on a file system that can clone${why}`,
  () => {
    itKeepsTheStoreContract(async () => openStoreOn(await mountCloningVolume()));

    it("shares the blocks of the staged file, under a read-only inode of its own", async () => {
      const volume = await mountCloningVolume();
      const store = await openStoreOn(volume);
      const bytes = randomBytes(32 * MIB);
      const source = await stage(bytes, volume);
      await source.handle.sync();
      const freeBefore = await freeBytesOf(volume);

      const copy = await store.clone(orderOf(source, { crc32: source.crc32 }));
      await copy?.publish();

      const path = join(volume, "store", KEY);
      const published = await stat(path);
      expect(copy).toMatchObject({ method: "reflink", shared: false, writtenBytes: 0 });
      expect(published.ino).not.toBe((await source.handle.stat()).ino);
      expect(published.mode & 0o777).toBe(0o440);
      expect((await readFile(path)).equals(bytes)).toBe(true);
      expect(freeBefore - (await freeBytesOf(volume))).toBeLessThan(8 * MIB);
    });
  },
);
