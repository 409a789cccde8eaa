import { randomUUID } from "node:crypto";
import { describe, expect, it } from "vitest";
import { thisProcess } from "../../src/processes/process-identity.ts";
import { releaseClaim } from "../../src/db/claim-records.ts";
import {
  beginProduct,
  finishProduct,
  type ProductAttempt,
  requireProduct,
  takeProduct,
  takeProductsAway,
} from "../../src/db/product-records.ts";
import { findStaged, listStagedOf } from "../../src/db/staged-records.ts";
import { listExpiredStaging } from "../../src/db/upload-records.ts";
import { NODE, SOME_FINGERPRINT, useCatalogue, type ClaimedImage } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";

const catalogue = useCatalogue();
const WRITER = await thisProcess();
const MADE = { transform: "convert", diskFormat: "qcow2", properties: { a: "1" } };

function attemptAt(
  { imageId, epoch }: ClaimedImage,
  changes: Partial<ProductAttempt> = {},
): ProductAttempt {
  const token = randomUUID();
  const names = { part: `${token}.part`, path: `/staging/${token}.product` };
  return { imageId, epoch, product: 1, node: NODE, token, writer: WRITER, ...names, ...changes };
}

const take = (attempt: ProductAttempt) =>
  catalogue.database.transaction((db) => takeProduct(db, attempt));
const begin = (attempt: ProductAttempt) =>
  catalogue.database.transaction((db) => beginProduct(db, attempt));
const require = (attempt: ProductAttempt) =>
  catalogue.database.transaction((db) => requireProduct(db, attempt));
const finish = (attempt: ProductAttempt) =>
  catalogue.database.transaction((db) =>
    finishProduct(
      db,
      attempt,
      {
        path: attempt.path,
        sizeBytes: 4096,
        fingerprint: SOME_FINGERPRINT,
        digests: undefined,
        timeToLiveMs: 60_000,
      },
      MADE,
    ),
  );
const takeAway = (image: ClaimedImage, node = NODE) =>
  catalogue.database.transaction((db) =>
    takeProductsAway(db, image, { node, token: randomUUID(), writer: WRITER }),
  );

async function release({ imageId, workflowId, runId }: ClaimedImage): Promise<void> {
  await catalogue.database.transaction((db) =>
    releaseClaim(db, { imageId, workflowId, runId }, { message: "Error: it was undone" }, []),
  );
}

describe("takeProduct()", () => {
  it("makes a separate row beside the upload", async () => {
    const image = await catalogue.claimedImage();
    const staged = await catalogue.staged(image.imageId);
    const attempt = attemptAt(image);

    expect(await take(attempt)).toBeUndefined();
    expect(await catalogue.staged(image.imageId)).toEqual(staged);
    const { part, path, token, epoch } = attempt;
    expect(await catalogue.staged(image.imageId, 1)).toMatchObject({
      state: "staging",
      ...{ part, path, token, epoch },
    });
  });

  it("takes over, and keeps the names of the part and the file that still exist", async () => {
    const image = await catalogue.claimedImage();
    const [dead, next] = [attemptAt(image), attemptAt(image)];
    await take(dead);

    expect(await take(next)).toMatchObject({ token: dead.token, part: dead.part });
    expect(await catalogue.staged(image.imageId, 1)).toMatchObject({
      token: next.token,
      part: dead.part,
      path: dead.path,
    });
    await begin(next);
    expect(await catalogue.staged(image.imageId, 1)).toMatchObject({
      token: next.token,
      part: next.part,
      path: next.path,
    });
  });

  it("waits for the removal of an earlier product on another node", async () => {
    const image = await catalogue.claimedImage();
    await take(attemptAt(image, { node: "ba9876543210" }));

    expect(await failureOf(take(attemptAt(image)))).toMatchObject({
      code: "StagingUnavailable",
      retryable: true,
    });
  });
});

describe("an attempt from which another one took the product", () => {
  it.each([
    ["beginProduct()", begin],
    ["requireProduct()", require],
    ["finishProduct()", finish],
  ])("is refused by %s", async (_, step) => {
    const image = await catalogue.claimedImage();
    const [late, next] = [attemptAt(image), attemptAt(image)];
    await take(late);
    await take(next);
    await begin(next);
    const before = await catalogue.staged(image.imageId, 1);

    expect(await failureOf(step(late))).toMatchObject({ code: "AttemptOvertaken" });
    expect(await catalogue.staged(image.imageId, 1)).toEqual(before);
  });
});

describe("an attempt whose import was undone", () => {
  it.each([
    ["takeProduct()", take],
    ["beginProduct()", begin],
    ["requireProduct()", require],
    ["finishProduct()", finish],
  ])("is refused by %s", async (_, step) => {
    const image = await catalogue.claimedImage();
    const late = attemptAt(image);
    await take(late);
    await release(image);

    expect(await failureOf(step(late))).toMatchObject({ code: "ImportLost" });
  });
});

describe("finishProduct()", () => {
  it("records a complete product, and how it was made", async () => {
    const image = await catalogue.claimedImage();
    const attempt = attemptAt(image);
    await take(attempt);

    await finish(attempt);

    expect(await catalogue.staged(image.imageId, 1)).toMatchObject({
      state: "staged",
      part: null,
      sizeBytes: 4096,
      checksum: null,
      made: MADE,
    });
  });
});

describe("takeProductsAway()", () => {
  it("takes all products of the import on the node, and nothing else", async () => {
    const image = await catalogue.claimedImage();
    const [one, two] = [attemptAt(image), attemptAt(image, { product: 2 })];
    await take(one);
    await finish(one);
    await take(two);

    expect(await takeAway({ ...image, epoch: image.epoch + 1 })).toEqual([]);
    expect(await takeAway(image, "ba9876543210")).toEqual([]);
    const paths = (await takeAway(image)).map(({ path }) => path);
    expect(paths.sort()).toEqual([one.path, two.path].sort());
    expect(await failureOf(finish(two))).toMatchObject({ code: "AttemptOvertaken" });
    expect(await catalogue.staged(image.imageId)).toMatchObject({ state: "staged" });
  });
});

describe("records of staged data beside products", () => {
  it("are found by their number", async () => {
    const image = await catalogue.claimedImage();
    await take(attemptAt(image));

    const [staged, product, all] = await Promise.all([
      catalogue.database.query((db) => findStaged(db, image.imageId)),
      catalogue.database.query((db) => findStaged(db, image.imageId, 1)),
      catalogue.database.query((db) => listStagedOf(db, image.imageId)),
    ]);
    expect([staged?.product, product?.product, all.length]).toEqual([0, 1, 2]);
  });

  it("decide to which status an undo moves the image back", async () => {
    const image = await catalogue.claimedImage();
    await take(attemptAt(image));

    await release(image);

    expect(await catalogue.image(image.imageId)).toMatchObject({
      status: "uploading",
      sizeBytes: 4096,
    });
  });

  it("stay when the stager stages again", async () => {
    const image = await catalogue.claimedImage();
    await take(attemptAt(image));
    await release(image);

    await catalogue.beginStaging(image.imageId, true);

    expect(await catalogue.staged(image.imageId, 1)).toMatchObject({ product: 1 });
  });

  it("may be swept when their import is over, and not before", async () => {
    const image = await catalogue.claimedImage();
    await take(attemptAt(image));
    const isListed = async () =>
      (await catalogue.database.query((db) => listExpiredStaging(db, NODE))).some(
        ({ imageId, product }) => imageId === image.imageId && product === 1,
      );

    const before = await isListed();
    await release(image);

    expect([before, await isListed()]).toEqual([false, true]);
  });
});
