import { execFile } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { readFile, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzipSync } from "node:zlib";
import { describe, expect, it } from "vitest";
import type { DiskFormat } from "../../src/domain/disk-format.ts";
import { compareDisks, makeIso, makeRawDisk } from "../support/disk-images.ts";
import { failureOf } from "../support/failure-of.ts";
import { failsWith } from "../support/faults.ts";
import { honest, HostileOrigin } from "../support/hostile-origin.ts";
import { createRig, type ImportRig } from "../support/import-rig.ts";
import { BACK_TO_STAGED } from "../support/import-states.ts";
import { MIB } from "../support/mib.ts";
import { makeTemporaryDirectory } from "../support/temporary-directory.ts";

const run = promisify(execFile);
const TOOLS = {
  qemuImg: process.env["QEMU_IMG"] ?? "qemu-img",
  zstd: process.env["ZSTD"] ?? "zstd",
  xz: process.env["XZ"] ?? "xz",
  zip: process.env["ZIP_PROGRAM"] ?? "zip",
};

type Compression = "gzip" | "zstd" | "xz" | "zip" | undefined;

/** Compresses a file. Returns the path of what came out. */
async function compress(path: string, compression: Compression): Promise<string> {
  switch (compression) {
    case undefined:
      return path;
    case "gzip":
      await writeFile(`${path}.gz`, gzipSync(await readFile(path)));
      return `${path}.gz`;
    case "zstd":
      await run(TOOLS.zstd, ["-q", path, "-o", `${path}.zst`]);
      return `${path}.zst`;
    case "xz":
      await run(TOOLS.xz, ["-0", "--keep", path]);
      return `${path}.xz`;
    case "zip":
      await run(TOOLS.zip, ["-q", "-1", "-j", `${path}.zip`, path]);
      return `${path}.zip`;
  }
}

async function newImage(rig: ImportRig, diskFormat: DiskFormat): Promise<string> {
  const { id } = await rig.client.images.create({ diskFormat, containerFormat: "bare" });
  return id;
}

/** A service that decompresses and converts, and may reach origins on this machine. */
async function createTransformingRig(
  transforms: readonly unknown[] = ["decompress", "convert"],
  sections: Readonly<Record<string, unknown>> = {},
  ports: readonly number[] = [80],
): Promise<ImportRig> {
  return createRig({
    import: { transforms },
    transforms: sections,
    sources: { web: { ports, allowed_networks: ["127.0.0.0/8"] } },
  });
}

async function stagedFile(rig: ImportRig, path: string, diskFormat: DiskFormat): Promise<string> {
  const imageId = await newImage(rig, diskFormat);
  await rig.client.files.stage(imageId, path);
  return imageId;
}

interface RealImage {
  readonly what: string;
  readonly format: DiskFormat;
  /** The format in the words of qemu-img, with options; undefined: the raw disk itself. */
  readonly convert?: readonly string[];
  readonly compression?: Compression;
}

const REAL_IMAGES: readonly RealImage[] = [
  { what: "raw, gzip", format: "raw", compression: "gzip" },
  { what: "qcow2 v2", format: "qcow2", convert: ["-O", "qcow2", "-o", "compat=0.10"] },
  { what: "qcow2 v3, zstd", format: "qcow2", convert: ["-O", "qcow2"], compression: "zstd" },
  { what: "qcow2 compressed inside", format: "qcow2", convert: ["-c", "-O", "qcow2"] },
  {
    what: "vmdk monolithicSparse, zip",
    format: "vmdk",
    convert: ["-O", "vmdk", "-o", "subformat=monolithicSparse"],
    compression: "zip",
  },
  {
    what: "vmdk streamOptimized",
    format: "vmdk",
    convert: ["-O", "vmdk", "-o", "subformat=streamOptimized"],
  },
  { what: "vdi, xz", format: "vdi", convert: ["-O", "vdi"], compression: "xz" },
  { what: "vhdx", format: "vhdx", convert: ["-O", "vhdx"] },
  {
    what: "vhd dynamic, gzip",
    format: "vhd",
    convert: ["-O", "vpc", "-o", "subformat=dynamic,force_size=on"],
    compression: "gzip",
  },
  {
    what: "vhd fixed",
    format: "vhd",
    convert: ["-O", "vpc", "-o", "subformat=fixed,force_size=on"],
  },
];

describe("importImage() of real images, downloaded, decompressed and converted into two stores", () => {
  it.each(REAL_IMAGES)("keeps the disk of $what", async ({ format, convert, compression }) => {
    const directory = makeTemporaryDirectory();
    const raw = await makeRawDisk(directory, 8 * MIB);
    const source = convert === undefined ? raw : join(directory, "source");
    if (convert !== undefined) {
      await run(TOOLS.qemuImg, ["convert", "-f", "raw", ...convert, raw, source]);
    }
    const origin = await HostileOrigin.start(
      honest(await readFile(await compress(source, compression))),
    );
    const rig = await createTransformingRig(undefined, {}, [origin.port]);
    const imageId = await newImage(rig, format);

    await rig.client.imports.start(imageId, {
      method: "web-download",
      uri: origin.url(),
      stores: ["fast", "slow"],
    });
    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome).toMatchObject({ size: 8 * MIB, virtual_size: 8 * MIB });
    expect(outcome).toMatchObject({
      detected_format: "mbr",
      staged_format: compression ?? format,
    });
    expect(await rig.client.images.show(imageId)).toMatchObject({ disk_format: "raw" });
    for (const store of ["fast", "slow"]) {
      const stored = join(rig.directory, store, `${imageId}.1`);
      expect(await compareDisks("raw", raw, stored)).toContain("identical");
    }
    expect(await rig.state(imageId)).toMatchObject({ image: "active", leases: [], staging: [] });
    expect(await rig.client.files.verify(imageId)).toMatchObject([{ ok: true }, { ok: true }]);
  });

  it("leaves an ISO as it is, but for its compression", async () => {
    const iso = await makeIso(makeTemporaryDirectory());
    const rig = await createTransformingRig();
    const imageId = await stagedFile(rig, await compress(iso, "xz"), "iso");

    await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);

    const stored = await readFile(join(rig.directory, "fast", `${imageId}.1`));
    expect(stored.equals(await readFile(iso))).toBe(true);
    expect(await rig.client.images.show(imageId)).toMatchObject({ disk_format: "iso" });
  });

  it.each(["qcow2", "vmdk"] as const)("converts to %s", async (target) => {
    const raw = await makeRawDisk(makeTemporaryDirectory(), 8 * MIB);
    const rig = await createTransformingRig(["convert"], { convert: { output_format: target } });
    const imageId = await stagedFile(rig, raw, "raw");

    await rig.client.imports.start(imageId);
    const outcome = await rig.client.imports.wait(imageId);

    const stored = join(rig.directory, "fast", `${imageId}.1`);
    const { stdout } = await run(TOOLS.qemuImg, [
      ...["compare", "-f", "raw", "-F", target, raw, stored],
    ]);
    expect(stdout).toContain("identical");
    expect(outcome).toMatchObject({ size: (await stat(stored)).size, virtual_size: 8 * MIB });
    expect(await rig.client.images.show(imageId)).toMatchObject({ disk_format: target });
  });
});

describe("importImage() whose transforms do not come to an end", () => {
  it("keeps the upload and the declared format", async () => {
    const directory = makeTemporaryDirectory();
    const raw = await makeRawDisk(directory, 8 * MIB);
    const qcow2 = join(directory, "source");
    await run(TOOLS.qemuImg, ["convert", "-f", "raw", "-O", "qcow2", raw, qcow2]);
    const rig = await createTransformingRig();
    const imageId = await stagedFile(rig, await compress(qcow2, "gzip"), "qcow2");
    rig.fail("storeImage fast", failsWith("NoSpace", "it is full"));

    await rig.client.imports.start(imageId);
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toBe("NoSpace");
    expect(await rig.state(imageId)).toMatchObject({ ...BACK_TO_STAGED, failedStores: ["fast"] });
    expect(await rig.client.images.show(imageId)).toMatchObject({ disk_format: "qcow2" });
    await rig.client.imports.start(imageId);
    await rig.client.imports.wait(imageId);
    expect(await rig.client.images.show(imageId)).toMatchObject({
      status: "active",
      disk_format: "raw",
    });
  });

  it.each([
    { what: "is a bomb", bytes: () => gzipSync(Buffer.alloc(256 * MIB)), code: "ProductTooLarge" },
    {
      what: "is cut off",
      bytes: () => gzipSync(randomBytes(MIB)).subarray(0, 1000),
      code: "DecompressionFailed",
    },
    {
      what: "is followed by something",
      bytes: () => Buffer.concat([gzipSync(randomBytes(MIB)), Buffer.from("more")]),
      code: "DecompressionFailed",
    },
    {
      what: "holds a qcow2 that was declared raw",
      bytes: async () => {
        const path = join(makeTemporaryDirectory(), "hidden.qcow2");
        await run(TOOLS.qemuImg, ["create", "-q", "-f", "qcow2", path, "1M"]);
        return gzipSync(await readFile(path));
      },
      code: "FormatMismatch",
    },
    { what: "holds nothing", bytes: () => gzipSync(""), code: "UnsafeImage" },
    { what: "holds a page", bytes: () => gzipSync("<html>Sign in</html>"), code: "UnsafeImage" },
    {
      what: "holds a disk that is compressed once more",
      bytes: () => gzipSync(gzipSync(randomBytes(MIB))),
      code: "FormatMismatch",
    },
  ])("fails permanently when the data $what, and leaves nothing", async ({ bytes, code }) => {
    const rig = await createTransformingRig();
    const imageId = await rig.stagedImage(await bytes());

    await rig.client.imports.start(imageId);
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toBe(code);
    expect(rig.calls.filter((call) => call.startsWith("storeImage"))).toEqual([]);
    expect(await rig.state(imageId)).toMatchObject(BACK_TO_STAGED);
  });

  it("fails permanently when the disk in the data refers to another file", async () => {
    const directory = makeTemporaryDirectory();
    const [backing, overlay] = [join(directory, "backing"), join(directory, "overlay")];
    await run(TOOLS.qemuImg, ["create", "-q", "-f", "raw", backing, "1M"]);
    await run(TOOLS.qemuImg, [
      ...["create", "-q", "-f", "qcow2", "-b", backing, "-F", "raw", overlay],
    ]);
    const rig = await createTransformingRig();
    const imageId = await stagedFile(rig, await compress(overlay, "zstd"), "qcow2");

    await rig.client.imports.start(imageId);
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toBe("UnsafeImage");
    expect(rig.calls.filter((call) => call.startsWith("transformStaged"))).toHaveLength(1);
    expect(await rig.state(imageId)).toMatchObject(BACK_TO_STAGED);
  });

  it("stops before the quota of the owner is exceeded", async () => {
    const rig = await createRig({
      import: { transforms: ["decompress"] },
      limits: { image_size_total: 2 * MIB },
    });
    const imageId = await rig.stagedImage(gzipSync(Buffer.alloc(8 * MIB)));

    await rig.client.imports.start(imageId);
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toMatch(/^(ProductTooLarge|QuotaExceeded)$/);
    expect(await rig.state(imageId)).toMatchObject(BACK_TO_STAGED);
  });
});

describe("importImage() that injects metadata", () => {
  const SECTIONS = { inject_metadata: { properties: { origin: "web", tier: "gold" } } };

  it("sets the properties when the image becomes active, and leaves those of the user", async () => {
    const rig = await createTransformingRig(["inject_metadata"], SECTIONS);
    const imageId = await rig.stagedImage(randomBytes(1000));
    await rig.client.images.change(imageId, { setProperties: { mine: "yes", tier: "iron" } });

    await rig.client.imports.start(imageId, { roles: ["member"] });
    await rig.client.imports.wait(imageId);

    expect((await rig.client.images.show(imageId)).properties).toEqual({
      mine: "yes",
      origin: "web",
      tier: "gold",
    });
  });

  it("sets nothing for the roles that are left out", async () => {
    const rig = await createTransformingRig(["inject_metadata"], SECTIONS);
    const imageId = await rig.stagedImage(randomBytes(1000));

    await rig.client.imports.start(imageId, { roles: ["member", "admin"] });
    await rig.client.imports.wait(imageId);

    expect((await rig.client.images.show(imageId)).properties).toEqual({});
  });

  it("does nothing to copies of an active image", async () => {
    const rig = await createTransformingRig(["inject_metadata"], SECTIONS);
    const imageId = await rig.stagedImage(randomBytes(1000));
    await rig.client.imports.start(imageId, { roles: ["admin"] });
    await rig.client.imports.wait(imageId);

    await rig.client.imports.copy(imageId, { stores: ["slow"] });
    await rig.client.imports.wait(imageId);

    expect((await rig.client.images.show(imageId)).properties).toEqual({});
    expect(rig.calls.filter((call) => call === "transformStaged")).toHaveLength(1);
  });
});

describe("importImage() with a choice of transforms", () => {
  const NAMES = ["decompress", "inject_metadata"];
  const SECTIONS = { inject_metadata: { properties: { origin: "web" } } };
  const disk = randomBytes(MIB);

  it.each([
    { transforms: undefined, size: MIB, properties: { origin: "web" }, ran: NAMES },
    { transforms: ["decompress"], size: MIB, properties: {}, ran: ["decompress"] },
    {
      transforms: ["inject_metadata", "decompress"],
      size: MIB,
      properties: { origin: "web" },
      ran: ["inject_metadata", "decompress"],
    },
  ])("runs $transforms", async ({ transforms, size, properties, ran }) => {
    const rig = await createTransformingRig(NAMES, SECTIONS);
    const imageId = await rig.stagedImage(gzipSync(disk));

    await rig.client.imports.start(imageId, { transforms });
    const outcome = await rig.client.imports.wait(imageId);

    expect(outcome).toMatchObject({ size });
    expect((await rig.client.images.show(imageId)).properties).toEqual(properties);
    const [imported] = await rig.client.images.history(imageId);
    expect(imported).toMatchObject({ transforms: ran.map((name) => ({ name })) });
  });

  it("runs none, and imports the bytes as they are", async () => {
    const rig = await createTransformingRig(NAMES, SECTIONS);
    const imageId = await rig.stagedImage(disk);

    await rig.client.imports.start(imageId, { transforms: [] });
    await rig.client.imports.wait(imageId);

    expect(rig.calls).not.toContain("transformStaged");
    expect((await rig.client.images.show(imageId)).properties).toEqual({});
  });

  it("refuses a transform that is not configured, and changes nothing", async () => {
    const rig = await createTransformingRig(NAMES, SECTIONS);
    const imageId = await rig.stagedImage(disk);

    const failure = await failureOf(
      rig.client.imports.start(imageId, { transforms: ["decompress", "convert"] }),
    );

    expect(failure).toMatchObject({
      code: "BadRequest",
      message: 'There is no transform "convert"; configured are decompress, inject_metadata',
    });
    expect(await rig.state(imageId)).toMatchObject({ image: "uploading", task: null });
  });
});

describe("importImage() with a checksum of what is transformed", () => {
  it.each(["stagedImage", "adoptedImage"] as const)("compares what came, a %s", async (kind) => {
    const bytes = gzipSync(randomBytes(MIB));
    const rig = await createTransformingRig(["decompress"]);
    const imageId = await rig[kind](bytes);

    await rig.client.imports.start(imageId, { checksum: `sha512:${"0".repeat(128)}` });
    const failure = await failureOf(rig.client.imports.wait(imageId));

    expect(failure.code).toBe("ChecksumMismatch");
    const value = createHash("sha512").update(bytes).digest("hex");
    await rig.client.imports.start(imageId, { checksum: `sha512:${value}` });
    expect(await rig.client.imports.wait(imageId)).toMatchObject({ size: MIB });
  });
});
