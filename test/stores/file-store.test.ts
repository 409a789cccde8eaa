import { randomBytes } from "node:crypto";
import { writeFileSync } from "node:fs";
import type * as fsPromises from "node:fs/promises";
import {
  chmod,
  chown,
  copyFile,
  link,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  stat,
  symlink,
  truncate,
  utimes,
  writeFile,
} from "node:fs/promises";
import type { FileHandle } from "node:fs/promises";
import { join } from "node:path";
import { crc32 } from "node:zlib";
import { afterEach, beforeEach, describe, expect, it, onTestFinished, vi } from "vitest";
import { BandwidthLimit } from "../../src/bytes/bandwidth-limit.ts";
import { BLOCK_BYTES } from "../../src/bytes/block-size.ts";
import { hasErrorCode } from "../../src/bytes/system-error.ts";
import { newPartName } from "../../src/bytes/part-name.ts";
import { FileStore, type FileStoreOptions } from "../../src/stores/file-store.ts";
import { storeKey, type CopyOrder } from "../../src/stores/store.ts";
import { failureOf } from "../support/failure-of.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";
import { asUnprivileged } from "../support/unprivileged.ts";
import { MAY_MOUNT, mountAgain, mountReadOnlyVolume, mountSmallVolume } from "../support/volume.ts";
import { orderOf, stage, type StagedSource } from "./staged-source.ts";
import { itKeepsTheStoreContract } from "./store-contract.ts";

// The result of a clone is made up here; file-store-clones.test.ts has a file system that can
// clone.
vi.mock("node:fs/promises", async (importOriginal) => {
  const actual = await importOriginal<typeof fsPromises>();
  return { ...actual, copyFile: vi.fn(actual.copyFile) };
});

const IMAGE_ID = "6d2f0c1e-8a34-4b7e-9a51-0f6f3f1d2c3b";
const KEY = storeKey(IMAGE_ID, 1);
const RANDOM = randomBytes(BLOCK_BYTES);

const NEEDS_MOUNT = MAY_MOUNT ? "" : " (skipped: this user may not mount file systems)";

let directory: string;
let part: string;
beforeEach(() => {
  directory = makeTemporaryDirectory();
  part = newPartName(IMAGE_ID, 1);
});

afterEach(() => {
  vi.restoreAllMocks();
});

function openStore(options: Partial<FileStoreOptions> = {}): FileStore {
  return new FileStore({ name: "local", path: directory, zeroCopy: true, ...options });
}

/** Orders a copy that needs no bytes: the crc32 of the source is known. */
function knownOrder(source: StagedSource, fields: Partial<CopyOrder> = {}): CopyOrder {
  return orderOf(source, { part, crc32: source.crc32, ...fields });
}

async function inodeOf(path: string): Promise<number> {
  return (await stat(path)).ino;
}

async function permissionsOf(path: string): Promise<string> {
  return ((await stat(path)).mode & 0o777).toString(8);
}

describe.each([{ zeroCopy: true }, { zeroCopy: false }])(
  "FileStore, zero copy $zeroCopy",
  ({ zeroCopy }) => {
    itKeepsTheStoreContract(async () => openStore({ zeroCopy }));
  },
);

describe("FileStore.urlOf()", () => {
  it("names the file, whatever characters its path has", () => {
    expect(openStore({ path: "/srv/a b#c" }).urlOf(KEY)).toBe(`file:///srv/a%20b%23c/${KEY}`);
  });

  it("stays in its directory", () => {
    expect(openStore({ path: "/srv/fast" }).urlOf("../../etc/passwd")).toBe(
      "file:///srv/fast/passwd",
    );
  });
});

describe("FileStore.clone()", () => {
  it("clones where the file system can: shared blocks, and an inode of its own", async () => {
    // A clone looks like a copy from outside.
    vi.mocked(copyFile).mockImplementationOnce(async (from, to) => {
      await writeFile(to, await readFile(from));
    });
    const source = await stage(RANDOM);

    const copied = await openStore().clone(knownOrder(source));
    await copied?.publish();

    expect(copied).toMatchObject({
      crc32: source.crc32,
      shared: false,
      method: "reflink",
      writtenBytes: 0,
    });
    expect(await readdir(directory)).toEqual([KEY]);
    expect(await permissionsOf(join(directory, KEY))).toBe("440");
  });

  it("leaves nothing of a clone that failed in the middle", async () => {
    vi.mocked(copyFile).mockImplementationOnce(async (_, to) => {
      await writeFile(to, "half");
      throw Object.assign(new Error("EIO"), { code: "EIO" });
    });
    const source = await stage(RANDOM);

    const copied = await openStore().clone(knownOrder(source));

    expect(copied).toBeUndefined();
    expect(await readdir(directory)).toEqual([]);
  });
});

describe("FileStore.link()", () => {
  it("links the staged file, and makes it read-only for every user", async () => {
    const source = await stage(RANDOM);

    const copied = await openStore().link(knownOrder(source));

    expect(copied).toMatchObject({
      crc32: source.crc32,
      shared: true,
      method: "link",
      writtenBytes: 0,
    });
    expect(await inodeOf(join(directory, part))).toBe(await inodeOf(source.path));
    expect(await permissionsOf(source.path)).toBe("440");
  });

  it("makes the file read-only before it has a second name", async () => {
    const source = await stage(RANDOM);
    const modes: string[] = [];
    vi.spyOn(source.handle, "sync").mockImplementationOnce(async () => {
      modes.push(await permissionsOf(source.path), `${(await stat(source.path)).nlink} name`);
    });

    await openStore().link(knownOrder(source));

    expect(modes).toEqual(["440", "1 name"]);
  });

  it("publishes a link under its key, still the inode of the source", async () => {
    const source = await stage(RANDOM);
    const copy = await openStore().link(knownOrder(source));

    await copy?.publish();

    expect(await readdir(directory)).toEqual([KEY]);
    expect(await inodeOf(join(directory, KEY))).toBe(await inodeOf(source.path));
  });

  it.each([
    ["an empty file", async (path: string) => writeFile(path, "")],
    ["a link of its own", async (path: string, source: StagedSource) => link(source.path, path)],
  ])("takes the place of what an earlier attempt left: %s", async (_, leave) => {
    const source = await stage(RANDOM);
    await leave(join(directory, part), source);

    const copied = await openStore().link(knownOrder(source, { mayResume: true }));

    expect(copied?.method).toBe("link");
    expect((await stat(source.path)).nlink).toBe(2);
  });
});

describe.each(["clone", "link"] as const)("FileStore.%s()", (method) => {
  it.each<[string, Partial<FileStoreOptions>, Partial<CopyOrder>]>([
    ["zero copy is off", { zeroCopy: false }, {}],
    ["the crc32 of the source is unknown", {}, { crc32: undefined }],
  ])("makes no copy when %s", async (_, options, fields) => {
    const source = await stage(RANDOM);

    const copied = await openStore(options)[method](knownOrder(source, fields));

    expect(copied).toBeUndefined();
    expect(await readdir(directory)).toEqual([]);
    expect(await permissionsOf(source.path)).not.toBe("440");
  });

  it("makes no copy when an earlier attempt has copied bytes, and keeps them", async () => {
    const source = await stage(Buffer.concat([RANDOM, RANDOM]));
    await writeFile(join(directory, part), RANDOM);
    const order = knownOrder(source, { mayResume: true });
    const store = openStore();

    expect(await store[method](order)).toBeUndefined();
    expect(await store.copy(order)).toMatchObject({
      method: "copy",
      shared: false,
      writtenBytes: BLOCK_BYTES,
    });
  });

  it("makes no copy when the file is another user's", async ({ skip }) => {
    if (process.geteuid?.() !== 0) skip("only root can stage a file as another user");
    const staging = makeTemporaryDirectory();
    const source = await stage(RANDOM, staging);
    await chmod(staging, 0o755);
    await chmod(directory, 0o777);

    const copied = await asUnprivileged(async () => {
      return (await openStore()[method](knownOrder(source))) === undefined;
    });

    expect(copied).toBe(true);
    expect(await readdir(directory)).toEqual([]);
  });

  it.skipIf(!MAY_MOUNT)(
    `makes no copy of a file on another file system${NEEDS_MOUNT}`,
    async () => {
      const source = await stage(RANDOM, await mountSmallVolume(4));

      expect(await openStore()[method](knownOrder(source))).toBeUndefined();
      expect(await permissionsOf(source.path)).not.toBe("440");
    },
  );

  it.skipIf(!MAY_MOUNT)(
    `makes no copy of a file on another mount of its own file system${NEEDS_MOUNT}`,
    async () => {
      const source = await stage(RANDOM);
      const path = await mountAgain(directory);

      expect(await openStore({ path })[method](knownOrder(source))).toBeUndefined();
    },
  );
});

describe("FileStore.copy() through memory", () => {
  it("makes the copy read-only, also to its owner", async () => {
    await openStore().copy(orderOf(await stage(RANDOM), { part }));

    expect(await permissionsOf(join(directory, part))).toBe("440");
  });

  it("keeps holes as holes", async () => {
    const zeros = Buffer.alloc(16 * BLOCK_BYTES);
    const bytes = Buffer.concat([zeros, RANDOM, zeros]);

    const copied = await openStore().copy(orderOf(await stage(bytes), { part }));

    const { size, blocks } = await stat(join(directory, part));
    expect(copied.writtenBytes).toBe(BLOCK_BYTES);
    expect(size).toBe(bytes.length);
    expect(blocks * 512).toBeLessThan(2 * BLOCK_BYTES);
  });

  it("keeps to the bandwidth, which holes do not use", async () => {
    const limiter = new BandwidthLimit(1024 ** 3);
    const take = vi.spyOn(limiter, "take");
    const bytes = Buffer.concat([RANDOM, Buffer.alloc(4 * BLOCK_BYTES), Buffer.from("x")]);

    await openStore({ limiter }).copy(orderOf(await stage(bytes), { part }));

    expect(take.mock.calls.map(([takenBytes]) => takenBytes)).toEqual([BLOCK_BYTES, 1]);
  });

  it("never writes to a file of that name that it may not resume", async () => {
    await writeFile(join(directory, part), "theirs");

    const copying = openStore().copy(orderOf(await stage(RANDOM), { part }));

    await expect(copying).rejects.toHaveProperty("code", "EEXIST");
    expect(await readFile(join(directory, part), "utf8")).toBe("theirs");
  });

  it.each([
    ["a few bytes of the first block", RANDOM.subarray(0, 100), 3 * BLOCK_BYTES],
    ["one block", RANDOM, 2 * BLOCK_BYTES],
    ["one block and a half", Buffer.concat([RANDOM, RANDOM.subarray(0, 500_000)]), 2 * BLOCK_BYTES],
    [
      "one block and garbage in the second",
      Buffer.concat([RANDOM, Buffer.alloc(999, 7)]),
      2 * BLOCK_BYTES,
    ],
    ["the whole", Buffer.concat([RANDOM, RANDOM, RANDOM]), 0],
    ["more than the whole", Buffer.concat([RANDOM, RANDOM, RANDOM, RANDOM]), 0],
  ])("resumes from a part that holds %s", async (_, held, writtenBytes) => {
    const bytes = Buffer.concat([RANDOM, RANDOM, RANDOM]);
    const source = await stage(bytes);
    await writeFile(join(directory, part), held);

    const copied = await openStore().copy(orderOf(source, { part, mayResume: true }));

    expect(copied).toMatchObject({ crc32: crc32(bytes), writtenBytes });
    expect((await readFile(join(directory, part))).equals(bytes)).toBe(true);
  });

  it("shows by the crc32 that a part does not hold the source's bytes", async () => {
    const source = await stage(Buffer.concat([RANDOM, RANDOM]));
    await writeFile(join(directory, part), Buffer.alloc(BLOCK_BYTES, 7));

    const copied = await openStore().copy(orderOf(source, { part, mayResume: true }));

    const written = await readFile(join(directory, part));
    expect(copied.crc32).toBe(crc32(written));
    expect(copied.crc32).not.toBe(source.crc32);
  });

  it("uncovers nothing of a longer part where it leaves a hole", async () => {
    const bytes = Buffer.concat([RANDOM, Buffer.alloc(2 * BLOCK_BYTES)]);
    const source = await stage(bytes);
    await writeFile(join(directory, part), RANDOM);
    await writeFile(join(directory, part), Buffer.alloc(BLOCK_BYTES - 1, 7), { flag: "a" });

    await openStore().copy(orderOf(source, { part, mayResume: true }));

    expect((await readFile(join(directory, part))).equals(bytes)).toBe(true);
  });

  it("resumes from a part that was made read-only already", async () => {
    const source = await stage(Buffer.concat([RANDOM, RANDOM]));
    await writeFile(join(directory, part), RANDOM, { mode: 0o440 });
    await chmod(directory, 0o777);
    if (process.geteuid?.() === 0) await chown(join(directory, part), 65_534, 65_534);

    const copied = await asUnprivileged(() =>
      openStore().copy(orderOf(source, { part, mayResume: true })),
    );

    expect(copied).toMatchObject({ crc32: source.crc32, writtenBytes: BLOCK_BYTES });
  });

  it("never writes to an inode that has another name", async () => {
    const source = await stage(Buffer.concat([RANDOM, RANDOM]));
    const published = join(directory, KEY);
    await writeFile(published, "published");
    await link(published, join(directory, part));

    await openStore().copy(orderOf(source, { part, mayResume: true }));

    expect(await readFile(published, "utf8")).toBe("published");
    expect(await inodeOf(join(directory, part))).not.toBe(await inodeOf(published));
  });

  it("never writes through a symbolic link", async () => {
    const outside = join(makeTemporaryDirectory(), "outside");
    await writeFile(outside, "theirs");
    await symlink(outside, join(directory, part));

    await openStore().copy(orderOf(await stage(RANDOM), { part, mayResume: true }));

    expect(await readFile(outside, "utf8")).toBe("theirs");
  });

  it("discards a copy whose bytes may be lost", async () => {
    const source = await stage(RANDOM);
    const store = openStore();
    const everyHandle = Object.getPrototypeOf(source.handle) as FileHandle;
    vi.spyOn(everyHandle, "sync").mockRejectedValueOnce(
      Object.assign(new Error("EIO: i/o error, fsync"), { code: "EIO" }),
    );

    expect(await failureOf(store.copy(orderOf(source, { part })))).toMatchObject({
      code: "StoreUnavailable",
      retryable: true,
    });
    expect(await readdir(directory)).toEqual([]);
  });
});

describe.skipIf(!MAY_MOUNT)(`FileStore.copy() into little room${NEEDS_MOUNT}`, () => {
  it("fails before the first byte, naming what is needed and what is free", async () => {
    const path = await mountSmallVolume(1);
    const source = await stage(Buffer.alloc(2 * BLOCK_BYTES, 7));

    const failure = await failureOf(openStore({ path }).copy(orderOf(source, { part })));

    expect(failure).toMatchObject({
      code: "NoSpace",
      retryable: false,
      message: 'Cannot copy to store "local": 2 MiB are needed, 1 MiB are free',
    });
    expect((await stat(join(path, part))).size).toBe(0);
  });

  it("needs no room for holes", async () => {
    const path = await mountSmallVolume(1);
    const source = await stage(Buffer.alloc(1000, 7));
    await truncate(source.path, 8 * BLOCK_BYTES);

    const copied = await openStore({ path }).copy(
      orderOf(source, { part, sizeBytes: 8 * BLOCK_BYTES }),
    );

    expect(copied.method).toBe("copy");
    expect((await stat(join(path, part))).size).toBe(8 * BLOCK_BYTES);
  });

  it("needs no room for what is there already", async () => {
    const path = await mountSmallVolume(3);
    const bytes = Buffer.concat([RANDOM, RANDOM]);
    await writeFile(join(path, part), RANDOM);

    const copied = await openStore({ path }).copy(
      orderOf(await stage(bytes), { part, mayResume: true }),
    );

    expect(copied).toMatchObject({ crc32: crc32(bytes), writtenBytes: BLOCK_BYTES });
  });

  it("fails permanently when the room is gone before the end", async () => {
    const path = await mountSmallVolume(3);
    const source = await stage(Buffer.concat([RANDOM, randomBytes(BLOCK_BYTES)]));
    let isFilled = false;
    const fill = (): void => {
      if (isFilled) return;
      isFilled = true;
      fillVolume(path);
    };

    const failure = await failureOf(
      openStore({ path }).copy(orderOf(source, { part, report: fill })),
    );

    expect(failure).toMatchObject({
      code: "NoSpace",
      message: expect.stringContaining('Cannot use store "local": no space is left') as string,
    });
  });
});

/** Fills a volume. */
function fillVolume(path: string): void {
  try {
    writeFileSync(join(path, "filler"), Buffer.alloc(16 * BLOCK_BYTES, 7));
  } catch (error) {
    if (!hasErrorCode(error, "ENOSPC")) throw error;
  }
}

describe("FileStore in a missing directory", () => {
  it.each<[string, (store: FileStore) => Promise<unknown>]>([
    ["copy()", async (store) => store.copy(orderOf(await stage(RANDOM), { part }))],
    ["open()", async (store) => store.open(KEY)],
    ["find()", async (store) => store.find(KEY)],
    ["remove()", async (store) => store.remove([part, KEY])],
    ["listParts()", async (store) => store.listParts(0)],
  ])("%s fails as an unreachable store", async (_, work) => {
    const path = join(directory, "not-mounted");

    expect(await failureOf(work(openStore({ path })))).toMatchObject({
      code: "StoreUnavailable",
      retryable: true,
      message: expect.stringContaining(
        'Cannot use store "local": the system reports an error',
      ) as string,
    });
  });
});

describe("FileStore in a directory that is missing at publish()", () => {
  it("fails as an unreachable store", async () => {
    const copy = await openStore().copy(orderOf(await stage(RANDOM)));
    await rename(directory, join(makeTemporaryDirectory(), "elsewhere"));

    expect(await failureOf(copy.publish())).toMatchObject({ code: "StoreUnavailable" });
  });
});

describe("FileStore in a directory that this user may not write", () => {
  beforeEach(async () => {
    await writeFile(join(directory, part), RANDOM);
    await chmod(directory, 0o555);
  });

  it.each<[string, (store: FileStore, source: StagedSource) => Promise<unknown>]>([
    ["copy()", async (store, source) => store.copy(orderOf(source))],
    ["remove()", async (store) => store.remove([part])],
  ])("%s fails permanently", async (_, work) => {
    const source = await stage(RANDOM);

    const failure = await asUnprivileged(() => failureOf(work(openStore(), source)));

    expect(failure).toMatchObject({
      code: "PermissionDenied",
      retryable: false,
      message: expect.stringContaining('Cannot use store "local": permission denied') as string,
    });
  });
});

describe("FileStore.copy() on a disk that breaks under way", () => {
  it("discards the part when a sync beside the writing fails, even if the last one would succeed", async () => {
    const source = await stage(Buffer.alloc(130 * BLOCK_BYTES, 7));
    const path = join(directory, part);
    const failure = Object.assign(new Error("disk broke"), { code: "EIO" });
    let syncs = 0;
    const { prototype } = source.handle.constructor as { prototype: FileHandle };
    const sync = vi.spyOn(prototype, "sync").mockImplementation(async () => {
      syncs += 1;
      if (syncs === 1) throw failure;
    });
    onTestFinished(() => {
      sync.mockRestore();
    });

    const failed = await failureOf(openStore().copy(orderOf(source, { part })));

    expect(failed).toMatchObject({ code: "StoreUnavailable" });
    await expect(stat(path)).rejects.toThrow("ENOENT");
  });
});

describe("FileStore.copy(), published", () => {
  it("fails permanently when this user may not write there any more", async () => {
    const copy = await openStore().copy(orderOf(await stage(RANDOM)));
    await chmod(directory, 0o555);

    const failure = await asUnprivileged(() => failureOf(copy.publish()));

    expect(failure).toMatchObject({ code: "PermissionDenied", retryable: false });
  });

  it("leaves the file read-only", async () => {
    const copy = await openStore().copy(orderOf(await stage(RANDOM), { part }));

    await copy.publish();

    expect(await permissionsOf(join(directory, KEY))).toBe("440");
  });
});

describe("FileStore.open()", () => {
  it("does not follow a symbolic link", async () => {
    const outside = join(makeTemporaryDirectory(), "outside");
    await writeFile(outside, "secret");
    await symlink(outside, join(directory, KEY));

    await expect(openStore().open(KEY)).rejects.toThrow("it is a symbolic link");
  });
});

describe("FileStore with a mode", () => {
  const mode = 0o444;

  it("gives it to a link", async () => {
    await openStore({ mode }).link(knownOrder(await stage(RANDOM)));

    expect(await permissionsOf(join(directory, part))).toBe("444");
  });

  it("gives it to a clone", async () => {
    vi.mocked(copyFile).mockImplementationOnce(async (from, to) => {
      await writeFile(to, await readFile(from));
    });

    await openStore({ mode }).clone(knownOrder(await stage(RANDOM)));

    expect(await permissionsOf(join(directory, part))).toBe("444");
  });

  it("gives it to a copy, also a published one", async () => {
    const copy = await openStore({ mode }).copy(orderOf(await stage(RANDOM), { part }));

    await copy.publish();

    expect(await permissionsOf(join(directory, KEY))).toBe("444");
  });
});

const IS_ROOT = process.geteuid?.() === 0;
const NEEDS_ROOT = IS_ROOT ? "" : " (skipped: only root may give files away)";

describe("FileStore with an owner", () => {
  const owner = { uid: 64_055, gid: 64_056 };

  describe.skipIf(!IS_ROOT)(`that it may give files to${NEEDS_ROOT}`, () => {
    it.each(["link", "copy"] as const)("gives that owner a %s, read-only", async (method) => {
      const source = await stage(RANDOM);

      const copied = await openStore({ owner })[method](knownOrder(source));

      const { uid, gid } = await stat(join(directory, part));
      expect(copied?.method).toBe(method);
      expect({ uid, gid }).toEqual(owner);
      expect(await permissionsOf(join(directory, part))).toBe("440");
    });

    it("resumes a part that belongs to that owner already", async () => {
      const source = await stage(Buffer.concat([RANDOM, RANDOM]));
      await writeFile(join(directory, part), RANDOM, { mode: 0o440 });
      await chown(join(directory, part), owner.uid, owner.gid);

      const copied = await openStore({ owner }).copy(orderOf(source, { part, mayResume: true }));

      expect(copied).toMatchObject({ crc32: source.crc32, writtenBytes: BLOCK_BYTES });
    });
  });

  describe("that it may not give files to", () => {
    it("fails before the first byte", async () => {
      const source = await stage(RANDOM);
      await chmod(directory, 0o777);

      const failure = await asUnprivileged(() =>
        failureOf(openStore({ owner }).copy(orderOf(source, { part }))),
      );

      expect(failure).toMatchObject({
        code: "PermissionDenied",
        message:
          'Cannot write to store "local": it is configured with owner 64055:64056, and this process may not change a file\'s owner',
      });
      expect(await readdir(directory)).toEqual([]);
    });

    it("leaves the staged file as it is", async () => {
      const source = await stage(RANDOM);
      const before = await permissionsOf(source.path);
      await chmod(directory, 0o777);

      await asUnprivileged(() => failureOf(openStore({ owner }).link(knownOrder(source))));

      expect(await permissionsOf(source.path)).toBe(before);
    });

    it("reports it in a look, unless it is only read", async () => {
      await chmod(directory, 0o777);

      const [writable, readable] = await asUnprivileged(async () => [
        await openStore({ owner }).check(),
        await openStore({ owner }).check("readable"),
      ]);

      expect([writable, readable]).toEqual([
        {
          works: false,
          reason:
            'Cannot write to store "local": it is configured with owner 64055:64056, and this process may not change a file\'s owner',
        },
        { works: true, freeBytes: expect.any(Number) as number },
      ]);
    });
  });
});

describe("FileStore.listParts()", () => {
  it("lists parts that were not written for a while, and nothing else", async () => {
    const recent = newPartName(IMAGE_ID, 1);
    const minuteAgo = new Date(Date.now() - 60_000);
    for (const name of [part, recent, KEY, "lost+found.part"]) {
      await writeFile(join(directory, name), "");
      if (name !== recent) await utimes(join(directory, name), minuteAgo, minuteAgo);
    }

    expect(await openStore().listParts(50_000)).toEqual([part]);
  });
});

describe("FileStore.remove()", () => {
  it("stays in its directory", async () => {
    const outside = join(directory, "outside");
    const path = join(directory, "store");
    await mkdir(path);
    await writeFile(outside, "theirs");

    await openStore({ path }).remove(["../outside"]);

    expect(await readFile(outside, "utf8")).toBe("theirs");
  });
});

describe("FileStore.check()", () => {
  it("reports how much is free", async () => {
    expect(await openStore().check()).toEqual({
      works: true,
      freeBytes: expect.any(Number) as number,
    });
  });

  it("reports that the directory does not exist", async () => {
    await rm(directory, { recursive: true });

    expect(await openStore().check()).toEqual({
      works: false,
      reason: expect.stringContaining("ENOENT") as string,
    });
  });

  it("reports that it is not a directory", async () => {
    const path = join(directory, "file");
    await writeFile(path, "", { mode: 0o777 });
    await chmod(path, 0o777);

    expect(await openStore({ path }).check()).toEqual({ works: false, reason: "not a directory" });
  });

  it.skipIf(!MAY_MOUNT)(`reports that nothing can be written there${NEEDS_MOUNT}`, async () => {
    const path = await mountReadOnlyVolume();

    expect(await openStore({ path }).check()).toEqual({
      works: false,
      reason: expect.stringContaining("EROFS") as string,
    });
  });

  it.skipIf(!MAY_MOUNT)(`needs nothing writable to be readable${NEEDS_MOUNT}`, async () => {
    const path = await mountReadOnlyVolume();

    expect(await openStore({ path }).check("readable")).toMatchObject({ works: true });
  });
});

describe("FileStore.check(), as a trial", () => {
  it("writes a file, and leaves nothing", async () => {
    const write = vi.spyOn(await everyHandle(), "write");

    const health = await openStore().check("trial");

    expect(health).toEqual({ works: true, freeBytes: expect.any(Number) as number });
    expect(write.mock.calls.length).toBeGreaterThan(0);
    expect(await readdir(directory)).toEqual([]);
  });

  it("reports a file that reads back differently, and leaves nothing", async () => {
    vi.spyOn(await everyHandle(), "sync").mockImplementationOnce(async function (this: FileHandle) {
      await this.write("changed", 0);
    });

    const health = await openStore().check("trial");

    expect(health).toEqual({
      works: false,
      reason: "a file reads back differently from what was written",
    });
    expect(await readdir(directory)).toEqual([]);
  });

  it("reports that bytes may be lost, and leaves nothing", async () => {
    vi.spyOn(await everyHandle(), "sync").mockRejectedValueOnce(new Error("EIO: i/o error, fsync"));

    const health = await openStore().check("trial");

    expect(health).toEqual({ works: false, reason: "EIO: i/o error, fsync" });
    expect(await readdir(directory)).toEqual([]);
  });

  it.skipIf(!MAY_MOUNT)(`reports that there is no room${NEEDS_MOUNT}`, async () => {
    const path = await mountSmallVolume(1);
    fillVolume(path);

    expect(await openStore({ path }).check()).toMatchObject({ works: true });
    expect(await openStore({ path }).check("trial")).toEqual({
      works: false,
      reason: expect.stringContaining("ENOSPC") as string,
    });
    expect(await readdir(path)).toEqual(["filler"]);
  });
});

/** The prototype of all open files. */
async function everyHandle(): Promise<FileHandle> {
  const { handle } = await stage(Buffer.from("x"));
  return Object.getPrototypeOf(handle) as FileHandle;
}
