import { describe, expect } from "vitest";
import type { DiskFormat } from "../../src/domain/disk-format.ts";
import {
  be,
  craftedDynamicVhd,
  craftedFixedVhd,
  craftedIso,
  craftedLuks,
  craftedQcow2,
  craftedVdi,
  craftedVhdx,
  craftedVmdk,
  craftedVmdkStream,
  DESCRIPTOR,
  le,
  patched,
} from "../support/crafted-images.ts";
import { failureOf } from "../support/failure-of.ts";
import { it } from "../support/import-rig.ts";

const stream = craftedVmdkStream();

const HOSTILE: readonly (readonly [
  name: string,
  declared: DiskFormat,
  bytes: Buffer,
  code: string,
])[] = [
  ["a backing file", "qcow2", patched(craftedQcow2(), [8, be(8, 4096)]), "UnsafeImage"],
  ["a data file", "qcow2", patched(craftedQcow2(), [72, be(8, 4)]), "UnsafeImage"],
  [
    "a virtual size of 2^63",
    "qcow2",
    patched(craftedQcow2(), [24, be(8, 2n ** 63n)]),
    "UnsafeImage",
  ],
  ["a json: name", "qcow2", patched(craftedQcow2(), [200, "json:{}"]), "UnsafeImage"],
  ["a qcow2 in a raw", "raw", craftedQcow2(), "FormatMismatch"],
  ["a descriptor in a raw", "raw", Buffer.from(DESCRIPTOR), "FormatMismatch"],
  ["a flat extent", "vmdk", craftedVmdk(DESCRIPTOR.replace("SPARSE", "FLAT")), "UnsafeImage"],
  ["a descriptor alone", "vmdk", Buffer.from(DESCRIPTOR), "UnsafeImage"],
  ["another footer", "vmdk", patched(stream, [stream.length - 1012, le(8, 1)]), "UnsafeImage"],
  ["a fixed vhd in a raw", "raw", craftedFixedVhd(), "FormatMismatch"],
  ["a differencing vhd", "vhd", craftedDynamicVhd(4), "UnsafeImage"],
  [
    "a vhdx with a parent",
    "vhdx",
    patched(craftedVhdx(), [(2 * 1024 + 64) * 1024 + 4, le(4, 2)]),
    "UnsafeImage",
  ],
  ["a vdi with a parent", "vdi", patched(craftedVdi(), [0x1b8, "\x01"]), "UnsafeImage"],
  ["a qcow2 in an iso", "iso", patched(craftedIso(), [0, "QFI\xfb"]), "UnsafeImage"],
  ["a luks of another version", "raw", patched(craftedLuks(1), [6, be(2, 9)]), "UnsafeImage"],
  ["nothing", "raw", Buffer.alloc(0), "UnsafeImage"],
  ["a page", "raw", Buffer.from("<html>Sign in</html>"), "UnsafeImage"],
  [
    "a crosvm composite",
    "raw",
    patched(Buffer.alloc(4096), [0, "composite_disk\x1d"]),
    "UnsafeImage",
  ],
  ["gzip in a raw", "raw", patched(Buffer.alloc(4096), [0, "\x1f\x8b\x08"]), "FormatMismatch"],
];

describe("importImage() of a hostile image", () => {
  it("ends with the hint of the check that failed, as a person gets it", async ({ rig }) => {
    const cutOff = craftedVhdx().subarray(0, 200_000);

    for (const [bytes, diskFormat, hint] of [
      [patched(craftedQcow2(), [8, be(8, 4096)]), "qcow2", "qemu-img convert"],
      [cutOff, "vhdx", "Download or copy the image again"],
      [craftedQcow2(), "raw", "--disk-format"],
    ] as const) {
      const imageId = await rig.stagedImage(bytes);
      await rig.client.images.change(imageId, { diskFormat });
      await rig.client.imports.start(imageId, { stores: ["fast"] });

      expect(await failureOf(rig.client.imports.wait(imageId))).toMatchObject({
        hint: expect.stringContaining(hint) as string,
      });
    }
  });

  it("ends a refused start with the hint of the refusal", async ({ rig }) => {
    const { id } = await rig.client.images.create({ name: "no format" });

    expect(await failureOf(rig.client.imports.start(id))).toMatchObject({
      hint: expect.stringContaining(`image-import image set ${id} --disk-format`) as string,
    });
  });

  it("ends permanently at its verdict and leaves nothing", async ({ rig }) => {
    for (const [name, diskFormat, bytes, code] of HOSTILE) {
      const imageId = await rig.stagedImage(bytes);
      await rig.client.images.change(imageId, { diskFormat });
      const before = rig.calls.length;

      await rig.client.imports.start(imageId, { stores: ["fast", "slow"] });
      const failure = await failureOf(rig.client.imports.wait(imageId));

      expect({ name, code: failure.code, calls: rig.calls.slice(before) }).toEqual({
        name,
        code,
        // Tried once.
        calls: ["claimImport", "verifyStaging", "releaseImport"],
      });
      const nothing = { isClaimed: false, locations: [], leases: [], fast: [], slow: [] };
      // What a person staged is theirs until they delete the image, or its time has passed.
      expect(await rig.state(imageId)).toMatchObject({
        ...nothing,
        image: "uploading",
        staging: ["@"],
      });
      expect(await rig.client.images.delete(imageId)).toBe("deleted");
      expect(await rig.state(imageId)).toMatchObject({ ...nothing, image: "deleted", staging: [] });
    }
  });
});
