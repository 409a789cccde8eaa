import { createHash, randomBytes } from "node:crypto";
import { gzipSync } from "node:zlib";
import { sql } from "drizzle-orm";
import { describe, expect } from "vitest";
import { packageVersion } from "../../src/config/package-version.ts";
import { historyDocument } from "../../src/cli/documents/history-document.ts";
import { losesItsAnswer } from "../support/faults.ts";
import { honest, HostileOrigin } from "../support/hostile-origin.ts";
import { createRig, type ImportRig, it } from "../support/import-rig.ts";

const DISK = randomBytes(4096);
const COMPRESSED = gzipSync(DISK);
const SECRET = "k1-top-secret-signature";

function digestOf(algorithm: string, bytes: Buffer): string {
  return createHash(algorithm).update(bytes).digest("hex");
}

function recorded(bytes: Buffer) {
  return {
    size: bytes.length,
    checksum: digestOf("md5", bytes),
    os_hash_algo: "sha512",
    os_hash_value: digestOf("sha512", bytes),
  };
}

/** Removes all records of tasks, as the reconciler does after their time to live. */
async function removeTasks({ database }: ImportRig): Promise<void> {
  await database.query((db) => db.execute(sql`DELETE FROM tasks`));
}

/** A service that decompresses, and downloads from an origin on this machine. */
async function createDownloadingRig(origin: HostileOrigin): Promise<ImportRig> {
  const web = { ports: [origin.port], allowed_networks: ["127.0.0.0/8"] };
  return createRig({
    import: { transforms: ["decompress"] },
    sources: { web },
    keyFile: true,
  });
}

describe("the history of an image", () => {
  it("reports how it was imported, copied and removed, after its tasks are gone", async () => {
    const origin = await HostileOrigin.start(honest(COMPRESSED));
    const rig = await createDownloadingRig(origin);
    const { id: imageId } = await rig.client.images.create({
      ...{ name: "debian", owner: "team-a" },
      ...{ diskFormat: "raw", containerFormat: "bare" },
    });
    const imported = await rig.client.imports.start(imageId, {
      ...{ method: "web-download", uri: `${origin.url()}?signature=${SECRET}` },
      ...{ checksum: `sha512:${digestOf("sha512", COMPRESSED)}`, roles: ["member"], userId: "ann" },
    });
    await rig.client.imports.wait(imageId);
    const copied = await rig.client.imports.copy(imageId, { stores: ["slow"] });
    await rig.client.imports.wait(imageId);
    await rig.client.images.removeCopy(imageId, "fast");
    await rig.client.images.deactivate(imageId);
    await rig.client.images.reactivate(imageId);
    await removeTasks(rig);

    const history = await rig.client.images.history(imageId);

    const [first, second, ...rest] = history;
    expect(first).toMatchObject({
      ...{ event: "imported", name: "debian", owner: "team-a", user_id: "ann", roles: ["member"] },
      ...{ method: "web-download", source: origin.url(), task_id: imported.task_id },
      expected_checksum: `sha512:${digestOf("sha512", COMPRESSED)}`,
      ...{ run_id: imported.run_id, disk_format: "raw", container_format: "bare" },
      ...{ version: packageVersion(), before: recorded(COMPRESSED), after: recorded(DISK) },
      verdict: { detected_format: "raw" },
      transforms: [
        {
          ...{ name: "decompress", has_product: true, disk_format: "raw" },
          tool: `zlib ${process.versions.zlib}`,
        },
      ],
      stores: [{ store: "fast", url: expect.stringContaining("/fast/") as string }],
    });
    expect(second).toMatchObject({
      ...{ event: "copied", method: "copy-image", task_id: copied.task_id, source: null },
      stores: [{ store: "slow" }],
    });
    expect(rest).toMatchObject([
      { event: "copy_removed", stores: [{ store: "fast" }] },
      { event: "deactivated" },
      { event: "reactivated" },
    ]);
    expect(JSON.stringify(history)).not.toContain(SECRET);
    expect(historyDocument.safeParse(history).error).toBeUndefined();
    const times = history.map(({ at }) => at);
    expect(times).toEqual([...times].sort());
  });

  it("has one entry for an import whose publication lost its answer", async () => {
    const rig = await createRig({ import: { publish_at_once: "1MiB" } });
    const imageId = await rig.stagedImage(DISK);
    rig.fail("publishImage", losesItsAnswer);

    await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);

    expect(await rig.client.images.history(imageId)).toMatchObject([
      { event: "imported", before: recorded(DISK), after: recorded(DISK), transforms: [] },
    ]);
  });

  it("has no entry for an import that failed", async ({ rig }) => {
    const imageId = await rig.stagedImage(DISK);
    await rig.client.images.change(imageId, { diskFormat: "qcow2" });

    await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId).catch(() => undefined);

    expect(await rig.client.images.history(imageId)).toEqual([]);
  });

  it("is gone with the image", async ({ rig }) => {
    const imageId = await rig.stagedImage(DISK);
    await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);

    await rig.client.images.delete(imageId);

    await expect(rig.client.images.history(imageId)).rejects.toMatchObject({
      code: "ImageNotFound",
    });
  });
});
