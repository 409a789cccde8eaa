import { COMPRESSIONS, recogniseCompression, type Compression } from "../domain/compression.ts";
import type { Detector, Foreign, ForeignFormat } from "./detector.ts";
import type { ImageBytes } from "./image-bytes.ts";
import { isTar } from "./tar.ts";

type Matches = Detector["matches"];

const WAYS_OUT = {
  disk: "Convert it to qcow2 or raw, with `qemu-img convert` if that can read it, or with the program that wrote it.",
  archive: "Unpack it, and import the disk image inside it.",
  other: "Import the disk image itself, not this file.",
};

/**
 * Formats that cannot be imported. Without these detectors their files would be taken for raw
 * disks, and a guest would boot from compressed bytes, a backup or a document. Marks are bytes in
 * latin1, from the sources named.
 */
export const FOREIGN_DETECTORS: readonly Detector[] = [
  // Disks that other programs attach.
  disk("parallels", "a Parallels disk", at(0, "WithoutFreeSpace", "WithouFreSpacExt")),
  disk("cowd", "a COWD disk of VMware ESX", at(0, "COWD")),
  disk("bochs", "a Bochs disk", at(0, "Bochs Virtual HD Image")),
  disk("cloop", "a cloop disk", ({ first }) =>
    /^#!\/bin\/sh\n[^\0]{0,100}modprobe cloop/.test(first.toString("latin1", 0, 128)),
  ),
  // Its mark is in its last sector.
  disk("dmg", "a DMG disk of macOS", ({ lastSector }) =>
    lastSector.toString("latin1").startsWith("koly\0\0\0\x04"),
  ),
  // vfdecrypt: version 2 has its mark at the start, version 1 in the last eight bytes.
  disk("dmg", "an encrypted DMG disk of macOS", (image) =>
    [textAt(image, 0, 8), atEnd(image, 8, 8)].some((mark) =>
      ["encrcdsa", "cdsaencr"].includes(mark),
    ),
  ),
  disk("sparseimage", "a sparse image of macOS", at(0, "sprs\0\0\0\x03")),
  disk("asif", "an ASIF disk of macOS", at(0, "shdw")),
  // Android's libsparse, sparse_format.h.
  disk("android_sparse", "an Android sparse image", at(0, "\x3a\xff\x26\xed")),
  // libewf: EnCase and SMART, versions 1 and 2, of disks, of files, and of changes.
  disk(
    "ewf",
    "an EWF image of a forensic tool (E01)",
    at(0, ...["EVF", "LVF", "DVF"].map((mark) => `${mark}\t\r\n\xff\0`)),
    at(0, ...["EVF2", "LEF2"].map((mark) => `${mark}\r\n\x81\0`)),
  ),
  disk("aff", "an AFF image of a forensic tool", at(0, "AFF10\r\n\0", "AFFLIB")),
  disk("chd", "a CHD disk of MAME", at(0, "MComprHD")),
  disk("partclone", "a Partclone backup", at(0, "partclone-image")),
  disk("partimage", "a Partimage backup", at(0, "PaRtImAgE-VoLuMe")),
  disk("ghost", "a Norton Ghost backup", at(0, "\xfe\xef\x01", "\xfe\xef\x02")),
  disk("acronis", "an Acronis backup", at(0, "\xb4\x6e\x68\x44")),
  disk("sdi", "a Windows SDI disk", at(0, "$SDI0001")),

  // Discs that other programs attach. Most of them have their mark at the end, after data that may
  // be a complete disc.
  disk("cso", "a compressed disc (CSO)", at(0, "CISO", "ZISO")),
  disk("daa", "a compressed disc of PowerISO (DAA)", at(0, "DAA\0\0\0", "GBI\0\0\0")),
  disk("isz", "a compressed disc of UltraISO (ISZ)", at(0, "IsZ!")),
  disk("mds", "the description of a disc (MDS)", at(0, "MEDIA DESCRIPTOR\x01")),
  disk("uif", "a compressed disc of MagicISO (UIF)", (image) => atEnd(image, 64, 4) === "bbis"),
  weak(
    disk("nrg", "a disc of Nero (NRG)", (image) => {
      return atEnd(image, 12, 4) === "NER5" || atEnd(image, 8, 4) === "NERO";
    }),
  ),
  weak(disk("cdi", "a disc of DiscJuggler (CDI)", isCdi)),
  // ECMA-130: each sector of 2352 bytes begins with a pattern for the drive.
  disk("cd_sectors", "a disc in raw sectors (BIN)", at(0, `\0${"\xff".repeat(10)}\0`)),

  compressed("gzip", "gzip data", "gzip -d", by("gzip")),
  // RFC 8878, then the formats before version 0.8.
  compressed("zstd", "zstd data", "zstd -d", by("zstd"), ({ first }) =>
    /^[\x22-\x27]\xb5\x2f\xfd/.test(first.toString("latin1", 0, 4)),
  ),
  other("zstd_dictionary", "a dictionary of zstd", at(0, "\x37\xa4\x30\xec")),
  compressed("xz", "xz data", "xz -d", by("xz")),
  compressed("bzip2", "bzip2 data", "bzip2 -d", at(0, ...bzip2Marks())),
  compressed("lz4", "lz4 data", "lz4 -d", at(0, "\x04\x22\x4d\x18", "\x02\x21\x4c\x18")),
  compressed("lzma", "lzma data", "xz -d --format=lzma", isLzma),
  compressed("lzop", "lzop data", "lzop -d", at(0, "\x89LZO\0\r\n\x1a\n")),
  compressed("lzip", "lzip data", "lzip -d", at(0, "LZIP\0", "LZIP\x01")),
  compressed("lrzip", "lrzip data", "lrzip -d", at(0, "LRZI")),
  compressed("rzip", "rzip data", "rzip -d", at(0, "RZIP")),
  compressed("snappy", "snappy data", "snzip -d", at(0, "\xff\x06\0\0sNaPpY")),
  // Two bytes, then a number of bits from 9 to 16 and a flag.
  weak(
    compressed("compress", "data of compress (.Z)", "gzip -d", ({ first }) =>
      /^\x1f\x9d[\x09-\x10\x89-\x90]/.test(first.toString("latin1", 0, 3)),
    ),
  ),
  weak(compressed("pack", "data of pack (.z)", "gzip -d", at(0, "\x1f\x1e\0"))),

  archive("zip", "a zip archive", by("zip"), at(0, "PK\x05\x06", "PK\x07\x08", "PK00PK")),
  archive("7z", "a 7z archive", at(0, "7z\xbc\xaf\x27\x1c")),
  archive("rar", "a rar archive", at(0, "Rar!\x1a\x07")),
  archive("tar", "a tar archive", ({ first }) => isTar(first)),
  // Documentation/driver-api/early-userspace/buffer-format.rst of Linux, and cpio(5) for the binary
  // kind.
  archive("cpio", "a cpio archive", at(0, "070701", "070702", "070707"), isBinaryCpio),
  archive("ar", "an ar archive, such as a Debian package", at(0, "!<arch>\n", "!<thin>\n")),
  archive("rpm", "an RPM package", at(0, "\xed\xab\xee\xdb")),
  archive("cab", "a Windows cabinet", at(0, "MSCF\0\0\0\0")),
  archive("xar", "a xar archive of macOS", at(0, "xar!\0\x1c")),
  weak(
    archive("arj", "an arj archive", ({ first }) =>
      /^\x60\xea[^\0][^][\x1e-\x30]/.test(first.toString("latin1", 0, 5)),
    ),
  ),
  archive("lha", "an lha archive", ({ first }) =>
    /^-l[hz][0-9ds]-$/.test(first.toString("latin1", 2, 7)),
  ),
  // "[MS-WIM]"; the second is wimlib's kind for pipes. Parts and encrypted ones (ESD) begin the
  // same way.
  archive("wim", "a Windows image archive (WIM)", at(0, "MSWIM\0\0\0", "WLPWM\0\0\0")),
  archive("android_update", "an Android or ChromeOS update", at(0, "CrAU\0\0\0\0")),
  // zfs_ioctl.h, DMU_BACKUP_MAGIC, in either order of bytes; btrfs's send.h; xfsdump's rec_hdr.h.
  archive(
    "zfs_stream",
    "a ZFS send stream",
    at(8, "\xac\xcb\xba\xf5\x02\0\0\0", "\0\0\0\x02\xf5\xba\xcb\xac"),
  ),
  archive("btrfs_stream", "a btrfs send stream", at(0, "btrfs-stream\0")),
  archive("xfsdump", "an XFS dump", at(0, "xFSdump0")),

  other("memory_state", "the saved memory of a QEMU guest", at(0, "QEVM")),
  other("memory_state", "the saved memory of a libvirt guest", at(0, "LibvirtQemud")),
  other(
    "memory_state",
    "the saved memory of a Xen guest",
    at(0, "LinuxGuestRecord", "Xen saved domain"),
  ),
  other("memory_state", "the saved memory of a VirtualBox guest", at(0, "\x7fVirtualBox Sav")),
  other(
    "memory_state",
    "the saved memory of a VMware guest",
    at(0, ...["\xd0", "\xd1", "\xd2"].map((first) => `${first}\xbe\xd2\xbe`)),
  ),
  other(
    "memory_dump",
    "a dump of memory",
    at(0, "KDUMP   ", "makedumpfile\0", "EMiL\x01\0\0\0", "PAGEDUMP", "PAGEDU64"),
    // ELF, of the type ET_CORE.
    ({ first }) => /^\x7fELF[\x01\x02](?:\x01[^]{10}\x04\0|\x02[^]{10}\0\x04)/.test(startOf(first)),
  ),
  other("document", "a PDF document", at(0, "%PDF-")),
  other(
    "document",
    "a picture",
    at(0, "\x89PNG\r\n\x1a\n", "\xff\xd8\xff\xe0", "\xff\xd8\xff\xe1"),
  ),
  other("document", "a picture", at(0, "GIF87a", "GIF89a")),
  other("document", "a document of Microsoft Office", at(0, "\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1")),
  other("document", "an SQLite database", at(0, "SQLite format 3\0")),
  other(
    "document",
    "a capture of packets",
    at(0, "\xd4\xc3\xb2\xa1\x02\0", "\xa1\xb2\xc3\xd4\0\x02"),
  ),
  other("document", "a torrent file", ({ first }) =>
    /^d\d{1,2}:(?:announce|comment|created|creation|info|encoding|nodes|url-list)/.test(
      first.toString("latin1", 0, 32),
    ),
  ),
];

/** Matches an image with one of these marks at this place. */
function at(position: number, ...marks: readonly string[]): Matches {
  return (image) => marks.some((mark) => textAt(image, position, mark.length) === mark);
}

/** Matches an image that is compressed in this way. */
function by(compression: Compression): Matches {
  return ({ first }) => recogniseCompression(first) === compression;
}

function textAt({ first }: ImageBytes, position: number, length: number): string {
  return first.toString("latin1", position, position + length);
}

/** The bytes that begin this many bytes before the end. */
function atEnd({ last }: ImageBytes, before: number, length: number): string {
  const start = last.length - before;
  return start < 0 ? "" : last.toString("latin1", start, start + length);
}

function startOf(first: Buffer): string {
  return first.toString("latin1", 0, 64);
}

function disk(format: ForeignFormat, what: string, ...marks: readonly Matches[]): Detector {
  return foreign(format, { what, kind: "disk", wayOut: WAYS_OUT.disk }, marks);
}

function compressed(
  format: ForeignFormat,
  what: string,
  program: string,
  ...marks: readonly Matches[]
): Detector {
  const isTransform = (COMPRESSIONS as readonly ForeignFormat[]).includes(format);
  const orTransform = isTransform ? ", or add `decompress` to `import.transforms`" : "";
  const wayOut = `Decompress it, for example with \`${program}\`, and import the result${orTransform}.`;
  return foreign(format, { what, kind: "compressed", wayOut }, marks);
}

function archive(format: ForeignFormat, what: string, ...marks: readonly Matches[]): Detector {
  return foreign(format, { what, kind: "archive", wayOut: WAYS_OUT.archive }, marks);
}

function other(format: ForeignFormat, what: string, ...marks: readonly Matches[]): Detector {
  return foreign(format, { what, kind: "other", wayOut: WAYS_OUT.other }, marks);
}

function foreign(format: ForeignFormat, is: Foreign, marks: readonly Matches[]): Detector {
  return {
    format,
    foreign: is,
    matches: (image) => marks.some((matches) => matches(image)),
    examine: () => ({ virtualSizeBytes: null, checks: {} }),
  };
}

/**
 * A format whose mark may occur in other formats by chance, or after a disc that is complete
 * without it.
 */
function weak(detector: Detector): Detector {
  return { ...detector, isWeak: true };
}

/** The marks of bzip2: a compression level, then the first block or the end of an empty file. */
function bzip2Marks(): string[] {
  return Array.from("123456789").flatMap((level) => [
    `BZh${level}1AY&SY`,
    `BZh${level}\x17rE8P\x90`,
  ]);
}

// The header of LZMA has no mark. The programs xz and file recognise it by valid fields.
const LZMA = { mostProperties: 225, dictionaryAt: 1, sizeAt: 5, dataAt: 13, mostBytes: 2n ** 38n };

function isLzma({ first }: ImageBytes): boolean {
  if (first.length < LZMA.dataAt + 5 || (first[0] ?? 255) >= LZMA.mostProperties) return false;
  const dictionary = first.readUInt32LE(LZMA.dictionaryAt);
  // 2^n, or 2^n + 2^(n-1), of 4 KiB or more.
  const odd = dictionary / 2 ** Math.floor(Math.log2(Math.max(1, dictionary)));
  const isDictionary = dictionary >= 4096 && (odd === 1 || odd === 1.5);
  const size = first.readBigUInt64LE(LZMA.sizeAt);
  const isSize = size === 2n ** 64n - 1n || (size > 0n && size < LZMA.mostBytes);
  // The first byte of a range coder is 0, and the bytes after it are not all 0.
  const isCoded = first[LZMA.dataAt] === 0 && first.readUInt32BE(LZMA.dataAt + 1) !== 0;
  return isDictionary && isSize && isCoded;
}

/**
 * Matches the binary kind of cpio: a number of two bytes in either order, and a name of the length
 * that the header states.
 */
function isBinaryCpio({ first }: ImageBytes): boolean {
  if (first.length < 26) return false;
  const isLittle = first.readUInt16LE(0) === 0o070707;
  if (!isLittle && first.readUInt16BE(0) !== 0o070707) return false;
  const nameBytes = isLittle ? first.readUInt16LE(20) : first.readUInt16BE(20);
  if (nameBytes < 2 || nameBytes > 4096 || first.length < 26 + nameBytes) return false;
  return first.indexOf(0, 26) === 26 + nameBytes - 1;
}

/** Matches DiscJuggler's versions 2 to 3.5, with the place of the description in the file. */
function isCdi({ last, sizeBytes }: ImageBytes): boolean {
  if (last.length < 8) return false;
  const version = last.readUInt32LE(last.length - 8);
  const position = last.readUInt32LE(last.length - 4);
  return version >= 0x80000004 && version <= 0x80000006 && position > 0 && position < sizeBytes;
}
