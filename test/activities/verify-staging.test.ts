import { execFileSync } from "node:child_process";
import { appendFile, mkdir, rm, symlink, unlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { sql } from "drizzle-orm";
import { describe, expect, vi } from "vitest";
import { useCatalogue } from "../support/catalogue.ts";
import {
  be,
  craftedFixedVhd,
  craftedIso,
  craftedQcow2,
  craftedVdi,
  craftedVhdx,
  craftedVmdk,
  patched,
} from "../support/crafted-images.ts";
import { failureOf } from "../support/failure-of.ts";
import { MIB } from "../support/mib.ts";
import {
  type NodeRig,
  onNode,
  openNode,
  someBytes,
  WAYS_TO_LOSE_AN_IMAGE,
} from "../support/node-rig.ts";
import { MAY_MOUNT } from "../support/volume.ts";

const catalogue = useCatalogue();
const it = onNode(catalogue);

/** Bytes with a text at some place, else zero. */
function marked(mark: string, offset = 0, sizeBytes = 128 * 1024): Buffer {
  const bytes = Buffer.alloc(sizeBytes);
  bytes.write(mark, offset, "latin1");
  return bytes;
}

const FORMATS: readonly (readonly [string, Buffer])[] = [
  ["qcow2", craftedQcow2()],
  ["vmdk", craftedVmdk()],
  ["vhd", craftedFixedVhd()],
  ["vhdx", craftedVhdx()],
  ["vdi", craftedVdi()],
  ["iso", craftedIso()],
];

async function verify(rig: NodeRig, bytes: Buffer, fields: object = {}) {
  return rig.verify(await rig.claim(await rig.stage(bytes, fields)));
}

describe("verifyStaging()", () => {
  it("describes an upload, with its digests and the checks that it passed", async ({ rig }) => {
    const bytes = someBytes(5000);
    const plan = await rig.stageAndClaim(bytes);

    const verified = await rig.verify(plan);

    expect(verified).toEqual({
      size: 5000,
      virtual_size: 5120,
      detected_format: "raw",
      checks: {
        one_format: "pass",
        content: "pass",
        declared_format: "pass",
        disk_format: "pass",
        container_format: "pass",
        mbr: "pass",
        complete: "pass",
        virtual_size: "pass",
        virtual_ratio: "pass",
      },
      digests: await rig.digest(plan, 5000),
    });
  });

  it("knows no digests of a file that the user put into staging", async ({ rig }) => {
    await writeFile(rig.staged("disk.raw"), someBytes(700));
    const plan = await rig.claim(await catalogue.newImage(), { uri: rig.uri("disk.raw") });

    expect(await rig.verify(plan)).toMatchObject({ size: 700, digests: null });
  });

  it("accepts a file that was corrected after its import had failed", async ({ rig }) => {
    const uri = rig.uri("disk.raw");
    await writeFile(rig.staged("disk.raw"), someBytes(700));
    const failed = await rig.claim(await catalogue.newImage(), { uri });
    await rig.verify(failed);
    await rig.digest(failed, 700);
    await rig.release(failed);
    await writeFile(rig.staged("disk.raw"), someBytes(800));

    const plan = await rig.claim(failed.image_id, { uri });

    expect(await rig.verify(plan)).toMatchObject({ size: 800, digests: null });
  });

  it("refuses a file that is changed while it is imported", async ({ rig }) => {
    const uri = rig.uri("disk.raw");
    await writeFile(rig.staged("disk.raw"), someBytes(700));
    const plan = await rig.claim(await catalogue.newImage(), { uri });
    await rig.verify(plan);
    await writeFile(rig.staged("disk.raw"), someBytes(800));

    const again = await rig.claim(plan.image_id, { uri }, plan.run_id);

    expect(again.epoch).toBe(plan.epoch);
    expect((await failureOf(rig.verify(again))).code).toBe("StagedDataChanged");
  });

  it("returns the same when it is run again, and changes nothing", async ({ rig }) => {
    const plan = await rig.adoptAndClaim(someBytes(700));
    const first = await rig.verify(plan);
    const before = await rig.snapshot(plan);

    expect(await rig.verify(plan)).toEqual(first);
    expect(await rig.snapshot(plan)).toEqual(before);
  });

  it.for(WAYS_TO_LOSE_AN_IMAGE)("refuses an import %s", async ([_, lose], { rig }) => {
    const plan = await rig.stageAndClaim(someBytes(700));
    const late = await lose(rig, plan);

    expect(await failureOf(rig.verify(late))).toMatchObject({ code: "ImportLost" });
  });
});

describe("verifyStaging() of an import that loses its image meanwhile", () => {
  it("adopts no file", async ({ rig }) => {
    const { staging } = rig.dependencies;
    await writeFile(rig.staged("disk.raw"), someBytes(700));
    const plan = await rig.claim(await catalogue.newImage(), { uri: rig.uri("disk.raw") });
    const open = staging.openStaged.bind(staging);
    vi.spyOn(staging, "openStaged").mockImplementationOnce(async (...place) => {
      const opened = await open(...place);
      await rig.release(plan);
      return opened;
    });

    const failure = await failureOf(rig.verify(plan));

    expect(failure.code).toBe("ImportLost");
    expect(await catalogue.allLeases(plan.image_id)).toEqual([]);
  });

  it("reports the lost image, and not a missing file", async ({ rig }) => {
    const plan = await rig.claim(await catalogue.newImage(), { uri: rig.uri("gone.raw") });
    await rig.release(plan);

    expect((await failureOf(rig.verify(plan))).code).toBe("ImportLost");
  });
});

describe("verifyStaging() looks for the bytes", () => {
  it.each(["", "/", "//"])(
    "at <node staging uri>/<image id>, given a URI that ends with %j",
    async (end) => {
      const rig = await openNode(catalogue, {
        makeStaging: async (directory) => {
          await mkdir(join(directory, "staging"));
          return `${pathToFileURL(join(directory, "staging")).href}${end}`;
        },
      });
      const plan = await rig.stageAndClaim(someBytes(700));

      await rig.verify(plan);

      expect(rig.dependencies.staging.uriOf(plan.image_id)).toBe(
        `file://${rig.directory}/staging/${plan.image_id}`,
      );
      expect((await catalogue.staged(plan.image_id))?.path).toBe(rig.staged(plan.image_id));
    },
  );

  it("below a staging root that is reached through a symbolic link", async () => {
    const rig = await openNode(catalogue, {
      makeStaging: async (directory) => {
        await mkdir(join(directory, "staging"));
        await symlink(join(directory, "staging"), join(directory, "alias"));
        return pathToFileURL(join(directory, "alias")).href;
      },
    });
    const plan = await rig.stageAndClaim(someBytes(700));

    expect(await rig.verify(plan)).toMatchObject({ size: 700 });
  });

  it("at the URI that the request names, also in a directory below the root", async ({ rig }) => {
    await mkdir(rig.staged("inner"));
    await writeFile(rig.staged("inner/a disk.raw"), someBytes(700));
    const uri = rig.uri("inner/a disk.raw");
    const plan = await rig.claim(await catalogue.newImage(), { uri });

    expect(await rig.verify(plan)).toMatchObject({ size: 700 });
    expect(uri).toMatch(/a%20disk\.raw$/);
  });

  it("and reports that there is no file", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(700));
    await unlink(rig.staged(plan.image_id));

    expect(await failureOf(rig.verify(plan))).toMatchObject({
      code: "StagedDataMissing",
      message: `Cannot find the staged data "${rig.staged(plan.image_id)}": the file does not exist`,
    });
  });

  it("and reports that a named file does not exist", async ({ rig }) => {
    const plan = await rig.claim(await catalogue.newImage(), { uri: rig.uri("no/disk.raw") });

    expect(await failureOf(rig.verify(plan))).toMatchObject({
      code: "StagedDataMissing",
      message: `Cannot find the staged data "${rig.staged("no/disk.raw")}": the file does not exist`,
    });
  });
});

describe("verifyStaging() refuses anything but a regular file below the staging root", () => {
  it.for([
    ["symbolic link", async (path: string) => symlink("/etc/hostname", path)],
    ["directory", async (path: string) => mkdir(path)],
    ["FIFO", async (path: string) => execFileSync("mkfifo", [path])],
  ] as const)("a %s at the default place", async ([kind, make], { rig }) => {
    const plan = await rig.stageAndClaim(someBytes(700));
    const path = rig.staged(plan.image_id);
    await rm(path);
    await make(path);

    expect(await failureOf(rig.verify(plan))).toMatchObject({
      code: "StagedDataRefused",
      message: `Cannot open "${path}": it is a ${kind}, not a regular file`,
    });
  });

  it.skipIf(!MAY_MOUNT)(
    `a device${MAY_MOUNT ? "" : " (skipped: only root makes one)"}`,
    async ({ rig }) => {
      execFileSync("mknod", [rig.staged("device"), "c", "1", "3"]);
      const plan = await rig.claim(await catalogue.newImage(), { uri: rig.uri("device") });

      expect(await failureOf(rig.verify(plan))).toMatchObject({
        code: "StagedDataRefused",
        message: `Cannot open "${rig.staged("device")}": it is a character device, not a regular file`,
      });
    },
  );

  it.for([
    ["a file elsewhere", () => "file:///etc/hostname"],
    ["a file elsewhere that is not there", () => "file:///etc/no-such-file/x"],
    ["a way out", (rig: NodeRig) => rig.uri("x").replace(/x$/, "../fast/file")],
    ["an encoded way out", (rig: NodeRig) => rig.uri("x").replace(/x$/, "%2e%2e/fast/file")],
    ["the root itself", (rig: NodeRig) => rig.uri(".")],
  ] as const)("%s", async ([_, uriOf], { rig }) => {
    await writeFile(rig.stored("file"), someBytes(700));
    const plan = await rig.claim(await catalogue.newImage(), { uri: uriOf(rig) });

    expect(await failureOf(rig.verify(plan))).toMatchObject({
      code: "StagedDataRefused",
      message: expect.stringContaining(
        `it does not lie below "${rig.directory}/staging"`,
      ) as string,
    });
  });

  it("a file reached through a symbolic link that leads out", async ({ rig }) => {
    await writeFile(rig.stored("file"), someBytes(700));
    await symlink(rig.stored(""), rig.staged("exit"));
    const plan = await rig.claim(await catalogue.newImage(), { uri: rig.uri("exit/file") });

    expect(await failureOf(rig.verify(plan))).toMatchObject({ code: "StagedDataRefused" });
  });
});

describe("verifyStaging() judges the format", () => {
  it.for(FORMATS)("and accepts %s that is declared as such", async ([format, bytes], { rig }) => {
    const verified = await verify(rig, bytes, { diskFormat: format });

    expect(verified.detected_format).toBe(format);
    expect(new Set(Object.values(verified.checks))).toEqual(new Set(["pass"]));
  });

  // A disc may be attached as a disk.
  it.for(FORMATS.filter(([format]) => format !== "iso"))(
    "and refuses %s that is declared as raw",
    async ([format, bytes], { rig }) => {
      expect(await failureOf(verify(rig, bytes, { diskFormat: "raw" }))).toMatchObject({
        code: "FormatMismatch",
        message: `Cannot accept the image as "raw": its bytes are "${format}"`,
        retryable: false,
      });
    },
  );

  it.for(FORMATS.map(([format]) => format))(
    "and refuses raw that is declared as %s",
    async (format, { rig }) => {
      expect(await failureOf(verify(rig, someBytes(700), { diskFormat: format }))).toMatchObject({
        code: "FormatMismatch",
        message: `Cannot accept the image as "${format}": its bytes are "raw"`,
      });
    },
  );

  it("and refuses qed, whatever was declared", async ({ rig }) => {
    expect(await failureOf(verify(rig, marked("QED\0")))).toMatchObject({
      code: "UnsafeImage",
      message: "Cannot accept the image: it is a qed, a format that QEMU itself has abandoned",
    });
  });

  it("and refuses an image that refers to another file", async ({ rig }) => {
    const overlay = patched(craftedQcow2(), [8, be(8, 512)], [16, be(4, 11)], [512, "/etc/passwd"]);

    expect(await failureOf(verify(rig, overlay, { diskFormat: "qcow2" }))).toMatchObject({
      code: "UnsafeImage",
      message: "Cannot accept the image: it is a qcow2 overlay that refers to a backing file",
      retryable: false,
    });
  });

  it("but not of data inside another container", async ({ rig }) => {
    const formats = { diskFormat: "vmdk", containerFormat: "ova" };

    expect(await verify(rig, marked("ustar", 257), formats)).toMatchObject({
      detected_format: "tar",
      virtual_size: null,
    });
    expect(await failureOf(verify(rig, craftedQcow2(), formats))).toMatchObject({
      code: "FormatMismatch",
      message: 'Cannot accept the image as "ova": its bytes are a bare "qcow2"',
    });
  });

  it("by the policy of this service", async () => {
    const strict = await openNode(catalogue, { formatPolicy: { diskFormats: ["qcow2"] } });
    const lenient = await openNode(catalogue, { formatPolicy: { requireImageFormatMatch: false } });

    expect(await failureOf(verify(strict, someBytes(700)))).toMatchObject({
      code: "FormatNotAllowed",
      retryable: false,
    });
    expect((await verify(lenient, craftedQcow2())).checks["declared_format"]).toBe(
      'its bytes are "qcow2"',
    );
  });

  it("and reports the size of the disk that a guest would see", async ({ rig }) => {
    expect(await verify(rig, craftedQcow2(), { diskFormat: "qcow2" })).toMatchObject({
      size: 256 * 1024,
      virtual_size: 5 * MIB,
    });
  });

  it("of bytes that are still those that were staged", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(700));
    await appendFile(rig.staged(plan.image_id), "more");

    expect(await failureOf(rig.verify(plan))).toMatchObject({ code: "StagedDataChanged" });
  });

  it("and not while the catalogue has them as being staged again", async ({ rig }) => {
    const plan = await rig.stageAndClaim(someBytes(700));
    await catalogue.execute(
      sql`UPDATE leases SET state = 'writing' WHERE image_id = ${plan.image_id}`,
    );

    expect(await failureOf(rig.verify(plan))).toMatchObject({ code: "StagedDataMissing" });
  });
});
