import type { ContainerFormat, DiskFormat } from "../domain/disk-format.ts";
import type { Detector, Finding, RecognisedFormat } from "./detector.ts";

/** The formats that the user declared for an image. */
export interface DeclaredFormats {
  readonly diskFormat: DiskFormat;
  readonly containerFormat: ContainerFormat;
  /**
   * Formats that a transform decompresses, after which the product is judged again. Default: none.
   */
  readonly decompressed?: readonly RecognisedFormat[];
}

// A hypervisor attaches a partitioned or encrypted disk as raw. Amazon's three formats have no mark
// of their own, but a ramdisk is usually compressed. ploop has the mark of Parallels.
const RAW: readonly RecognisedFormat[] = ["raw", "gpt", "mbr", "luks", "udf", "iso"];

const EXPECTED: Readonly<Record<DiskFormat, readonly RecognisedFormat[]>> = {
  ami: ["raw", "gpt", "mbr"],
  ari: ["raw", "cpio", "gzip", "zstd", "xz", "bzip2", "lz4", "lzma", "lzop"],
  aki: ["raw"],
  ploop: ["raw", "parallels"],
  raw: RAW,
  qcow2: ["qcow2"],
  vmdk: ["vmdk"],
  vhd: ["vhd"],
  vhdx: ["vhdx"],
  vdi: ["vdi"],
  iso: ["iso", "udf"],
};

// Amazon's containers do not wrap anything: the image is the disk, the kernel or the ramdisk.
const BARE: readonly ContainerFormat[] = ["bare", "ami", "ari", "aki"];

/**
 * True if the declared disk format is that of a disk inside a container. That disk cannot be
 * judged, but a container that is really a bare disk can be refused.
 */
export function isWrapped({ containerFormat }: DeclaredFormats): boolean {
  return !BARE.includes(containerFormat);
}

/**
 * The disk format that an image without a declared one gets for its recognised format; undefined
 * when there is none.
 */
export function diskFormatOf(format: string): DiskFormat | undefined {
  const formats: readonly DiskFormat[] = ["raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi", "iso"];
  // A disc can also be attached as a raw disk. Without a declaration it is a disc.
  if (format === "iso") return "iso";
  return formats.find((each) => EXPECTED[each].some((expected) => expected === format));
}

/**
 * The reason why the bytes are not of the declared format; undefined when they are.
 *
 * @param found - undefined for raw bytes
 * @internal
 */
export function mismatch(
  declared: DeclaredFormats,
  found: Detector | undefined,
): string | Finding | undefined {
  const format = found?.format ?? "raw";
  if (isWrapped(declared)) {
    const kind = found === undefined ? undefined : (found.foreign?.kind ?? "disk");
    if (kind === "disk") return `its bytes are a bare "${format}"`;
    return kind === "other" ? foreignProblem("its bytes are", found) : undefined;
  }
  const expected = [...EXPECTED[declared.diskFormat], ...(declared.decompressed ?? [])];
  if (expected.includes(format)) return undefined;
  return foreignProblem("its bytes are", found) ?? `its bytes are "${format}"`;
}

/** The reason why bytes without a declared format cannot be imported as they are. @internal */
export function unimportable(found: Detector | undefined): Finding | undefined {
  return foreignProblem("it is", found);
}

function foreignProblem(is: string, found: Detector | undefined): Finding | undefined {
  if (found?.foreign === undefined) return undefined;
  const { what, wayOut } = found.foreign;
  return { reason: `${is} ${what}`, hint: wayOut };
}
