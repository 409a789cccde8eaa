import { randomBytes } from "node:crypto";
import { copyFile, mkdir, readFile, truncate, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { runTool } from "./image-tools.ts";
import { MIB } from "./mib.ts";

const DISK_BYTES = 8 * MIB;

/** An image that a real program makes, and the verdict on it. */
export interface CorpusImage {
  readonly name: string;
  readonly make: (path: string, corpus: Corpus) => Promise<unknown>;
  readonly format: string;
  /**
   * Null when it is not known; undefined where it depends on the program. Default: that of the
   * disk, 8 MiB.
   */
  readonly virtualSizeBytes?: number | null | undefined;
  /** Checks that refuse it. Default: none. */
  readonly fails?: readonly string[];
  /** Checks that fail and are tolerated by the default policy. Default: none. */
  readonly tolerates?: readonly string[];
}

/** The tools and directories that make images. */
export interface Corpus {
  readonly directory: string;
  /** A raw disk of 8 MiB, half of it data. */
  readonly diskPath: string;
  /** A folder with two files. */
  readonly folder: string;
}

/** Prepares what images are made from. */
export async function prepareCorpus(directory: string): Promise<Corpus> {
  const diskPath = join(directory, "disk.raw");
  const data = Buffer.concat([Buffer.alloc(MIB), randomBytes(4 * MIB), Buffer.alloc(3 * MIB)]);
  await writeFile(diskPath, data);
  const folder = join(directory, "folder");
  await mkdir(folder);
  await writeFile(join(folder, "README.TXT"), "A disc of the tests\n");
  await writeFile(join(folder, "data.bin"), randomBytes(MIB));
  return { directory, diskPath, folder };
}

function converted(format: string, options = "", ...flags: readonly string[]): CorpusImage["make"] {
  return async (path, { diskPath }) => {
    const settings = options === "" ? [] : ["-o", options];
    const args = ["-f", "raw", "-O", format, ...flags, ...settings, diskPath, path];
    await runTool("qemu-img", ["convert", ...args]);
  };
}

function created(format: string, options: string): CorpusImage["make"] {
  return async (path) => {
    // The passphrase of those that are encrypted.
    const secret = ["--object", "secret,id=s,data=secret"];
    const create = async (attempt: number): Promise<unknown> =>
      runTool("qemu-img", ["create", ...secret, "-f", format, "-o", options, path, "8M"]).catch(
        (error: unknown) => {
          // It gives up when the CPU time of a passphrase's hash, which the kernel counts in ticks,
          // is none.
          const isUncounted = /Unable to get accurate CPU usage/.test(String(error));
          if (!isUncounted || attempt === 50) throw error;
          return create(attempt + 1);
        },
      );
    await create(1);
  };
}

/**
 * Like VMware: the header leaves open where the grain directory is, and a footer says it. qemu-img
 * reads it, and writes none.
 */
const streamWithFooter: CorpusImage["make"] = async (path, corpus) => {
  await converted("vmdk", "subformat=streamOptimized")(path, corpus);
  const image = await readFile(path);
  const footer = Buffer.from(image.subarray(0, 512));
  image.fill(0xff, 56, 64);
  const marker = Buffer.alloc(512);
  marker.writeUInt32LE(1, 0);
  marker.writeUInt32LE(3, 12);
  await writeFile(path, Buffer.concat([image, marker, footer, Buffer.alloc(512)]));
  await runTool("qemu-img", ["compare", "-f", "raw", "-F", "vmdk", corpus.diskPath, path]);
};

function overlay(format: string): CorpusImage["make"] {
  return async (path, corpus) => {
    const base = join(corpus.directory, `base.${format}`);
    await converted(format)(base, corpus);
    await runTool("qemu-img", ["create", "-f", format, "-b", base, "-F", format, path]);
  };
}

function partitioned(...lines: readonly string[]): CorpusImage["make"] {
  return async (path) => {
    await emptyDisk(path);
    await runTool("sfdisk", ["-q", path], { input: `${lines.join("\n")}\n` });
  };
}

function partitionedBySgdisk(...args: readonly string[]): CorpusImage["make"] {
  return async (path) => {
    await emptyDisk(path);
    await runTool("sgdisk", [...args, path]);
  };
}

async function emptyDisk(path: string): Promise<void> {
  await writeFile(path, "");
  await truncate(path, DISK_BYTES);
}

function encrypted(type: "luks1" | "luks2"): CorpusImage["make"] {
  return async (path) => {
    await writeFile(path, "");
    await truncate(path, 20 * MIB);
    const quick = ["--pbkdf", "pbkdf2", "--pbkdf-force-iterations", "1000"];
    const args = ["luksFormat", "-q", "--type", type, ...quick, "--key-file", "-", path];
    await runTool("cryptsetup", args, { input: "secret" });
  };
}

function disc(...args: readonly string[]): CorpusImage["make"] {
  return async (path, { folder }) => {
    const mkisofs = ["-as", "mkisofs", "-quiet", "-R", "-J", "-V", "TESTS"];
    await runTool("xorriso", [...mkisofs, ...args, "-o", path, folder]);
  };
}

function hybridDisc(...args: readonly string[]): CorpusImage["make"] {
  return async (path, corpus) => {
    // What stands in for the file system of a boot partition.
    const partition = join(corpus.directory, "partition");
    await writeFile(partition, randomBytes(MIB));
    await disc("-append_partition", "2", "0xef", partition, ...args)(path, corpus);
  };
}

function compressed(
  program: "gzip" | "zstd" | "xz",
  ...args: readonly string[]
): CorpusImage["make"] {
  return async (path, { diskPath }) => {
    await copyFile(diskPath, `${path}.disk`);
    const suffix = { gzip: "gz", zstd: "zst", xz: "xz" }[program];
    await runTool(program, [...args, `${path}.disk`]);
    await copyFile(`${path}.disk.${suffix}`, path);
  };
}

function archived(program: "tar" | "zip", ...args: readonly string[]): CorpusImage["make"] {
  return async (path, { directory }) => {
    const name = program === "zip" ? `${path}.zip` : path;
    await runTool(program, [...args, name, "disk.raw"], { cwd: directory });
    if (name !== path) await copyFile(name, path);
  };
}

const QCOW2: readonly CorpusImage[] = [
  { name: "qcow2 v3", make: converted("qcow2", "compat=1.1"), format: "qcow2" },
  { name: "qcow2 v2", make: converted("qcow2", "compat=0.10"), format: "qcow2" },
  { name: "qcow2 compressed", make: converted("qcow2", "", "-c"), format: "qcow2" },
  {
    name: "qcow2 compressed by zstd",
    make: converted("qcow2", "compression_type=zstd", "-c"),
    format: "qcow2",
  },
  { name: "qcow2 extended L2", make: converted("qcow2", "extended_l2=on"), format: "qcow2" },
  { name: "qcow2 512 B clusters", make: converted("qcow2", "cluster_size=512"), format: "qcow2" },
  { name: "qcow2 2 MiB clusters", make: converted("qcow2", "cluster_size=2M"), format: "qcow2" },
  { name: "qcow2 preallocated", make: converted("qcow2", "preallocation=full"), format: "qcow2" },
  { name: "qcow2 lazy refcounts", make: converted("qcow2", "lazy_refcounts=on"), format: "qcow2" },
  { name: "qcow2 1-bit refcounts", make: converted("qcow2", "refcount_bits=1"), format: "qcow2" },
  { name: "qcow2 empty", make: created("qcow2", "preallocation=off"), format: "qcow2" },
  { name: "qcow2 overlay", make: overlay("qcow2"), format: "qcow2", fails: ["backing_file"] },
  {
    name: "qcow2 with a data file",
    make: async (path, corpus) =>
      converted("qcow2", `data_file=${path}.data,data_file_raw=on`)(path, corpus),
    format: "qcow2",
    fails: ["data_file"],
  },
  {
    name: "qcow2 LUKS",
    make: created("qcow2", "encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10"),
    format: "qcow2",
    tolerates: ["encryption"],
  },
  {
    name: "qcow2 AES",
    make: created("qcow2", "encrypt.format=aes,encrypt.key-secret=s"),
    format: "qcow2",
    fails: ["encryption"],
  },
  {
    name: "qcow2 with a snapshot",
    make: async (path, corpus) => {
      await converted("qcow2")(path, corpus);
      await runTool("qemu-img", ["snapshot", "-c", "one", path]);
    },
    format: "qcow2",
    tolerates: ["snapshots"],
  },
  {
    name: "qcow2 with a bitmap",
    make: async (path, corpus) => {
      await converted("qcow2")(path, corpus);
      await runTool("qemu-img", ["bitmap", "--add", path, "one"]);
    },
    format: "qcow2",
  },
  {
    name: "qcow",
    make: converted("qcow"),
    format: "qcow2",
    virtualSizeBytes: null,
    fails: ["header"],
  },
];

const VMDK: readonly CorpusImage[] = [
  ...["monolithicSparse", "streamOptimized"].map((subformat) => ({
    name: `vmdk ${subformat}`,
    make: converted("vmdk", `subformat=${subformat}`),
    format: "vmdk",
  })),
  ...["monolithicFlat", "twoGbMaxExtentSparse", "twoGbMaxExtentFlat"].map((subformat) => ({
    name: `vmdk ${subformat}`,
    make: converted("vmdk", `subformat=${subformat}`),
    format: "vmdk",
    virtualSizeBytes: null,
    fails: ["header"],
  })),
  { name: "vmdk streamOptimized with a footer", make: streamWithFooter, format: "vmdk" },
  {
    name: "vmdk extent of another",
    make: async (path, corpus) => {
      await converted("vmdk", "subformat=twoGbMaxExtentSparse")(`${path}.vmdk`, corpus);
      await copyFile(`${path}-s001.vmdk`, path);
    },
    format: "vmdk",
    fails: ["descriptor", "create_type", "extent"],
  },
  { name: "vmdk overlay", make: overlay("vmdk"), format: "vmdk", fails: ["parent"] },
];

const OTHER_DISKS: readonly CorpusImage[] = [
  { name: "raw", make: converted("raw"), format: "raw" },
  {
    name: "vhd dynamic",
    make: converted("vpc", "subformat=dynamic,force_size=on"),
    format: "vhd",
  },
  { name: "vhd fixed", make: converted("vpc", "subformat=fixed,force_size=on"), format: "vhd" },
  {
    name: "vhd of whole cylinders",
    make: converted("vpc", "subformat=dynamic"),
    format: "vhd",
    virtualSizeBytes: undefined,
  },
  { name: "vhdx dynamic", make: converted("vhdx", "subformat=dynamic"), format: "vhdx" },
  { name: "vhdx fixed", make: converted("vhdx", "subformat=fixed"), format: "vhdx" },
  { name: "vdi dynamic", make: converted("vdi"), format: "vdi" },
  { name: "vdi static", make: converted("vdi", "static=on"), format: "vdi" },
  { name: "qed", make: converted("qed"), format: "qed", virtualSizeBytes: null, fails: ["banned"] },
  {
    name: "parallels",
    make: converted("parallels"),
    format: "parallels",
    virtualSizeBytes: null,
    fails: ["importable"],
  },
  {
    name: "luks by qemu-img",
    make: created("luks", "key-secret=s,iter-time=10"),
    format: "luks",
    tolerates: ["encryption"],
  },
  {
    name: "luks1",
    make: encrypted("luks1"),
    format: "luks",
    tolerates: ["encryption"],
    virtualSizeBytes: 18 * MIB,
  },
  {
    name: "luks2",
    make: encrypted("luks2"),
    format: "luks",
    virtualSizeBytes: 4 * MIB,
    tolerates: ["encryption"],
  },
];

const PARTITIONED: readonly CorpusImage[] = [
  { name: "sfdisk gpt", make: partitioned("label: gpt", "size=2M"), format: "gpt" },
  {
    name: "sfdisk dos",
    make: partitioned("label: dos", "size=2M,type=83,bootable", "type=82"),
    format: "mbr",
  },
  {
    name: "sfdisk dos, empty",
    make: partitioned("label: dos"),
    format: "raw",
    tolerates: ["mbr"],
  },
  { name: "sgdisk gpt", make: partitionedBySgdisk("-n", "1:2048:8000"), format: "gpt" },
  {
    name: "sgdisk hybrid mbr",
    make: async (path, corpus) => {
      await partitionedBySgdisk("-n", "1:2048:8000")(path, corpus);
      await runTool("sgdisk", ["-h", "1", path]);
    },
    format: "gpt",
    tolerates: ["mbr"],
  },
];

const DISCS: readonly CorpusImage[] = [
  { name: "iso", make: disc(), format: "iso", virtualSizeBytes: undefined },
  { name: "iso and mbr", make: hybridDisc(), format: "iso", virtualSizeBytes: undefined },
  {
    name: "iso and gpt",
    make: hybridDisc("-appended_part_as_gpt"),
    format: "iso",
    virtualSizeBytes: undefined,
  },
  {
    name: "iso and mbr with an offset",
    make: hybridDisc("-partition_offset", "16"),
    format: "iso",
    virtualSizeBytes: undefined,
  },
];

const FOREIGN: readonly CorpusImage[] = [
  ...[
    ["gzip", compressed("gzip", "-k")] as const,
    ["zstd", compressed("zstd", "-q")] as const,
    ["xz", compressed("xz", "-k", "-0")] as const,
    ["zip", archived("zip", "-q")] as const,
    ["tar", archived("tar", "--format=gnu", "-cf")] as const,
  ].map(([format, make]) => ({
    name: format,
    make,
    format,
    virtualSizeBytes: null,
    fails: ["importable"],
  })),
  ...["v7", "ustar", "pax"].map((kind) => ({
    name: `tar ${kind}`,
    make: archived("tar", `--format=${kind}`, "-cf"),
    format: "tar",
    virtualSizeBytes: null,
    fails: ["importable"],
  })),
];

/** Every image that real programs make for the tests. */
export const CORPUS: readonly CorpusImage[] = [
  ...QCOW2,
  ...VMDK,
  ...OTHER_DISKS,
  ...PARTITIONED,
  ...DISCS,
  ...FOREIGN,
].map((image) => ({ virtualSizeBytes: DISK_BYTES, ...image }));
