import { randomBytes } from "node:crypto";
import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { failureOf } from "../support/failure-of.ts";
import { Hold } from "../support/faults.ts";
import { createRig, stagingUri, type ImportRig } from "../support/import-rig.ts";
import { BACK_TO_STAGED } from "../support/import-states.ts";

const NOTHING = { usage: 0, reserved: 0 };

async function sizeTotal(rig: ImportRig): Promise<object> {
  const { usage } = await rig.client.admin.showUsage(null);
  return usage.image_size_total;
}

describe("importImage() within quotas", () => {
  it("is refused while another import of the owner reserves the room, and accepted after that was cancelled", async () => {
    const rig = await createRig({ limits: { image_size_total: 1500 } });
    const [first, second] = [
      await rig.stagedImage(randomBytes(1000)),
      await rig.stagedImage(randomBytes(1000)),
    ];
    const storing = new Hold();
    rig.fail("storeImage fast", storing.before);
    await rig.client.imports.start(first);
    await storing.reached;
    expect(await sizeTotal(rig)).toEqual({ limit: 1500, usage: 0, reserved: 1000 });

    const refused = await failureOf(rig.client.imports.start(second));

    expect(refused).toMatchObject({
      code: "QuotaExceeded",
      message:
        "image_size_total of images without an owner is over limit of 1.5 KiB (1500 bytes) due to current usage 1000 bytes and delta 1000 bytes",
    });
    expect(await rig.state(second)).toEqual({
      ...BACK_TO_STAGED,
      staging: ["@", first].sort(),
      task: null,
    });
    await rig.client.imports.cancel(first, { wait: true });
    expect(await sizeTotal(rig)).toEqual({ limit: 1500, ...NOTHING });
    await rig.client.imports.start(second);
    await rig.client.imports.wait(second);
    expect(await sizeTotal(rig)).toEqual({ limit: 1500, usage: 1000, reserved: 0 });
    await rig.client.images.delete(second);
    expect(await sizeTotal(rig)).toEqual({ limit: 1500, ...NOTHING });
  });

  it("fails permanently when the file that it is to import turns out to be too large, and undoes itself", async () => {
    const rig = await createRig({ limits: { image_size_cap: 999 } });
    const { id } = await rig.client.images.create({ diskFormat: "raw", containerFormat: "bare" });
    await writeFile(join(rig.directory, "staging", "disk.raw"), randomBytes(1000));
    await rig.client.imports.start(id, { uri: stagingUri(rig, "disk.raw") });

    const failure = await failureOf(rig.client.imports.wait(id));

    const text = `Image "${id}" is too large: it has 1000 bytes at least, and image_size_cap is 999 bytes`;
    expect(failure).toMatchObject({ code: "ImageTooLarge", message: `verify: ${text}` });
    expect(await rig.state(id)).toEqual({
      ...BACK_TO_STAGED,
      image: "queued",
      staging: ["disk.raw"],
      task: ["failure", `Error: ImageTooLarge: verify: ${text}`, null],
    });
    expect(rig.calls.filter((call) => call === "verifyStaging")).toHaveLength(1);
    expect(await sizeTotal(rig)).toEqual({ limit: null, ...NOTHING });
  });
});
