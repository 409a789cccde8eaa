import { rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, it } from "vitest";
import { StagingArea } from "../../src/staging/staging-area.ts";
import type { Transform } from "../../src/transforms/transform.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import { honest, HostileOrigin } from "../support/hostile-origin.ts";
import { NodeRig, openNode, runStep, someBytes } from "../support/node-rig.ts";

const catalogue = useCatalogue();

/** The node after its staging volume was mounted elsewhere: nothing is at the recorded paths. */
async function moved(rig: NodeRig): Promise<NodeRig> {
  const root = join(rig.directory, "moved");
  await rename(join(rig.directory, "staging"), root);
  const staging = await StagingArea.open(pathToFileURL(root).href);
  const dependencies = { ...rig.dependencies, staging };
  return new NodeRig(rig.directory, catalogue, dependencies, rig.storeSettings, rig.webSettings);
}

const copying: Transform = {
  name: "copy",
  run: async ({ source, productPath }) => {
    await writeFile(productPath, await source.readFile(), { flag: "wx" });
    return { hasProduct: true };
  },
};

describe("a staging volume that is at another path than when it was written", () => {
  it("has its uploads, which are imported and removed", async () => {
    const before = await openNode(catalogue);
    const bytes = someBytes(1000);
    const imageId = await before.stage(bytes);
    const rig = await moved(before);

    const plan = await rig.claim(imageId);
    expect(await rig.verify(plan)).toMatchObject({ size: 1000 });
    await rig.finish(plan, 1000);
    await runStep(() => rig.cleanUp.unstageImage({ image_id: imageId }));

    expect(await rig.names("moved")).toEqual([]);
    expect((await catalogue.image(imageId)).status).toBe("active");
  });

  it("has its uploads, which are removed with their image", async () => {
    const before = await openNode(catalogue);
    const imageId = await before.stage(someBytes(100));
    await before.beginDeletion(imageId);
    const rig = await moved(before);

    await runStep(() => rig.cleanUp.removeImageBytes(imageId));

    expect(await rig.names("moved")).toEqual([]);
    expect(await catalogue.staged(imageId)).toBeUndefined();
  });

  it("has its products", async () => {
    const before = await openNode(catalogue, { transforms: [copying] });
    const plan = await before.stageAndClaim(someBytes(100));
    const { product } = await before.transform(plan, "copy");
    const rig = await moved(before);

    expect(await rig.verify(plan, { product })).toMatchObject({ size: 100 });
    await rig.discardProducts(plan);

    expect(await rig.names("moved")).toEqual([plan.image_id]);
  });

  it("has its downloads", async () => {
    const bytes = someBytes(1000);
    const origin = await HostileOrigin.start(honest(bytes));
    const web = { ports: [origin.port], allowedNetworks: ["127.0.0.0/8"] };
    const before = await openNode(catalogue, { web });
    const claimed = await before.claimForFetch();
    const { uri } = await before.fetch(claimed, origin.url());
    const rig = await moved(before);
    const plan = { ...claimed, uri };

    expect(await rig.fetch(plan, origin.url())).toMatchObject({ size: 1000 });
    expect(await rig.verify(plan)).toMatchObject({ size: 1000 });
    await rig.finish(plan, 1000);
    await rig.discardFetched(plan);

    expect(origin.requests).toHaveLength(1);
    expect(await rig.names("moved")).toEqual([]);
  });

  it("keeps the files of a user, and does not take one for an upload", async () => {
    const before = await openNode(catalogue);
    const imageId = await before.stage(someBytes(100));
    const rig = await moved(before);
    const other = await catalogue.newImage();
    const plan = await rig.claim(other, { uri: pathToFileURL(join(rig.directory, imageId)).href });

    expect(await failureOf(rig.verify(plan))).toMatchObject({ code: "StagedDataRefused" });

    const thief = { ...plan, uri: rig.dependencies.staging.uriOf(imageId) };
    expect(await failureOf(rig.verify(thief))).toMatchObject({
      code: "StagedDataRefused",
      message: expect.stringContaining(`it belongs to image "${imageId}"`) as string,
    });
  });
});
