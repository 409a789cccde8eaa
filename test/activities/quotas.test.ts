import { writeFile } from "node:fs/promises";
import { describe, expect, it } from "vitest";
import type { Limits } from "../../src/domain/quota.ts";
import { useCatalogue } from "../support/catalogue.ts";
import { failureOf } from "../support/failure-of.ts";
import { LimitedOwner, limitsOf } from "../support/limited-owner.ts";
import { openNode, someBytes, runStep } from "../support/node-rig.ts";

const catalogue = useCatalogue();

async function openLimited(limits: Limits) {
  const rig = await openNode(catalogue, { limits });
  return { rig, owner: new LimitedOwner(catalogue, limits) };
}

describe("claimImport() within quotas", () => {
  it("refuses an image that does not fit into all stores, and changes nothing", async () => {
    const { rig, owner } = await openLimited(limitsOf({ image_size_total: 1999 }));
    const imageId = await rig.stage(someBytes(1000), { owner: String(owner.name) });
    const before = await catalogue.image(imageId);

    const failure = await failureOf(rig.claim(imageId, { stores: ["fast", "slow"] }));

    expect(failure).toMatchObject({
      code: "QuotaExceeded",
      message: `image_size_total of owner "${String(owner.name)}" is over limit of 2 KiB (1999 bytes) due to current usage 0 bytes and delta 2 KiB (2000 bytes)`,
    });
    expect(await catalogue.image(imageId)).toEqual(before);
  });

  it("reserves until the image is published, and then counts its copies until it is deleted", async () => {
    const { rig, owner } = await openLimited(limitsOf({ image_size_total: 1000 }));
    const imageId = await rig.stage(someBytes(1000), { owner: String(owner.name) });

    const plan = await rig.claim(imageId);

    expect((await owner.usage()).image_size_total).toEqual({ usage: 0, reserved: 1000 });
    await rig.finish(plan, 1000);
    expect((await owner.usage()).image_size_total).toEqual({ usage: 1000, reserved: 0 });
    await rig.beginDeletion(imageId);
    expect((await owner.usage()).image_size_total).toEqual({ usage: 0, reserved: 0 });
  });

  it("frees the room of an import that the reconciler released", async () => {
    const { rig, owner } = await openLimited(limitsOf({ image_size_total: 1000 }));
    const imageId = await rig.stage(someBytes(1000), { owner: String(owner.name) });
    const abandoned = await rig.claim(imageId);
    const { claims } = await rig.control.findAbandoned();

    const found = claims.find(({ image_id: id }) => id === imageId);
    const order = {
      image_id: imageId,
      workflow_id: found?.workflow_id ?? "",
      run_id: found?.run_id ?? "",
      message: "Error: ImportAbandoned",
      failed_stores: [],
    };
    await runStep(() => rig.control.releaseImport(order));

    expect((await owner.usage()).image_size_total).toEqual({ usage: 0, reserved: 0 });
    expect((await rig.claim(imageId)).epoch).toBe(abandoned.epoch + 1);
  });
});

describe("verifyStaging() within limits", () => {
  /** An accepted import of a file that was not verified yet. */
  async function claimFile(limits: Limits, sizeBytes: number) {
    const { rig, owner } = await openLimited(limits);
    const imageId = await owner.newImage();
    await writeFile(rig.staged(`${imageId}.raw`), someBytes(sizeBytes));
    const uri = rig.uri(`${imageId}.raw`);
    return { rig, owner, plan: await rig.claim(imageId, { stores: ["fast", "slow"], uri }) };
  }

  it("reserves the size of the file for each store, and only once when it is run again", async () => {
    const { rig, owner, plan } = await claimFile(limitsOf({ image_size_total: 2000 }), 1000);
    expect((await owner.usage()).image_size_total).toEqual({ usage: 0, reserved: 0 });

    await rig.verify(plan);
    await rig.verify(plan);

    expect(await owner.usage()).toMatchObject({
      image_size_total: { usage: 0, reserved: 2000 },
      image_stage_total: { usage: 1000, reserved: 0 },
    });
  });

  it.each([
    ["is too large", limitsOf({}, 999), "ImageTooLarge"],
    ["does not fit into all stores", limitsOf({ image_size_total: 1999 }), "QuotaExceeded"],
    ["is more than may be staged", limitsOf({ image_stage_total: 999 }), "QuotaExceeded"],
  ])(
    "refuses permanently a file that %s, and its undo leaves nothing reserved",
    async (_, limits, code) => {
      const { rig, owner, plan } = await claimFile(limits, 1000);

      expect(await failureOf(rig.verify(plan))).toMatchObject({ code, retryable: false });

      await rig.release(plan);
      expect((await owner.usage()).image_size_total).toEqual({ usage: 0, reserved: 0 });
      expect((await catalogue.image(plan.image_id)).status).toBe("queued");
    },
  );
});
