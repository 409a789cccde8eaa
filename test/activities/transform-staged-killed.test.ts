import { randomUUID } from "node:crypto";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { sql } from "drizzle-orm";
import { describe, expect, it } from "vitest";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import { newPartName } from "../../src/bytes/part-name.ts";
import { findLease, takeLease } from "../../src/db/lease-records.ts";
import { productPlace } from "../../src/domain/place.ts";
import { loadTransform } from "../../src/transforms/load-transform.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { deadProcess, programPath, type ChildProgram } from "../support/child-program.ts";
import { HeldRows } from "../support/held-rows.ts";
import { MIB } from "../support/mib.ts";
import { openNode, outcomeOf, runStep, someBytes, type NodeRig } from "../support/node-rig.ts";
import { transformOrder } from "../support/step-orders.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const catalogue = useCatalogue();

const SIZE_BYTES = 4 * MIB + 17;

interface Scene {
  readonly rig: NodeRig;
  readonly plan: ImportPlan;
  readonly bytes: Buffer;
  /**
   * The second transform in a process of its own. Unlike those in this process, it waits after each
   * MiB for `release`.
   */
  readonly transformElsewhere: () => ChildProgram;
  /** Lets the transforms in other processes continue. */
  readonly release: () => Promise<void>;
}

/** An import whose first product is made, and whose second one is to be. */
async function openScene(): Promise<Scene> {
  const module = programPath("invert-transform.mjs");
  const waitsFor = join(makeTemporaryDirectory(), "go");
  const invert = await loadTransform(module);
  const rig = await openNode(catalogue, { transforms: [invert, { ...invert, name: "before" }] });
  const bytes = someBytes(SIZE_BYTES);
  const plan = await rig.stageAndClaim(bytes);
  await rig.transform(plan, "before");
  const order = transformOrder(plan, "invert", { product: 1 });
  return {
    rig,
    plan,
    bytes,
    transformElsewhere: () => rig.transformElsewhere(order, module, { WAITS_FOR: waitsFor }),
    release: () => writeFile(waitsFor, ""),
  };
}

/** Waits until an attempt stands at these rows, and kills it there. */
async function killAt(scene: Scene, table: string, where: string): Promise<void> {
  const { rig, transformElsewhere, release } = scene;
  const writer = transformElsewhere();
  await rig.awaitPart("staging", MIB);
  const rows = await HeldRows.hold(catalogue, sql.raw(`SELECT 1 FROM ${table} WHERE ${where}`));
  await release();
  await rows.awaitWaiters();
  await writer.kill();
  await rows.release();
}

const DEATHS: readonly (readonly [string, (scene: Scene) => Promise<void>])[] = [
  [
    "in the middle of its bytes",
    async ({ rig, transformElsewhere }) => {
      const writer = transformElsewhere();
      await rig.awaitPart("staging", MIB);
      await writer.kill();
    },
  ],
  [
    "when it had all its bytes",
    (scene) => killAt(scene, "images", `id = '${scene.plan.image_id}'`),
  ],
  [
    "when its product had its name, and the catalogue did not know of it",
    (scene) =>
      killAt(scene, "leases", `image_id = '${scene.plan.image_id}' AND place = 'product/2'`),
  ],
  [
    "when it had removed the earlier product, and the catalogue did not know of it",
    (scene) =>
      killAt(scene, "staged_files", `image_id = '${scene.plan.image_id}' AND place = 'product/1'`),
  ],
  [
    "when it had taken over from a dead attempt, whose files were still there",
    async ({ rig, plan }) => {
      const { image_id: imageId, epoch, node } = plan;
      const product = { imageId, epoch, place: productPlace(2) };
      const take = async (earlierParts: readonly string[]) => {
        const part = newPartName(imageId, epoch);
        const path = rig.dependencies.staging.productPathOf(part);
        const writer = await deadProcess();
        const names = { part, path, earlierParts };
        await catalogue.database.transaction(async (db) =>
          takeLease(
            db,
            product,
            { node, token: randomUUID(), writer, ...names },
            await findLease(db, product),
          ),
        );
        return { part, path };
      };
      const dead = await take([]);
      await writeFile(rig.staged(dead.part), someBytes(17));
      await writeFile(dead.path, someBytes(17));
      await take([dead.part]);
    },
  ],
];

describe("transformStaged() after its process was killed", () => {
  it.each(DEATHS)("makes its product again, and leaves nothing else, %s", async (_, die) => {
    const scene = await openScene();
    const { rig, plan, bytes } = scene;
    await die(scene);

    const transformed = await rig.transform(plan, "invert", { product: 1 });

    expect(transformed).toMatchObject({ product: 2 });
    const path = (await catalogue.staged(plan.image_id, 2))?.path ?? "";
    expect((await readFile(path)).equals(bytes)).toBe(true);
    expect((await readFile(rig.staged(plan.image_id))).equals(bytes)).toBe(true);
    expect(await rig.names("staging")).toHaveLength(2);
    expect(await catalogue.staged(plan.image_id, 1)).toBeUndefined();
  });
});

describe("discardProducts() after the process of a transform was killed", () => {
  it.each(DEATHS)("leaves nothing but the upload, %s", async (_, die) => {
    const scene = await openScene();
    const { rig, plan } = scene;
    await die(scene);

    await rig.discardProducts(plan);

    expect(await rig.names("staging")).toEqual([plan.image_id]);
    expect(await catalogue.staged(plan.image_id, 1)).toBeUndefined();
    expect(await catalogue.staged(plan.image_id, 2)).toBeUndefined();
  });
});

describe("sweepNode() after the process of a transform was killed, and its run terminated", () => {
  it.each(DEATHS)("leaves nothing but the upload, %s", async (_, die) => {
    const scene = await openScene();
    const { rig, plan } = scene;
    await die(scene);
    await rig.release(plan);

    await runStep(() => rig.cleanUp.sweepNode());

    expect(await rig.names("staging")).toEqual([plan.image_id]);
    expect(await catalogue.staged(plan.image_id, 1)).toBeUndefined();
    expect(await catalogue.staged(plan.image_id, 2)).toBeUndefined();
  });
});

describe("transformStaged() in a process that stood still, and continues late", () => {
  it.each<[string, (scene: Scene) => Promise<unknown>]>([
    [
      "a second attempt has finished",
      ({ rig, plan }) => rig.transform(plan, "invert", { product: 1 }),
    ],
    [
      "the whole import has finished",
      async ({ rig, plan, bytes }) => {
        await rig.transform(plan, "invert", { product: 1 });
        await rig.finish(plan, bytes.length);
        await runStep(() => rig.cleanUp.unstageImage(plan));
      },
    ],
    [
      "the import was undone",
      async ({ rig, plan }) => {
        await rig.discardProducts(plan);
        await rig.release(plan);
      },
    ],
    [
      "another import makes its own",
      async ({ rig, plan }) => {
        await rig.release(plan);
        const next = await rig.claim(plan.image_id);
        await rig.transform(next, "before");
        await rig.transform(next, "invert", { product: 1 });
        await runStep(() => rig.cleanUp.sweepNode());
      },
    ],
  ])("changes nothing when %s", async (_, happen) => {
    const scene = await openScene();
    const { rig, plan, transformElsewhere, release } = scene;
    const late = transformElsewhere();
    await rig.awaitPart("staging", MIB);
    await late.stop();
    await happen(scene);
    const before = [await rig.snapshot(plan), await catalogue.staged(plan.image_id, 2)];

    await release();
    late.continue();

    const { code } = (await outcomeOf(late)) as { code: string };
    // Its part is gone, or its lease.
    expect(["ImportLost", "AttemptOvertaken", "TransformFailed"]).toContain(code);
    expect([await rig.snapshot(plan), await catalogue.staged(plan.image_id, 2)]).toEqual(before);
  });

  it("does not disturb a second attempt that runs beside it", async () => {
    const scene = await openScene();
    const { rig, plan, bytes, transformElsewhere, release } = scene;
    const late = transformElsewhere();
    const part = await rig.awaitPart("staging", MIB);
    await late.stop();
    const second = transformElsewhere();
    await rig.awaitPart("staging", MIB, part);

    late.continue();
    await release();

    expect(await outcomeOf(second)).toEqual({
      transformed: expect.objectContaining({ product: 2 }) as object,
    });
    expect(await outcomeOf(late)).toHaveProperty("code");
    const path = (await catalogue.staged(plan.image_id, 2))?.path ?? "";
    expect((await readFile(path)).equals(bytes)).toBe(true);
    expect(await rig.names("staging")).toHaveLength(2);
  });
});
