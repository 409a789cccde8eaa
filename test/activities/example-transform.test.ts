import { mkdir, mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { NO_LIMITS } from "../../src/domain/quota.ts";
import type { ImportPlan } from "../../src/activities/claim-import.ts";
import { Transforms } from "../../src/transforms/open-transforms.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import { MIB } from "../support/mib.ts";
import { openNode, someBytes, type NodeRig } from "../support/node-rig.ts";

const catalogue = useCatalogue();
const EXAMPLE = fileURLToPath(new URL("../../examples/align-to-mebibyte.mjs", import.meta.url));
const NAME = "align_to_mebibyte";

const NO_SETTINGS = {
  decompress: {},
  convert: { target: "raw" },
  injectMetadata: { properties: {}, ignoreUserRoles: [] },
} as const;

// Read when the module is loaded, as a worker does once.
let directory = "";
let notes = "";
let transforms: Transforms;
beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "image-import-test-"));
  notes = join(directory, "notes");
  process.env["ALIGN_NOTES"] = notes;
  transforms = await Transforms.open({ ...NO_SETTINGS, order: [{ module: EXAMPLE }] });
});

afterAll(async () => {
  await rm(directory, { recursive: true, force: true });
});

async function openRig(limits = NO_LIMITS): Promise<NodeRig> {
  await mkdir(notes, { recursive: true });
  return openNode(catalogue, { transforms: [transforms.get(NAME)], limits });
}

function noteOf({ image_id, epoch }: ImportPlan): string {
  return join(notes, `${image_id}.${epoch}.json`);
}

describe("examples/align-to-mebibyte.mjs", () => {
  it("fails without the directory of its notes, and names the reason", async () => {
    expect(await failureOf(transforms.requireWorking())).toMatchObject({
      code: "BadConfiguration",
      message: `Cannot run transforms on this machine: ${NAME}: ALIGN_NOTES must name a directory, not "${notes}"`,
    });
    await openRig();
    await transforms.requireWorking();
  });

  it("pads a raw image to a whole MiB, and keeps a note of it", async () => {
    const rig = await openRig();
    const bytes = someBytes(MIB + 17);
    const plan = await rig.stageAndClaim(bytes);

    const transformed = await rig.transform(plan, NAME);

    expect(transformed).toEqual({
      product: 1,
      disk_format: "raw",
      properties: { aligned_from: String(bytes.length) },
    });
    const product = await readFile((await catalogue.staged(plan.image_id, 1))?.path ?? "");
    expect(product).toEqual(Buffer.concat([bytes, Buffer.alloc(MIB - 17)]));
    expect(JSON.parse(await readFile(noteOf(plan), "utf8"))).toEqual({
      sizeBytes: MIB + 17,
      alignedBytes: 2 * MIB,
    });
  });

  it.each([
    ["is aligned", MIB, {}],
    ["is not raw", 17, { disk_format: "qcow2" }],
  ])("leaves an image alone that %s", async (_, sizeBytes, changes) => {
    const rig = await openRig();
    const plan = await rig.stageAndClaim(someBytes(sizeBytes));

    expect(await rig.transform(plan, NAME, changes)).toMatchObject({ product: 0, properties: {} });
    expect(await rig.names("staging")).toEqual([plan.image_id]);
  });

  it("refuses an image that would become too large", async () => {
    const rig = await openRig({ ...NO_LIMITS, imageSizeCapBytes: 1000 });
    const plan = await rig.stageAndClaim(someBytes(17));

    const failure = await failureOf(rig.transform(plan, NAME));

    expect(failure).toMatchObject({
      code: "TransformFailed",
      message: `The transform "${NAME}" failed: it would have 1048576 bytes`,
    });
  });

  it("takes its note back when the import is undone", async () => {
    const rig = await openRig();
    const plan = await rig.stageAndClaim(someBytes(17));
    await rig.transform(plan, NAME);

    await rig.discardProducts(plan);
    await rig.discardProducts(plan);

    expect(await readdir(notes)).not.toContain(`${plan.image_id}.${plan.epoch}.json`);
    expect(await rig.names("staging")).toEqual([plan.image_id]);
  });
});
