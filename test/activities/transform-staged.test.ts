import { createHash } from "node:crypto";
import { link, mkdir, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { pathToFileURL } from "node:url";
import { CancelledFailure } from "@temporalio/common";
import { describe, expect, onTestFinished, vi } from "vitest";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import type { ByteProgress } from "../../src/activities/progress.ts";
import { findImage } from "../../src/db/image-records.ts";
import { ImportError } from "../../src/domain/import-failure.ts";
import { DoubtfulFailure } from "../../src/transforms/program-failure.ts";
import type { Transform, TransformImage, TransformWork } from "../../src/transforms/transform.ts";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { breakDatabase, nowAndThen, type BrokenDatabase } from "../support/broken-database.ts";
import { failureOf } from "../support/failure-of.ts";
import { MIB } from "../support/mib.ts";
import {
  activityEnvironment,
  type NodeRig,
  onNode,
  openNode,
  runStep,
  someBytes,
  WAYS_TO_LOSE_AN_IMAGE,
} from "../support/node-rig.ts";
import { PATIENCE } from "../support/patience.ts";
import { saveOrder, storeOrder } from "../support/step-orders.ts";
import { MAY_MOUNT, mountSmallVolume } from "../support/volume.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);
const needsMount = MAY_MOUNT ? "" : " (skipped: this user may not mount file systems)";

/** The product: the source with a mark at its end. */
function marked(bytes: Buffer, mark = "!"): Buffer {
  return Buffer.concat([bytes, Buffer.from(mark)]);
}

async function writeMarked({ sourcePath, productPath }: TransformWork, mark = "!"): Promise<void> {
  await writeFile(productPath, marked(await readFile(sourcePath), mark), { flag: "wx" });
}

/** Appends a mark, sets a property, and counts its runs. */
function marking(name = "mark", mark = "!") {
  const seen: TransformImage[] = [];
  const transform: Transform = {
    name,
    async run(work) {
      seen.push(work.image);
      await writeMarked(work, mark);
      return { hasProduct: true, properties: { [`by_${name}`]: "yes" }, tool: "marker 1" };
    },
  };
  return { ...transform, seen };
}

function running(run: Transform["run"], more: Partial<Transform> = {}): Transform {
  return { name: "it", run, ...more };
}

/** Keeps a note outside of the staging area, by image and import. */
function noting() {
  const notes = new Set<string>();
  const noteOf = ({ id, epoch }: TransformImage) => `${id} ${epoch}`;
  const transform: Transform = {
    name: "note",
    async run({ image }) {
      notes.add(noteOf(image));
      return { hasProduct: false };
    },
    async undo(image) {
      notes.delete(noteOf(image));
    },
  };
  return { ...transform, notes };
}

async function productBytes({ image_id }: ImportPlan, product: number): Promise<Buffer> {
  return readFile((await catalogue.staged(image_id, product))?.path ?? "no row");
}

describe("transformStaged()", () => {
  it("publishes the product beside the upload, which stays as it is", async () => {
    const bytes = someBytes(2 * MIB + 5);
    const transform = marking();
    const rig = await openNode(catalogue, { transforms: [transform] });
    const plan = await rig.stageAndClaim(bytes);
    const before = await catalogue.staged(plan.image_id);

    const transformed = await rig.transform(plan, "mark", { roles: ["member"] });

    expect(transformed).toEqual({
      product: 1,
      disk_format: "raw",
      properties: { by_mark: "yes" },
      tool: "marker 1",
    });
    expect(await productBytes(plan, 1)).toEqual(marked(bytes));
    expect(await readFile(rig.staged(plan.image_id))).toEqual(bytes);
    expect(await catalogue.staged(plan.image_id)).toEqual(before);
    expect(await catalogue.staged(plan.image_id, 1)).toMatchObject({
      state: "whole",
      epoch: plan.epoch,
      ours: true,
      sizeBytes: bytes.length + 1,
      checksum: null,
    });
    expect(await rig.names("staging")).toHaveLength(2);
    expect(transform.seen).toEqual([
      {
        id: plan.image_id,
        epoch: plan.epoch,
        diskFormat: "raw",
        containerFormat: "bare",
        roles: ["member"],
      },
    ]);
    expect((await catalogue.task(plan.task_id)).status).toBe("processing");
  });

  it("transforms a file that the user put into staging, and leaves it as it is", async () => {
    const bytes = someBytes(100);
    const rig = await openNode(catalogue, { transforms: [marking()] });
    const plan = await rig.adoptAndClaim(bytes);
    const before = await catalogue.staged(plan.image_id);

    await rig.transform(plan, "mark");

    expect(await productBytes(plan, 1)).toEqual(marked(bytes));
    expect(await readFile(before?.path ?? "")).toEqual(bytes);
    expect(await catalogue.staged(plan.image_id)).toEqual(before);
  });

  it("keeps the work of a run while the catalogue is unreachable now and then", async () => {
    const bytes = someBytes(MIB);
    let broken: BrokenDatabase | undefined;
    let runs = 0;
    const transform = running(async (work) => {
      runs += 1;
      await writeMarked(work);
      broken = breakDatabase(catalogue.database, nowAndThen);
      return { hasProduct: true };
    });
    const rig = await openNode(catalogue, { transforms: [transform] });
    const plan = await rig.stageAndClaim(bytes);

    expect(await rig.transform(plan, "it")).toMatchObject({ product: 1 });
    expect(runs).toBe(1);
    expect(broken?.failures()).toBeGreaterThan(1);
    broken?.mend();
    expect(await productBytes(plan, 1)).toEqual(marked(bytes));
  });

  it("ends its wait for the catalogue when it is cancelled", async () => {
    const environment = activityEnvironment();
    const transform = running(async (work) => {
      await writeMarked(work);
      breakDatabase(catalogue.database, (call) => {
        if (call === 1) environment.cancel();
        return true;
      });
      return { hasProduct: true };
    });
    const rig = await openNode(catalogue, { transforms: [transform] });
    const plan = await rig.stageAndClaim(someBytes(100));

    await expect(rig.transform(plan, "it", {}, environment)).rejects.toBeInstanceOf(
      CancelledFailure,
    );
  });

  it("resumes from the earlier product, and removes it", async () => {
    const bytes = someBytes(100);
    const rig = await openNode(catalogue, { transforms: [marking("one"), marking("two", "?")] });
    const plan = await rig.stageAndClaim(bytes);
    const { product } = await rig.transform(plan, "one");

    expect(await rig.transform(plan, "two", { product })).toMatchObject({ product: 2 });
    expect(await productBytes(plan, 2)).toEqual(marked(bytes, "!?"));
    expect(await catalogue.staged(plan.image_id, 1)).toBeUndefined();
    expect(await rig.names("staging")).toHaveLength(2);
  });

  it("leaves nothing when there is nothing to do", async () => {
    const rig = await openNode(catalogue, { transforms: [running(async () => undefined)] });
    const plan = await rig.stageAndClaim(someBytes(100));

    const transformed = await rig.transform(plan, "it");

    expect(transformed).toEqual({ product: 0, disk_format: "raw", properties: {} });
    expect(await rig.names("staging")).toEqual([plan.image_id]);
    expect(await catalogue.staged(plan.image_id, 1)).toBeUndefined();
  });

  it("changes only format and properties when it returns no product, and removes its unused file", async () => {
    const transform = running(async (work) => {
      await writeMarked(work);
      return { hasProduct: false, diskFormat: "qcow2", properties: { a: "1" } };
    });
    const rig = await openNode(catalogue, { transforms: [transform] });
    const plan = await rig.stageAndClaim(someBytes(100));

    const transformed = await rig.transform(plan, "it");

    expect(transformed).toEqual({ product: 0, disk_format: "qcow2", properties: { a: "1" } });
    expect(await rig.names("staging")).toEqual([plan.image_id]);
  });

  it("passes to the next transform the format of the earlier product", async () => {
    const converting = running(async (work) => {
      await writeMarked(work);
      return { hasProduct: true, diskFormat: "vmdk" };
    });
    const then = marking("then");
    const rig = await openNode(catalogue, { transforms: [converting, then] });
    const plan = await rig.stageAndClaim(someBytes(100));

    const { product, disk_format } = await rig.transform(plan, "it");
    const second = await rig.transform(plan, "then", { product, disk_format });

    expect(then.seen).toMatchObject([{ diskFormat: "vmdk" }]);
    expect(second.disk_format).toBe("vmdk");
  });

  it("returns the same when it is run again, without running the transform", async () => {
    const [one, two] = [marking("one"), marking("two")];
    const rig = await openNode(catalogue, { transforms: [one, two] });
    const plan = await rig.stageAndClaim(someBytes(100));
    await rig.transform(plan, "one");
    const first = await rig.transform(plan, "two", { product: 1 });
    const before = await rig.snapshot(plan);

    expect(await rig.transform(plan, "two", { product: 1 })).toEqual(first);
    expect(two.seen).toHaveLength(1);
    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it("makes the product again when a reset run left another transform's product", async () => {
    const bytes = someBytes(100);
    const nothing = running(async () => undefined);
    const rig = await openNode(catalogue, { transforms: [nothing, marking()] });
    const plan = await rig.stageAndClaim(bytes);
    await rig.transform(plan, "mark");

    expect(await rig.transform(plan, "it")).toMatchObject({ product: 0 });
    expect(await rig.transform(plan, "mark")).toMatchObject({ product: 1 });
    expect(await productBytes(plan, 1)).toEqual(marked(bytes));
    expect(await rig.names("staging")).toHaveLength(2);
  });

  it("makes its product beside that of a lost import, which the sweeper removes", async () => {
    const rig = await openNode(catalogue, { transforms: [marking()] });
    const lost = await rig.stageAndClaim(someBytes(100));
    await rig.transform(lost, "mark");
    const [left] = (await rig.names("staging")).filter((name) => name !== lost.image_id);
    await rig.release(lost);
    const plan = await rig.claim(lost.image_id);

    await rig.transform(plan, "mark");

    expect(await rig.names("staging")).toContain(left);
    await runStep(() => rig.cleanUp.sweepNode());
    expect(await rig.names("staging")).not.toContain(left);
    expect(await rig.names("staging")).toHaveLength(2);
    expect(await catalogue.staged(plan.image_id, 1)).toMatchObject({ epoch: plan.epoch });
  });

  it("reports its progress, with a total of its own", async () => {
    const beats: ByteProgress[] = [];
    const beaten = async (doneBytes: number) =>
      vi.waitUntil(() => beats.find((beat) => beat.doneBytes === doneBytes), PATIENCE);
    const transform = running(async ({ report, sizeBytes }) => {
      report(50);
      await beaten(50);
      report(sizeBytes * 5, sizeBytes * 10);
      await beaten(500);
      return undefined;
    });
    const rig = await openNode(catalogue, { transforms: [transform] });
    const plan = await rig.stageAndClaim(someBytes(100));
    const environment = activityEnvironment();
    environment.on("heartbeat", (beat: ByteProgress) => beats.push(beat));

    await rig.transform(plan, "it", {}, environment);

    const about = { step: "transform", transform: "it" };
    expect(await beaten(50)).toEqual({ ...about, doneBytes: 50, totalBytes: 100 });
    expect(await beaten(500)).toEqual({ ...about, doneBytes: 500, totalBytes: 1000 });
  });
});

describe("the product of transformStaged()", () => {
  it("is verified, digested, copied and published like staged data, and the format and properties with it", async () => {
    const bytes = someBytes(MIB);
    const rig = await openNode(catalogue, { transforms: [marking()] });
    const plan = await rig.stageAndClaim(bytes);
    const { product, properties } = await rig.transform(plan, "mark");
    const size = bytes.length + 1;

    const verified = await rig.verify(plan, { product });
    const order = { image_id: plan.image_id, uri: plan.uri, task_id: plan.task_id, size, product };
    const digests = await runStep(() => rig.bytes.digestStaged(order));
    const copy = await runStep(() => rig.bytes.storeImage({ ...storeOrder(plan, size), product }));
    await rig.control.saveImage(saveOrder(plan, digests, [copy]));
    const { image_id, epoch, task_id } = plan;
    const activation = { image_id, epoch, task_id, disk_format: "vhd", properties } as const;
    await runStep(() => rig.control.activateImage(activation));

    expect(verified).toMatchObject({ size, digests: null, detected_format: "raw" });
    expect(digests.osHashValue).toBe(createHash("sha512").update(marked(bytes)).digest("hex"));
    expect(await readFile(rig.copyPath(plan))).toEqual(marked(bytes));
    const { image, properties: set } = await catalogue.database.query((db) =>
      findImage(db, image_id),
    );
    expect(image).toMatchObject({ status: "active", diskFormat: "vhd", sizeBytes: size });
    expect(set).toEqual({ by_mark: "yes" });
  });

  it("is linked by one store where that is safe, which does not touch the upload", async () => {
    const bytes = someBytes(MIB);
    const rig = await openNode(catalogue, {
      transforms: [marking()],
      stores: { fast: { zeroCopy: true } },
    });
    const plan = await rig.stageAndClaim(bytes);
    const { mode } = await stat(rig.staged(plan.image_id));
    const { product } = await rig.transform(plan, "mark");
    const order = { ...storeOrder(plan, bytes.length + 1), product };
    // Only bytes with digests are linked: nothing else shows whether the store has the same bytes.
    await runStep(() => rig.bytes.digestStaged(order));

    const copy = await runStep(() => rig.bytes.storeImage(order));

    expect(copy.method).toBe("link");
    const row = await catalogue.staged(plan.image_id, 1);
    expect(row).toMatchObject({ linkedStore: "fast" });
    expect((await stat(row?.path ?? "")).nlink).toBe(2);
    const staged = await stat(rig.staged(plan.image_id));
    expect([staged.nlink, staged.mode]).toEqual([1, mode]);
    // The fingerprint was taken again with the link: nothing is hashed, nothing has changed.
    expect(await rig.verify(plan, { product })).toMatchObject({ size: bytes.length + 1 });
  });

  it("is refused when it changed", async () => {
    const rig = await openNode(catalogue, { transforms: [marking()] });
    const plan = await rig.stageAndClaim(someBytes(100));
    const { product } = await rig.transform(plan, "mark");
    await writeFile((await catalogue.staged(plan.image_id, 1))?.path ?? "", someBytes(101));

    expect(await failureOf(rig.verify(plan, { product }))).toMatchObject({
      code: "StagedDataChanged",
    });
  });

  it("is not the staged data of another image", async () => {
    const rig = await openNode(catalogue, { transforms: [marking()] });
    const plan = await rig.stageAndClaim(someBytes(100));
    await rig.transform(plan, "mark");
    const uri = pathToFileURL((await catalogue.staged(plan.image_id, 1))?.path ?? "").href;
    const thief = await rig.claim(await catalogue.newImage(), { uri });

    expect(await failureOf(rig.verify(thief))).toMatchObject({ code: "StagedDataRefused" });
  });

  it("is missing for a step when no transform made it", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(100));

    expect(await failureOf(rig.verify(plan, { product: 1 }))).toMatchObject({
      code: "StagedDataMissing",
    });
  });

  it("is removed with the upload when the image is unstaged", async () => {
    const rig = await openNode(catalogue, { transforms: [marking()] });
    const plan = await rig.stageAndClaim(someBytes(100));
    await rig.transform(plan, "mark");

    await runStep(() => rig.cleanUp.unstageImage(plan));

    expect(await rig.names("staging")).toEqual([]);
    expect(await catalogue.staged(plan.image_id, 1)).toBeUndefined();
    expect(await catalogue.staged(plan.image_id)).toBeUndefined();
  });

  it("is removed when the image is deleted", async () => {
    const rig = await openNode(catalogue, { transforms: [marking()] });
    const plan = await rig.stageAndClaim(someBytes(100));
    await rig.transform(plan, "mark");
    await rig.beginDeletion(plan.image_id);
    await rig.release(plan);

    await runStep(() => rig.cleanUp.removeImageBytes(plan.image_id));

    expect(await rig.names("staging")).toEqual([]);
    expect(await rig.control.finishDeletion(plan.image_id)).toBe(true);
  });
});

describe("transformStaged() that fails", () => {
  it.each<[string, unknown, object]>([
    [
      "throws",
      new Error("this image is not for us"),
      { code: "TransformFailed", message: 'The transform "it" failed: this image is not for us' },
    ],
    [
      "throws what may pass",
      Object.assign(new Error("the inventory is unreachable"), { retryable: true }),
      {
        code: "TransformUnavailable",
        retryable: true,
        message: 'The transform "it" failed: the inventory is unreachable',
      },
    ],
    [
      "throws a failure of the table",
      new ImportError("UnsafeImage", "It names another file"),
      { code: "UnsafeImage", message: "It names another file" },
    ],
    [
      "runs out of space",
      Object.assign(new Error("ENOSPC: no space left"), { code: "ENOSPC" }),
      { code: "NoSpace" },
    ],
  ])("names what it %s, and leaves no bytes", async (_, error, failure) => {
    const transform = running(async (work) => {
      await writeMarked(work);
      throw error;
    });
    const rig = await openNode(catalogue, { transforms: [transform] });
    const plan = await rig.stageAndClaim(someBytes(100));

    expect(await failureOf(rig.transform(plan, "it"))).toMatchObject(failure);
    expect(await rig.names("staging")).toEqual([plan.image_id]);
  });

  it.each(["EIO", "ESTALE", "EMFILE"])("is tried again after %s", async (code) => {
    const error = Object.assign(new Error(`${code}: of the system`), { code });
    const rig = await openNode(catalogue, { transforms: [running(() => Promise.reject(error))] });
    const plan = await rig.stageAndClaim(someBytes(100));

    expect(await failureOf(rig.transform(plan, "it"))).toMatchObject({
      code: "TransformUnavailable",
      message: `The transform "it" failed: ${code}: of the system`,
    });
  });

  it("fails permanently when its program is killed in each of three attempts", async () => {
    const lasting = new ImportError("ConversionFailed", "qemu-img convert was killed by SIGKILL");
    const failures: unknown[] = [];
    const transform = running(async () => {
      // Other failures do not count.
      if (failures.length === 1) throw new ImportError("TransformUnavailable", "It is unreachable");
      throw new DoubtfulFailure(lasting);
    });
    const rig = await openNode(catalogue, { transforms: [transform] });
    const plan = await rig.stageAndClaim(someBytes(100));

    while (failures.length < 4) failures.push((await failureOf(rig.transform(plan, "it"))).code);

    const retried = "TransformUnavailable";
    expect(failures).toEqual([retried, retried, retried, "ConversionFailed"]);
    expect(await rig.names("staging")).toEqual([plan.image_id]);
  });

  const text = { a: "1" };
  it.each<[string, unknown, string]>([
    [
      "an object that is not a result",
      { properties: text, hasProduct: "no" },
      "`hasProduct` must be true or false",
    ],
    ["an unknown format", { hasProduct: false, diskFormat: "zip" }, '"zip" is not a disk format'],
    [
      "a reserved property",
      { hasProduct: false, properties: { os_glance_failed_import: "" } },
      "Attribute 'os_glance_failed_import' is reserved",
    ],
    [
      "a property that is not text",
      { hasProduct: false, properties: { size: 3 } },
      'the property "size" must be text',
    ],
    [
      "a tool that is not text",
      { hasProduct: false, tool: { version: 1 } },
      "`tool` must be text of at most 200 characters, none of them NUL",
    ],
    [
      "a tool with NUL",
      { hasProduct: false, tool: "marker\0" },
      "`tool` must be text of at most 200 characters, none of them NUL",
    ],
    [
      "a property with half of a surrogate pair",
      { hasProduct: false, properties: { a: "\ud800" } },
      'The value of the property "a" has half of a surrogate pair',
    ],
    [
      "a product that is not there",
      { hasProduct: true },
      "it returned `hasProduct`, but wrote no product",
    ],
  ])("names the transform when it returns %s", async (_, result, reason) => {
    const rig = await openNode(catalogue, { transforms: [running(async () => result as never)] });
    const plan = await rig.stageAndClaim(someBytes(100));

    expect(await failureOf(rig.transform(plan, "it"))).toMatchObject({
      code: "TransformFailed",
      message: `The transform "it" failed: ${reason}`,
    });
  });

  const ownFile = "its product must be a file of its own, with one name";
  it.each<[string, (work: TransformWork) => Promise<unknown>, string]>([
    ["another name of its source", (work) => link(work.sourcePath, work.productPath), ownFile],
    [
      "a file that has another name, too",
      async (work) => {
        await writeMarked(work);
        await link(work.productPath, `${work.sourcePath}-too`);
      },
      ownFile,
    ],
    [
      "a symbolic link",
      (work) => symlink(work.sourcePath, work.productPath),
      "its product must be a regular file",
    ],
    ["a directory", (work) => mkdir(work.productPath), "its product must be a regular file"],
    [
      "more than it may",
      (work) => writeFile(work.productPath, someBytes(2048)),
      "its product has 2 KiB, more than the allowed 1 KiB",
    ],
  ])("refuses a product that is %s", async (_, write, reason) => {
    const transform = running(async (work) => {
      onTestFinished(() => rm(work.productPath, { recursive: true, force: true }));
      await write(work);
      return { hasProduct: true };
    });
    const limits = { ...NO_LIMITS, imageSizeCapBytes: 1024 };
    const rig = await openNode(catalogue, { transforms: [transform], limits });
    const plan = await rig.stageAndClaim(someBytes(100));

    expect(await failureOf(rig.transform(plan, "it"))).toMatchObject({
      code: "TransformFailed",
      message: `The transform "it" failed: ${reason}`,
    });
    expect(await catalogue.staged(plan.image_id, 1)).not.toMatchObject({ state: "whole" });
  });

  it("fails when the source changed while it was read", async () => {
    const transform = running(async (work) => {
      await writeMarked(work);
      await writeFile(work.sourcePath, someBytes(100));
      return { hasProduct: true };
    });
    const rig = await openNode(catalogue, { transforms: [transform] });
    const plan = await rig.adoptAndClaim(someBytes(100));

    expect(await failureOf(rig.transform(plan, "it"))).toMatchObject({ code: "StagedDataChanged" });
    expect(await rig.names("staging")).toHaveLength(1);
  });

  it("refuses a transform that this worker does not have", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(100));

    expect(await failureOf(rig.transform(plan, "convert"))).toMatchObject({
      code: "BadConfiguration",
    });
  });

  it.skipIf(!MAY_MOUNT)(`needs room for its source before it begins${needsMount}`, async () => {
    const transform = marking();
    const small = {
      ...running(async () => ({ hasProduct: false })),
      name: "small",
      leavesBytes: true,
    };
    const rig = await openNode(catalogue, {
      transforms: [transform, small],
      makeStaging: async () => pathToFileURL(await mountSmallVolume(3)).href,
    });
    const plan = await rig.stageAndClaim(someBytes(2 * MIB));

    expect(await failureOf(rig.transform(plan, "mark"))).toMatchObject({ code: "NoSpace" });
    expect(transform.seen).toEqual([]);
    expect(await rig.transform(plan, "small")).toMatchObject({ product: 0 });
  });

  it.each(WAYS_TO_LOSE_AN_IMAGE)("does nothing for an import %s", async (_, lose) => {
    const transform = marking();
    const rig = await openNode(catalogue, { transforms: [transform] });
    const plan = await lose(rig, await rig.stageAndClaim(someBytes(100)));
    const before = await rig.snapshot(plan);

    expect(await failureOf(rig.transform(plan, "mark"))).toMatchObject({ code: "ImportLost" });
    expect(transform.seen).toEqual([]);
    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it.each(WAYS_TO_LOSE_AN_IMAGE.slice(2))(
    "publishes nothing for an import %s while it ran",
    async (_, lose) => {
      const transform = running(async (work) => {
        await writeMarked(work);
        await lose(rig, plan);
        return { hasProduct: true };
      });
      const rig = await openNode(catalogue, { transforms: [transform] });
      const plan = await rig.stageAndClaim(someBytes(100));

      expect(await failureOf(rig.transform(plan, "it"))).toMatchObject({ code: "ImportLost" });
      expect(await rig.names("staging")).toEqual([plan.image_id]);
    },
  );
});

describe("transformStaged() that is stopped", () => {
  /** Writes its product, reports that it has begun, and waits until its signal aborts. */
  function waiting(): Transform & { readonly begun: Promise<void> } {
    let begin: () => void = () => undefined;
    const begun = new Promise<void>((resolve) => {
      begin = resolve;
    });
    const transform = running(async (work) => {
      await writeMarked(work);
      begin();
      await new Promise((_resolve, reject) => {
        work.signal.addEventListener("abort", () => {
          reject(new Error("stopped by its signal"));
        });
      });
      return undefined;
    });
    return { ...transform, begun };
  }

  it("ends as cancelled on a cancel, and leaves no bytes", async () => {
    const transform = waiting();
    const rig = await openNode(catalogue, { transforms: [transform] });
    const plan = await rig.stageAndClaim(someBytes(100));
    const environment = activityEnvironment();
    const transforming = rig.transform(plan, "it", {}, environment);
    transforming.catch(() => undefined);
    await transform.begun;

    environment.cancel();

    await expect(transforming).rejects.toBeInstanceOf(CancelledFailure);
    expect(await rig.names("staging")).toEqual([plan.image_id]);
  });

  it("is tried again when nothing moves", async () => {
    const rig = await openNode(catalogue, { transforms: [waiting()], idleTimeoutMs: 100 });
    const plan = await rig.stageAndClaim(someBytes(100));

    expect(await failureOf(rig.transform(plan, "it"))).toMatchObject({
      code: "TransformUnavailable",
      retryable: true,
    });
  });

  it("gives way to a second attempt of the same process, which starts again", async () => {
    const bytes = someBytes(100);
    const first = waiting();
    let isFirst = true;
    const transform = running(async (work) => {
      if (!isFirst) return marking().run(work);
      isFirst = false;
      return first.run(work);
    });
    const rig = await openNode(catalogue, { transforms: [transform] });
    const plan = await rig.stageAndClaim(bytes);
    const late = failureOfAny(rig.transform(plan, "it"));
    await first.begun;

    expect(await rig.transform(plan, "it")).toMatchObject({ product: 1 });
    expect(await late).toMatch("Another attempt took over");
    expect(await productBytes(plan, 1)).toEqual(marked(bytes));
    expect(await rig.names("staging")).toHaveLength(2);
  });
});

async function failureOfAny(work: Promise<unknown>): Promise<string> {
  return work.then(
    () => "It did not fail",
    (error: unknown) => String(error),
  );
}

describe("discardProducts()", () => {
  it("removes the products of the import, and not the upload", async () => {
    const bytes = someBytes(100);
    const rig = await openNode(catalogue, { transforms: [marking()] });
    const plan = await rig.stageAndClaim(bytes);
    const before = await rig.snapshot(plan);
    await rig.transform(plan, "mark");

    await rig.discardProducts(plan);

    expect(await rig.snapshot(plan)).toEqual({
      ...before,
      // What the product had reserved goes with the claim.
      image: expect.objectContaining({ claimProductBytes: bytes.length + 1 }) as unknown,
      task: expect.objectContaining({ status: "processing" }) as unknown,
    });
    expect(await catalogue.staged(plan.image_id, 1)).toBeUndefined();
  });

  it("leaves the image importable again, with its upload", async () => {
    const bytes = someBytes(100);
    const rig = await openNode(catalogue, { transforms: [marking()] });
    const failed = await rig.stageAndClaim(bytes);
    await rig.transform(failed, "mark");
    await rig.discardProducts(failed);
    await rig.release(failed);

    const plan = await rig.claim(failed.image_id);
    await rig.finish(plan, bytes.length);

    expect(await readFile(rig.copyPath(plan))).toEqual(bytes);
  });

  it("succeeds again, and without any products", async () => {
    const rig = await openNode(catalogue, { transforms: [marking()] });
    const plan = await rig.stageAndClaim(someBytes(100));
    await rig.discardProducts(plan);
    await rig.transform(plan, "mark");
    await rig.discardProducts(plan);
    const before = await rig.snapshot(plan);

    await rig.discardProducts(plan);

    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it("touches nothing of a later import", async () => {
    const transform = noting();
    const rig = await openNode(catalogue, { transforms: [marking(), transform] });
    const late = await rig.stageAndClaim(someBytes(100));
    await rig.release(late);
    const plan = await rig.claim(late.image_id);
    await rig.transform(plan, "mark");
    await rig.transform(plan, "note", { product: 1 });
    const before = await rig.snapshot(plan);

    await rig.discardProducts(late);

    expect(await rig.snapshot(plan)).toEqual(before);
    expect(transform.notes.size).toBe(1);
    expect(await productBytes(plan, 1)).toHaveLength(101);
  });

  it("undoes what a transform did elsewhere, also one that failed", async () => {
    const transform = noting();
    const failing: Transform = {
      ...transform,
      async run(work) {
        await transform.run(work);
        throw new Error("no");
      },
    };
    const rig = await openNode(catalogue, { transforms: [failing] });
    const plan = await rig.stageAndClaim(someBytes(100));
    await failureOf(rig.transform(plan, "note"));
    expect(transform.notes.size).toBe(1);

    await rig.discardProducts(plan);

    expect(transform.notes.size).toBe(0);
    expect(await catalogue.transformUndos(plan.image_id)).toEqual([]);
  });

  it("removes all the rest when an undo fails, and is tried again", async () => {
    const [first, other] = [noting(), noting()];
    let isAway = true;
    const failing: Transform = {
      ...first,
      async undo(image) {
        if (isAway) throw new Error("the inventory is unreachable");
        await first.undo?.(image);
      },
    };
    const rig = await openNode(catalogue, {
      transforms: [failing, { ...other, name: "other" }, marking()],
    });
    const plan = await rig.stageAndClaim(someBytes(100));
    await rig.transform(plan, "note");
    await rig.transform(plan, "other");
    await rig.transform(plan, "mark");

    expect(await failureOf(rig.discardProducts(plan))).toMatchObject({
      code: "TransformUnavailable",
      message: `Cannot undo the transform "note" of image "${plan.image_id}": the inventory is unreachable`,
    });
    expect(await rig.names("staging")).toEqual([plan.image_id]);
    expect(other.notes.size).toBe(0);
    expect(await catalogue.transformUndos(plan.image_id)).toEqual(["note"]);

    isAway = false;
    await rig.discardProducts(plan);
    expect(first.notes.size).toBe(0);
    expect(await catalogue.transformUndos(plan.image_id)).toEqual([]);
  });

  it("keeps the due undo of a transform that is not configured any more", async () => {
    const transform = noting();
    const rig = await openNode(catalogue, { transforms: [transform] });
    const plan = await rig.stageAndClaim(someBytes(100));
    await rig.transform(plan, "note");
    const without = await withoutTransforms(rig);

    expect(await failureOf(runStep(() => without.discardProducts(plan)))).toMatchObject({
      code: "BadConfiguration",
    });
    expect(await catalogue.transformUndos(plan.image_id)).toEqual(["note"]);
  });

  it("undoes nothing after the activation", async () => {
    const transform = noting();
    const rig = await openNode(catalogue, { transforms: [transform] });
    const plan = await rig.stageAndClaim(someBytes(100));
    await rig.transform(plan, "note");
    await rig.finish(plan, 100);

    await rig.discardProducts(plan);
    await runStep(() => rig.cleanUp.sweepNode());

    expect(transform.notes.size).toBe(1);
    expect(await catalogue.transformUndos(plan.image_id)).toEqual([]);
  });
});

/** The same volume after its worker was configured without transforms. */
async function withoutTransforms(rig: NodeRig) {
  const { createCleanUpActivities } = await import("../../src/activities/index.ts");
  const { Transforms } = await import("../../src/transforms/open-transforms.ts");
  return createCleanUpActivities({ ...rig.dependencies, transforms: Transforms.of([]) });
}

describe("sweepNode() after transforms", () => {
  it("leaves the products of an import that runs, however old they are", async () => {
    const transform = noting();
    const rig = await openNode(catalogue, { transforms: [marking(), transform] });
    const plan = await rig.stageAndClaim(someBytes(100));
    await rig.transform(plan, "mark");
    await rig.transform(plan, "note", { product: 1 });
    await catalogue.expireStaged(plan.image_id);

    expect(await runStep(() => rig.cleanUp.sweepNode())).toEqual({ staged: 0, parts: 0 });
    expect(await rig.names("staging")).toHaveLength(2);
    expect(transform.notes.size).toBe(1);
  });

  it.each([
    ["was released without its undo", async () => undefined],
    [
      "was followed by another one",
      async (rig: NodeRig, { image_id }: ImportPlan) => rig.claim(image_id),
    ],
  ])("removes the product of an import that %s, and undoes its transforms", async (_, then) => {
    const transform = noting();
    const rig = await openNode(catalogue, { transforms: [marking(), transform] });
    const plan = await rig.stageAndClaim(someBytes(100));
    await rig.transform(plan, "mark");
    await rig.transform(plan, "note", { product: 1 });
    await rig.release(plan);
    await then(rig, plan);

    expect(await runStep(() => rig.cleanUp.sweepNode())).toEqual({ staged: 1, parts: 0 });
    expect(await rig.names("staging")).toEqual([plan.image_id]);
    expect(await catalogue.staged(plan.image_id)).toMatchObject({ state: "whole" });
    expect(await catalogue.staged(plan.image_id, 1)).toBeUndefined();
    expect(transform.notes.size).toBe(0);
  });
});
