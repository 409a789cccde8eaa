import { describe, expect, it } from "vitest";
import { be, craftedIso, craftedMbr, le, patched } from "../support/crafted-images.ts";
import { failuresOf, judged } from "../support/judged.ts";

const NOTHING = Buffer.alloc(64 * 1024);
const END = NOTHING.length;

type Change = Parameters<typeof patched>[1];

const DISKS: readonly (readonly [format: string, what: string, changes: readonly Change[]])[] = [
  ["parallels", "a Parallels disk", [[0, "WithoutFreeSpace"]]],
  ["parallels", "a Parallels disk", [[0, "WithouFreSpacExt"]]],
  ["cowd", "a COWD disk of VMware ESX", [[0, "COWD"]]],
  ["bochs", "a Bochs disk", [[0, "Bochs Virtual HD Image"]]],
  ["cloop", "a cloop disk", [[0, "#!/bin/sh\n#V2.0 Format\nmodprobe cloop"]]],
  ["cloop", "a cloop disk", [[0, "#!/bin/sh\n#V1.0 Format\nmodprobe cloop file=$0"]]],
  ["dmg", "a DMG disk of macOS", [[END - 512, "koly\0\0\0\x04"]]],
  ["dmg", "an encrypted DMG disk of macOS", [[0, "encrcdsa\0\0\0\x02"]]],
  ["dmg", "an encrypted DMG disk of macOS", [[END - 8, "cdsaencr"]]],
  ["sparseimage", "a sparse image of macOS", [[0, "sprs\0\0\0\x03"]]],
  ["asif", "an ASIF disk of macOS", [[0, "shdw"]]],
  ["android_sparse", "an Android sparse image", [[0, le(4, 0xed26ff3a)]]],
  ["ewf", "an EWF image of a forensic tool (E01)", [[0, "EVF\t\r\n\xff\0"]]],
  ["ewf", "an EWF image of a forensic tool (E01)", [[0, "LVF\t\r\n\xff\0"]]],
  ["ewf", "an EWF image of a forensic tool (E01)", [[0, "EVF2\r\n\x81\0"]]],
  ["ewf", "an EWF image of a forensic tool (E01)", [[0, "LEF2\r\n\x81\0"]]],
  ["aff", "an AFF image of a forensic tool", [[0, "AFF10\r\n\0"]]],
  ["chd", "a CHD disk of MAME", [[0, "MComprHD"]]],
  ["partclone", "a Partclone backup", [[0, "partclone-image"]]],
  ["partimage", "a Partimage backup", [[0, "PaRtImAgE-VoLuMe"]]],
  ["ghost", "a Norton Ghost backup", [[0, "\xfe\xef\x01"]]],
  ["acronis", "an Acronis backup", [[0, "\xb4\x6e\x68\x44"]]],
  ["cso", "a compressed disc (CSO)", [[0, "CISO"]]],
  ["daa", "a compressed disc of PowerISO (DAA)", [[0, "DAA\0\0\0"]]],
  ["isz", "a compressed disc of UltraISO (ISZ)", [[0, "IsZ!"]]],
  ["mds", "the description of a disc (MDS)", [[0, "MEDIA DESCRIPTOR\x01"]]],
  ["uif", "a compressed disc of MagicISO (UIF)", [[END - 64, "bbis"]]],
  ["nrg", "a disc of Nero (NRG)", [[END - 12, "NER5"]]],
  [
    "cdi",
    "a disc of DiscJuggler (CDI)",
    [
      [END - 8, le(4, 0x80000006)],
      [END - 4, le(4, 512)],
    ],
  ],
  ["cd_sectors", "a disc in raw sectors (BIN)", [[0, `\0${"\xff".repeat(10)}\0\0\x02\0\x01`]]],
];

const COMPRESSED: readonly (readonly [
  format: string,
  what: string,
  mark: string,
  program: string,
])[] = [
  ["gzip", "gzip data", "\x1f\x8b\x08", "gzip -d"],
  ["zstd", "zstd data", "\x28\xb5\x2f\xfd", "zstd -d"],
  ["zstd", "zstd data", "\x50\x2a\x4d\x18\x04\0\0\0", "zstd -d"],
  ["zstd", "zstd data", "\x5f\x2a\x4d\x18\x04\0\0\0", "zstd -d"],
  ["zstd", "zstd data", "\x27\xb5\x2f\xfd", "zstd -d"],
  ["xz", "xz data", "\xfd7zXZ\0", "xz -d"],
  ["bzip2", "bzip2 data", "BZh91AY&SY", "bzip2 -d"],
  ["bzip2", "bzip2 data", "BZh9\x17rE8P\x90", "bzip2 -d"],
  ["lz4", "lz4 data", "\x04\x22\x4d\x18", "lz4 -d"],
  ["lz4", "lz4 data", "\x02\x21\x4c\x18", "lz4 -d"],
  ["lzma", "lzma data", `\x5d\0\0\x80\0${"\xff".repeat(8)}\0\x01\x02\x03\x04`, "xz -d"],
  ["lzma", "lzma data", "\x5d\0\0\x10\0\0\0\x10\0\0\0\0\0\0\x01\x02\x03\x04", "xz -d"],
  ["lzma", "lzma data", `\x6c\0\0\0\x01${"\xff".repeat(8)}\0\x01\x02\x03\x04`, "xz -d"],
  ["lzop", "lzop data", "\x89LZO\0\r\n\x1a\n", "lzop -d"],
  ["lzip", "lzip data", "LZIP\x01\x0c", "lzip -d"],
  ["snappy", "snappy data", "\xff\x06\0\0sNaPpY", "snzip -d"],
  ["compress", "data of compress (.Z)", "\x1f\x9d\x90", "gzip -d"],
  ["compress", "data of compress (.Z)", "\x1f\x9d\x0c", "gzip -d"],
];

const ARCHIVES: readonly (readonly [format: string, what: string, changes: readonly Change[]])[] = [
  ["zip", "a zip archive", [[0, "PK\x03\x04"]]],
  ["zip", "a zip archive", [[0, "PK\x05\x06"]]],
  ["7z", "a 7z archive", [[0, "7z\xbc\xaf\x27\x1c"]]],
  ["rar", "a rar archive", [[0, "Rar!\x1a\x07"]]],
  ["cpio", "a cpio archive", [[0, "070701"]]],
  ["cpio", "a cpio archive", [[0, "070702"]]],
  ["cpio", "a cpio archive", [[0, "070707"]]],
  [
    "cpio",
    "a cpio archive",
    [
      [0, le(2, 0o070707)],
      [20, le(2, 5)],
      [26, "disk\0"],
    ],
  ],
  [
    "cpio",
    "a cpio archive",
    [
      [0, be(2, 0o070707)],
      [20, be(2, 5)],
      [26, "disk\0"],
    ],
  ],
  ["ar", "an ar archive, such as a Debian package", [[0, "!<arch>\ndebian-binary"]]],
  ["rpm", "an RPM package", [[0, "\xed\xab\xee\xdb"]]],
  ["cab", "a Windows cabinet", [[0, "MSCF\0\0\0\0"]]],
  ["wim", "a Windows image archive (WIM)", [[0, "MSWIM\0\0\0"]]],
  ["wim", "a Windows image archive (WIM)", [[0, "WLPWM\0\0\0"]]],
  ["android_update", "an Android or ChromeOS update", [[0, "CrAU\0\0\0\0\0\0\0\x02"]]],
  ["zfs_stream", "a ZFS send stream", [[8, le(8, 0x2f5bacbacn)]]],
  ["zfs_stream", "a ZFS send stream", [[8, be(8, 0x2f5bacbacn)]]],
  ["btrfs_stream", "a btrfs send stream", [[0, "btrfs-stream\0"]]],
  ["lha", "an lha archive", [[2, "-lh5-"]]],
];

const OTHERS: readonly (readonly [format: string, what: string, mark: string])[] = [
  ["memory_state", "the saved memory of a QEMU guest", "QEVM\0\0\0\x03"],
  ["memory_state", "the saved memory of a libvirt guest", "LibvirtQemudSave"],
  ["memory_state", "the saved memory of a VirtualBox guest", "\x7fVirtualBox SavedState V2.0\n"],
  ["memory_state", "the saved memory of a VMware guest", "\xd2\xbe\xd2\xbe"],
  ["memory_dump", "a dump of memory", "KDUMP   "],
  ["memory_dump", "a dump of memory", `\x7fELF\x02\x01\x01${"\0".repeat(9)}\x04\0`],
  ["document", "a PDF document", "%PDF-1.7"],
  ["document", "a picture", "\x89PNG\r\n\x1a\n"],
  ["document", "a torrent file", "d8:announce41:http://tracker"],
];

describe("a foreign format", () => {
  it.each(DISKS)("is named: %s, %s, to be converted", async (format, what, changes) => {
    const verdict = await judged(patched(NOTHING, ...changes));

    expect(verdict).toMatchObject({ format, virtualSizeBytes: null, safe: false });
    expect(failuresOf(verdict)).toEqual({ importable: `it is ${what}` });
    expect(verdict.hints["importable"]).toContain("Convert it to qcow2 or raw");
  });

  it.each(COMPRESSED)(
    "is named: %s, %s, to be decompressed",
    async (format, what, mark, program) => {
      const verdict = await judged(patched(NOTHING, [0, mark]));

      expect(verdict).toMatchObject({ format, virtualSizeBytes: null, safe: false });
      expect(failuresOf(verdict)).toEqual({ importable: `it is ${what}` });
      expect(verdict.hints["importable"]).toContain(`Decompress it, for example with \`${program}`);
    },
  );

  it.each(ARCHIVES)("is named: %s, %s, to be unpacked", async (format, what, changes) => {
    const verdict = await judged(patched(NOTHING, ...changes));

    expect(verdict).toMatchObject({ format, virtualSizeBytes: null, safe: false });
    expect(failuresOf(verdict)).toEqual({ importable: `it is ${what}` });
    expect(verdict.hints["importable"]).toContain("Unpack it");
  });

  it.each(OTHERS)("is named: %s, %s", async (format, what, mark) => {
    const bytes = patched(NOTHING, [0, mark]);
    const asOva = { diskFormat: "vmdk", containerFormat: "ova" } as const;

    expect(failuresOf(await judged(bytes))).toEqual({ importable: `it is ${what}` });
    expect(await judged(bytes, {}, asOva)).toMatchObject({
      format,
      safe: false,
      checks: { declared_format: `its bytes are ${what}` },
    });
  });

  it("hints at the transform that decompresses it, and at no setting that would not help", async () => {
    const declared = { diskFormat: "raw", containerFormat: "bare" } as const;
    const { hints } = await judged(patched(NOTHING, [0, "\x1f\x8b\x08"]), {}, declared);

    expect(hints["declared_format"]).toBe(
      "Decompress it, for example with `gzip -d`, and import the result, or add `decompress` to `import.transforms`.",
    );
  });

  it("is not recognised in bytes with a similar start", async () => {
    for (const mark of [
      ...["BZh9 is a text", "\x1f\x8b", "PK", "With", "Bochs", "EVF\t", "encr", "\x1f\x9d\xff"],
      // Dictionaries that no encoder writes, and a size that no disk has.
      `\x5d\x01\0\x80\0${"\xff".repeat(8)}\0\x01\x02\x03\x04`,
      "\x5d\0\0\x80\0\x01\0\0\0\0\0\0\x7f\0\x01\x02\x03\x04",
      "\xc7\x71 is not a cpio",
      "\x7fELF\x02\x01\x01",
    ]) {
      expect(await judged(patched(NOTHING, [0, mark]))).toMatchObject({
        format: "raw",
        safe: true,
      });
    }
  });

  it("is not recognised after a disc, nor in two bytes of a boot sector", async () => {
    expect(await judged(patched(craftedIso(), [END - 12, "NER5"]))).toMatchObject({
      format: "iso",
      safe: true,
    });
    expect(await judged(patched(craftedMbr(), [0, "\x1f\x9d\x90"]))).toMatchObject({
      format: "mbr",
      safe: true,
    });
  });
});

describe("a banned format", () => {
  it.each([
    ["qed", "QED\0", "it is a qed"],
    ["composite", "composite_disk\x1d", "it is a crosvm composite disk"],
  ])("is refused whatever it is declared as: %s", async (format, mark, reason) => {
    const bytes = patched(NOTHING, [0, mark]);
    const lax = { requireImageFormatMatch: false };

    for (const containerFormat of ["bare", "ova", "docker"] as const) {
      const verdict = await judged(bytes, lax, { diskFormat: "raw", containerFormat });

      expect(verdict).toMatchObject({ format, safe: false });
      expect(verdict.checks["banned"]).toContain(reason);
    }
  });
});
