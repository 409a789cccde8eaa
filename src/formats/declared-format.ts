import type { ContainerFormat, DiskFormat } from "../domain/disk-format.ts";
import type { Detector, Finding, RecognisedFormat } from "./detector.ts";

/** What an image was declared as. */
export interface DeclaredFormats {
  readonly diskFormat: DiskFormat;
  readonly containerFormat: ContainerFormat;
  /**
   * Formats that are decompressed before anything is stored, and judged again then. Default: none.
   */
  readonly decompressed?: readonly RecognisedFormat[];
}

// A partitioned disk and an encrypted one are raw to whoever attaches them. Amazon's three have no
// mark of their own, but a ramdisk is compressed as a rule; ploop's mark is that of Parallels.
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

// Amazon's containers are no wrapper: the image is the disk, the kernel, or the ramdisk.
const BARE: readonly ContainerFormat[] = ["bare", "ami", "ari", "aki"];

/**
 * Whether the declared disk format is that of something inside of the bytes. What is inside can't
 * be judged; that the bytes are no bare disk can.
 */
export function isWrapped({ containerFormat }: DeclaredFormats): boolean {
  return !BARE.includes(containerFormat);
}

/**
 * The disk format under which bytes are imported that nothing was declared of; undefined when there
 * is none.
 */
export function diskFormatOf(format: string): DiskFormat | undefined {
  const formats: readonly DiskFormat[] = ["raw", "qcow2", "vmdk", "vhd", "vhdx", "vdi", "iso"];
  // A disc may be attached as a disk; where nothing is declared, it is a disc.
  if (format === "iso") return "iso";
  return formats.find((each) => EXPECTED[each].some((expected) => expected === format));
}

/**
 * Why the bytes are not what was declared; undefined when they are.
 *
 * @param found - undefined for raw bytes
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

/** Why bytes that nothing was declared of can't be imported as they are. */
export function unimportable(found: Detector | undefined): Finding | undefined {
  return foreignProblem("it is", found);
}

function foreignProblem(is: string, found: Detector | undefined): Finding | undefined {
  if (found?.foreign === undefined) return undefined;
  const { what, wayOut } = found.foreign;
  return { reason: `${is} ${what}`, hint: wayOut };
}
