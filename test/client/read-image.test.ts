import { open, readdir, readFile, rename, truncate, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough, Writable } from "node:stream";
import { buffer } from "node:stream/consumers";
import { sql } from "drizzle-orm";
import { describe, expect, onTestFinished, vi } from "vitest";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import { imageView, type ImageView } from "../../src/client/image-view.ts";
import { readImage, verifyImage, type ReadOptions } from "../../src/client/read-image.ts";
import { findImage, moveImage } from "../../src/db/image-records.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import { MIB } from "../support/mib.ts";
import { useS3Server } from "../support/s3-server.ts";
import { type NodeRig, onNode, openNode, someBytes } from "../support/node-rig.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);

/** A published image with a copy in each store. */
async function publish(rig: NodeRig, bytes: Buffer, stores = ["fast"]): Promise<ImportPlan> {
  const plan = await rig.saved(bytes, stores);
  await rig.activate(plan);
  return plan;
}

async function viewOf(imageId: string): Promise<ImageView> {
  return imageView(await catalogue.database.query((db) => findImage(db, imageId)));
}

async function read(rig: NodeRig, imageId: string, options: ReadOptions): Promise<void> {
  const { database, stores } = rig.dependencies;
  await readImage(database, stores, await viewOf(imageId), options);
}

async function verify(rig: NodeRig, imageId: string) {
  return verifyImage(rig.dependencies.database, rig.dependencies.stores, imageId);
}

/** Changes one byte of a copy without any record of it. */
async function corrupt(path: string): Promise<void> {
  const handle = await open(path, "r+");
  const { buffer: byte } = await handle.read(Buffer.alloc(1), 0, 1, 1000);
  byte[0] = (byte[0] ?? 0) ^ 1;
  await handle.write(byte, 0, 1, 1000);
  await handle.close();
}

describe("readImage() to a file", () => {
  it("writes the complete image, and no other file", async ({ rig }) => {
    const bytes = someBytes(2 * MIB + 5);
    const { image_id } = await publish(rig, bytes);
    const directory = makeTemporaryDirectory();

    await read(rig, image_id, { to: join(directory, "disk.raw") });

    expect(await readdir(directory)).toEqual(["disk.raw"]);
    expect((await readFile(join(directory, "disk.raw"))).equals(bytes)).toBe(true);
  });

  it("reports its progress after every block", async ({ rig }) => {
    const { image_id } = await publish(rig, someBytes(2 * MIB + 5));
    const progress: number[] = [];

    await read(rig, image_id, {
      to: join(makeTemporaryDirectory(), "disk.raw"),
      report: (doneBytes) => progress.push(doneBytes),
    });

    expect(progress).toEqual([MIB, 2 * MIB, 2 * MIB + 5]);
  });

  it("does not overwrite a file", async ({ rig }) => {
    const { image_id } = await publish(rig, someBytes(100));
    const directory = makeTemporaryDirectory();
    const path = join(directory, "disk.raw");
    await writeFile(path, "precious");

    const failure = await failureOf(read(rig, image_id, { to: path }));

    expect(failure).toMatchObject({
      code: "UnusableFile",
      message: `Cannot write "${path}": it exists already`,
    });
    expect(await readFile(path, "utf8")).toBe("precious");
    expect(await readdir(directory)).toEqual(["disk.raw"]);
  });

  it("fails when there is no directory for the file", async ({ rig }) => {
    const { image_id } = await publish(rig, someBytes(100));

    expect(await failureOf(read(rig, image_id, { to: "/no/such/disk.raw" }))).toMatchObject({
      code: "FileNotFound",
      message: 'There is no directory for "/no/such/disk.raw"',
    });
  });

  it.for([
    ["changed", corrupt],
    ["cut off", async (path: string) => truncate(path, 1000)],
    ["lengthened", async (path: string) => truncate(path, 3 * MIB)],
  ] as const)("shows no file when the stored bytes were %s", async ([_, spoil], { rig }) => {
    const plan = await publish(rig, someBytes(2 * MIB));
    await spoil(rig.copyPath(plan));
    const directory = makeTemporaryDirectory();

    const failure = await failureOf(read(rig, plan.image_id, { to: join(directory, "disk.raw") }));

    expect(failure).toMatchObject({
      code: "DigestMismatch",
      message: expect.stringContaining(
        `image "${plan.image_id}" in store "fast" differ from its sha512`,
      ) as unknown,
    });
    expect(await readdir(directory)).toEqual([]);
  });

  it("leaves nothing when it is aborted", async ({ rig }) => {
    const { image_id } = await publish(rig, someBytes(2 * MIB));
    const directory = makeTemporaryDirectory();
    const abort = new AbortController();
    const reason = new Error("by the test");
    const report = (): void => {
      abort.abort(reason);
    };

    const reading = read(rig, image_id, {
      to: join(directory, "disk.raw"),
      signal: abort.signal,
      report,
    });

    await expect(reading).rejects.toBe(reason);
    expect(await readdir(directory)).toEqual([]);
  });
});

describe("readImage() to a stream", () => {
  it("writes the complete image, and does not end the stream", async ({ rig }) => {
    const bytes = someBytes(2 * MIB + 5);
    const { image_id } = await publish(rig, bytes);
    const stream = new PassThrough();
    const reading = buffer(stream);

    await read(rig, image_id, { to: stream });

    expect(stream.writable).toBe(true);
    stream.end();
    expect((await reading).equals(bytes)).toBe(true);
  });

  it("waits for a reader that is slow", async ({ rig }) => {
    const bytes = someBytes(3 * MIB);
    const { image_id } = await publish(rig, bytes);
    const taken: Buffer[] = [];
    const slow = new Writable({
      write(chunk: Buffer, _encoding, done) {
        setTimeout(() => {
          taken.push(chunk);
          done();
        }, 20);
      },
    });
    const aheadBytes: number[] = [];
    const report = (doneBytes: number): void => {
      aheadBytes.push(doneBytes - Buffer.concat(taken).length);
    };

    await read(rig, image_id, { to: slow, report });

    expect(aheadBytes).toEqual([0, 0, 0]);
    expect(Buffer.concat(taken).equals(bytes)).toBe(true);
  });

  it("fails when its reader is gone", async ({ rig }) => {
    const { image_id } = await publish(rig, someBytes(3 * MIB));
    const broken = new Writable({
      write(_chunk, _encoding, done) {
        done(new Error("write EPIPE"));
      },
    });

    const failure = await failureOf(read(rig, image_id, { to: broken }));

    expect(failure).toMatchObject({
      code: "UnusableFile",
      message: "Cannot write the image: write EPIPE",
      hint: "Read the output to its end, or write to a file.",
    });
  });

  it("stops on an abort, also when its reader takes nothing", async ({ rig }) => {
    const { image_id } = await publish(rig, someBytes(3 * MIB));
    const abort = new AbortController();
    const reason = new Error("by the test");
    const stuck = new Writable({
      write() {
        abort.abort(reason);
      },
    });

    const reading = read(rig, image_id, { to: stuck, signal: abort.signal });

    await expect(reading).rejects.toBe(reason);
  });

  it("reports at its end that the stored bytes were changed", async ({ rig }) => {
    const plan = await publish(rig, someBytes(2 * MIB));
    await corrupt(rig.copyPath(plan));
    const stream = new PassThrough();
    stream.resume();

    const failure = await failureOf(read(rig, plan.image_id, { to: stream }));

    expect(failure).toMatchObject({ code: "DigestMismatch" });
  });
});

describe("readImage() of an image with a damaged copy", () => {
  /**
   * Makes an image in two stores, spoils the copy that is read first, and reads the image to a file
   * or stream.
   */
  async function readSpoilt(spoil: (path: string) => Promise<void>, isStream: boolean) {
    const rig = await openNode(catalogue);
    const bytes = someBytes(2 * MIB + 5);
    const plan = await publish(rig, bytes, ["fast", "slow"]);
    await spoil(rig.copyPath(plan, "fast"));
    const damaged: string[] = [];
    const onDamage = ({ store }: { readonly store: string }) => damaged.push(store);
    let found: Buffer;
    if (isStream) {
      const stream = new PassThrough();
      const reading = buffer(stream);
      await read(rig, plan.image_id, { to: stream, onDamage });
      stream.end();
      found = await reading;
    } else {
      const path = join(makeTemporaryDirectory(), "disk.raw");
      await read(rig, plan.image_id, { to: path, onDamage });
      found = await readFile(path);
    }
    return {
      isWhole: found.equals(bytes),
      damaged,
      locations: (await viewOf(plan.image_id)).locations,
    };
  }

  it.each([
    ["changed", corrupt],
    ["cut off", async (path: string) => truncate(path, 1000)],
    ["lengthened", async (path: string) => truncate(path, 3 * MIB)],
    ["removed", unlink],
  ])(
    "writes a file from another copy when the first was %s, and records the damage",
    async (_, spoil) => {
      expect(await readSpoilt(spoil, false)).toMatchObject({
        isWhole: true,
        damaged: ["fast"],
        locations: [{ damage: expect.any(String) as unknown }, { damage: null }],
      });
    },
  );

  it.each([
    ["changed", corrupt],
    ["cut off", async (path: string) => truncate(path, 1000)],
  ])("writes none of its bytes to a stream when it was %s", async (_, spoil) => {
    expect(await readSpoilt(spoil, true)).toMatchObject({ isWhole: true, damaged: ["fast"] });
  });

  it("reads the damaged copy last, and forgets the damage once it verifies", async ({ rig }) => {
    const plan = await publish(rig, someBytes(2 * MIB), ["fast", "slow"]);
    await corrupt(rig.copyPath(plan, "fast"));
    await verify(rig, plan.image_id);
    expect((await viewOf(plan.image_id)).locations).toMatchObject([
      { store: "fast", damage: "its sha512 differs from the recorded one" },
      { store: "slow", damage: null },
    ]);
    const damaged: unknown[] = [];
    await read(rig, plan.image_id, {
      to: join(makeTemporaryDirectory(), "disk.raw"),
      onDamage: (copy) => damaged.push(copy),
    });
    expect(damaged).toEqual([]);

    // This flips the same bit back.
    await corrupt(rig.copyPath(plan, "fast"));
    await verify(rig, plan.image_id);

    expect((await viewOf(plan.image_id)).locations).toMatchObject([
      { damage: null },
      { damage: null },
    ]);
  });

  it("reports that it has written wrong bytes to a stream", async ({ rig }) => {
    const plan = await publish(rig, someBytes(2 * MIB));
    await corrupt(rig.copyPath(plan));
    // Like a copy from before versions were recorded: its change is not visible before the read.
    await catalogue.execute(
      sql`UPDATE image_locations SET version = NULL WHERE image_id = ${plan.image_id}`,
    );
    const stream = new PassThrough();
    stream.resume();

    expect(await failureOf(read(rig, plan.image_id, { to: stream }))).toMatchObject({
      code: "DigestMismatch",
      message: expect.stringContaining(
        "The bytes that were written are not those of image",
      ) as unknown,
      hint: expect.stringContaining("Discard the output") as unknown,
    });
  });

  describe("that breaks off in the middle", () => {
    const server = useS3Server();

    it.each(["file", "stream"])(
      "continues from there with another copy to a %s",
      async (target) => {
        for (const [name, value] of Object.entries(server.env)) vi.stubEnv(name, value);
        onTestFinished(() => {
          vi.unstubAllEnvs();
        });
        const objects = {
          type: "s3",
          bucket: await server.makeBucket(),
          prefix: "",
          region: server.region,
          endpoint: server.endpoint,
          pathStyle: true,
          checksums: "when_supported",
          partSizeBytes: 5 * MIB,
          partsInFlight: 1,
        } as const;
        const rig = await openNode(catalogue, { stores: { a: objects, b: {} } });
        const bytes = someBytes(24 * MIB);
        const plan = await publish(rig, bytes, ["a", "b"]);
        let isBroken: Promise<void> | undefined;
        const report = (): void => {
          isBroken ??= server.kill();
        };
        const stream = new PassThrough();
        const reading = buffer(stream);
        const path = join(makeTemporaryDirectory(), "disk.raw");

        await read(rig, plan.image_id, { to: target === "file" ? path : stream, report });
        stream.end();

        const found = target === "file" ? await readFile(path) : await reading;
        expect(found.equals(bytes)).toBe(true);
        await isBroken;
        await server.start();
      },
    );
  });
});

describe("readImage()", () => {
  it("reads from another store when the first one is unreachable", async ({ rig }) => {
    const bytes = someBytes(100);
    const { image_id } = await publish(rig, bytes, ["fast", "slow"]);
    await rename(rig.stored("", "fast"), rig.stored("", "away"));
    const path = join(makeTemporaryDirectory(), "disk.raw");

    await read(rig, image_id, { to: path });

    expect(await readFile(path)).toEqual(bytes);
  });

  it("fails with the reason when no store can be read", async ({ rig }) => {
    const { image_id } = await publish(rig, someBytes(100));
    await rename(rig.stored("", "fast"), rig.stored("", "away"));

    const failure = await failureOf(read(rig, image_id, { to: new PassThrough() }));

    expect(failure).toMatchObject({ code: "StoreUnavailable" });
  });

  it("reports the copy as missing when its store has nothing under its key", async ({ rig }) => {
    const plan = await publish(rig, someBytes(100));
    await unlink(rig.copyPath(plan));

    const failure = await failureOf(read(rig, plan.image_id, { to: new PassThrough() }));

    expect(failure).toMatchObject({
      code: "CopyNotFound",
      message: `Cannot read the copy of image "${plan.image_id}" in store "fast": it is not in its store`,
    });
    expect((await viewOf(plan.image_id)).locations).toMatchObject([
      { damage: "it is not in its store" },
    ]);
  });

  it.for([
    ["uploading", async (rig: NodeRig) => rig.stage(someBytes(1))],
    ["saving", async (rig: NodeRig) => (await rig.saved(someBytes(1))).image_id],
    ["deactivated", deactivated],
  ] as const)("refuses an image that is %s", async ([status, make], { rig }) => {
    const imageId = await make(rig);

    const failure = await failureOf(read(rig, imageId, { to: new PassThrough() }));

    expect(failure).toMatchObject({
      code: "ImageConflict",
      message: `Cannot read image "${imageId}": it is ${status}, and only an active image is read`,
    });
  });
});

async function deactivated(rig: NodeRig): Promise<string> {
  const { image_id } = await publish(rig, someBytes(100));
  await catalogue.database.transaction((db) => moveImage(db, image_id, "deactivated"));
  return image_id;
}

describe("verifyImage()", () => {
  it("finds every copy as it was recorded", async ({ rig }) => {
    const plan = await publish(rig, someBytes(2 * MIB), ["fast", "slow"]);

    const found = { image_id: plan.image_id, ok: true, reason: null };
    expect(await verify(rig, plan.image_id)).toEqual([
      { ...found, store: "fast", url: `file://${rig.copyPath(plan, "fast")}` },
      { ...found, store: "slow", url: `file://${rig.copyPath(plan, "slow")}` },
    ]);
  });

  it.for([
    ["changed", corrupt, "its sha512 differs from the recorded one"],
    ["cut off", async (path: string) => truncate(path, 1000), "it has 1000 bytes, not 2000"],
    ["lengthened", async (path: string) => truncate(path, 2001), "it has 2001 bytes, not 2000"],
    ["removed", async (path: string) => unlink(path), "it is not in its store"],
  ] as const)(
    "reports a copy that was %s, and continues with the others",
    async ([_, spoil, reason], { rig }) => {
      const plan = await publish(rig, someBytes(2000), ["fast", "slow"]);
      await spoil(rig.copyPath(plan));

      expect(await verify(rig, plan.image_id)).toMatchObject([
        { store: "fast", ok: false, reason },
        { store: "slow", ok: true, reason: null },
      ]);
    },
  );

  it("reports a copy whose store is not configured here", async ({ rig }) => {
    const { image_id } = await publish(rig, someBytes(100), ["slow"]);
    const here = await openNode(catalogue, { stores: { fast: {} } });

    expect(await verify(here, image_id)).toMatchObject([
      {
        store: "slow",
        ok: false,
        reason: 'Cannot find store "slow": the configured stores are "fast"',
      },
    ]);
  });

  it("reads a deactivated image, too", async ({ rig }) => {
    const imageId = await deactivated(rig);

    expect(await verify(rig, imageId)).toMatchObject([{ store: "fast", ok: true }]);
  });

  it("reports its progress", async ({ rig }) => {
    const { image_id } = await publish(rig, someBytes(MIB + 1));
    const progress: number[] = [];
    const { database, stores } = rig.dependencies;

    await verifyImage(database, stores, image_id, (doneBytes) => progress.push(doneBytes));

    expect(progress).toEqual([MIB, MIB + 1]);
  });

  it.for([
    ["uploading", async (rig: NodeRig) => rig.stage(someBytes(1))],
    ["saving", async (rig: NodeRig) => (await rig.saved(someBytes(1))).image_id],
  ] as const)("refuses an image that is %s", async ([status, make], { rig }) => {
    const imageId = await make(rig);

    expect(await failureOf(verify(rig, imageId))).toMatchObject({
      code: "ImageConflict",
      message: `Cannot verify image "${imageId}": it is ${status}, and only a published image is verified`,
    });
  });
});
