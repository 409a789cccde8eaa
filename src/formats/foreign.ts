import type { Detector, ForeignFormat } from "./detector.ts";
import { isTar } from "./tar.ts";

type Kind = NonNullable<Detector["foreign"]>["kind"];

/** Formats of others that look like raw disks to whoever does not know them. */
export const FOREIGN_DETECTORS: readonly Detector[] = [
  beginning("parallels", "a Parallels disk", "disk", "WithoutFreeSpace", "WithouFreSpacExt"),
  beginning("cowd", "a COWD disk of VMware ESX", "disk", "COWD"),
  beginning("bochs", "a Bochs disk", "disk", "Bochs Virtual HD Image"),
  beginning("cloop", "a cloop disk", "disk", "#!/bin/sh\n#V2.0 Format\nmodprobe cloop"),
  beginning("gzip", "gzip data", "compressed", "\x1f\x8b\x08"),
  beginning("zstd", "zstd data", "compressed", "\x28\xb5\x2f\xfd"),
  beginning("xz", "xz data", "compressed", "\xfd7zXZ\0"),
  beginning("bzip2", "bzip2 data", "compressed", ...bzip2Marks()),
  beginning("lz4", "lz4 data", "compressed", "\x04\x22\x4d\x18"),
  beginning("zip", "a zip archive", "archive", "PK\x03\x04", "PK\x05\x06", "PK\x07\x08"),
  beginning("7z", "a 7z archive", "archive", "7z\xbc\xaf\x27\x1c"),
  beginning("rar", "a rar archive", "archive", "Rar!\x1a\x07"),
  foreign("tar", "a tar archive", "archive", ({ first }) => isTar(first)),
  // Its mark stands in its last sector.
  foreign("dmg", "a DMG disk of macOS", "disk", ({ lastSector }) =>
    lastSector.toString("latin1").startsWith("koly\0\0\0\x04"),
  ),
];

/** A format with marks at its start, any of which is enough: bytes as latin1. */
function beginning(
  format: ForeignFormat,
  what: string,
  kind: Kind,
  ...marks: readonly string[]
): Detector {
  return foreign(format, what, kind, ({ first }) =>
    marks.some((mark) => first.toString("latin1", 0, mark.length) === mark),
  );
}

function foreign(
  format: ForeignFormat,
  what: string,
  kind: Kind,
  matches: Detector["matches"],
): Detector {
  return {
    format,
    matches,
    foreign: { what, kind },
    examine: () => ({ virtualSizeBytes: null, checks: {} }),
  };
}

/** The level of compression, then the start of the first block, or the end where there is none. */
function bzip2Marks(): string[] {
  return Array.from("123456789").flatMap((level) => [
    `BZh${level}1AY&SY`,
    `BZh${level}\x17rE8P\x90`,
  ]);
}
