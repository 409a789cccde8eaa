import { createHash, randomBytes } from "node:crypto";
import { describe, expect } from "vitest";
import { failureOf } from "../support/failure-of.ts";
import { it } from "../support/import-rig.ts";
import { BACK_TO_STAGED, IMPORTED } from "../support/import-states.ts";

const BYTES = randomBytes(2 * 1024 * 1024 + 3);
const OTHER = randomBytes(10);
const ALGORITHMS = ["md5", "sha256", "sha512"];

function checksumOf(algo: string, bytes: Buffer): string {
  return `${algo}:${createHash(algo).update(bytes).digest("hex")}`;
}

describe.each(["stagedImage", "adoptedImage"] as const)("importImage() of a %s", (kind) => {
  it.for(ALGORITHMS)(
    "takes data whose %s and size are those that were given",
    async (algo, { rig }) => {
      const imageId = await rig[kind](BYTES);

      await rig.client.imports.start(imageId, {
        checksum: checksumOf(algo, BYTES).toUpperCase().replace(algo.toUpperCase(), algo),
        size: BYTES.length,
      });
      await rig.client.imports.wait(imageId);

      expect(await rig.state(imageId)).toMatchObject(IMPORTED);
    },
  );

  it.for(ALGORITHMS)(
    "refuses data whose %s is another, and leaves nothing",
    async (algo, { rig }) => {
      const imageId = await rig[kind](BYTES);

      await rig.client.imports.start(imageId, { checksum: checksumOf(algo, OTHER) });
      const failure = await failureOf(rig.client.imports.wait(imageId));

      expect(failure).toMatchObject({
        code: "ChecksumMismatch",
        message: expect.stringContaining(
          `Checksum mismatch: expected ${checksumOf(algo, OTHER)}, got ${checksumOf(algo, BYTES)}`,
        ) as string,
      });
      expect(await rig.state(imageId)).toMatchObject({ ...BACK_TO_STAGED });
      expect(rig.calls.filter((call) => call === "activateImage")).toEqual([]);
    },
  );

  it("refuses data of another size before any store is touched", async ({ rig }) => {
    const imageId = await rig[kind](BYTES);

    await rig.client.imports.start(imageId, { size: BYTES.length + 1 });
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure).toMatchObject({
      code: "ChecksumMismatch",
      message: `verify: Size mismatch: expected ${String(BYTES.length + 1)} bytes, got ${String(BYTES.length)}`,
    });
    expect(rig.calls.filter((call) => call.startsWith("storeImage"))).toEqual([]);
  });
});

describe("importImage() of data whose digests are known", () => {
  it.for(["md5", "sha512"])(
    "refuses another %s before any store is touched",
    async (algo, { rig }) => {
      const imageId = await rig.stagedImage(BYTES);

      await rig.client.imports.start(imageId, { checksum: checksumOf(algo, OTHER) });
      await failureOf(rig.client.imports.wait(imageId));

      expect(rig.calls.filter((call) => call.startsWith("storeImage"))).toEqual([]);
    },
  );
});
