import type { Detector, Examination } from "./detector.ts";
import type { ImageBytes } from "./image-bytes.ts";

// A master boot record: code, four entries of 16 bytes from 446 on, and a mark.
const SECTOR_BYTES = 512;
const ENTRIES_AT = 446;
const ENTRY_BYTES = 16;
const MARK_AT = 510;
const MARK = 0xaa55;
const PROTECTIVE = 0xee;

// The same mark ends the boot sector of a file system, and the header of a Linux kernel, which say so elsewhere.
const FATS_AT = 0x10;
const MEDIA_AT = 0x15;
const FIXED_DISK = 0xf8;
const BOOT_SECTOR_NAMES: readonly (readonly [position: number, name: string])[] = [
  [3, "NTFS    "],
  [3, "EXFAT   "],
  [54, "FAT"],
  [82, "FAT32"],
  [0x202, "HdrS"],
];

/** A disk with a protective master boot record before a GUID partition table. */
export const gpt: Detector = {
  format: "gpt",
  matches: (image) => isPartitioned(image) && entriesOf(image).some(isProtective),
  examine: examineTable,
};

/** A disk with a partition table of the older kind. */
export const mbr: Detector = {
  format: "mbr",
  matches: (image) => isPartitioned(image) && !entriesOf(image).some(isProtective),
  examine: examineTable,
};

function isPartitioned({ first }: ImageBytes): boolean {
  if (first.length < SECTOR_BYTES || first.readUInt16LE(MARK_AT) !== MARK) return false;
  const isFat = first[FATS_AT] === 2 && first[MEDIA_AT] === FIXED_DISK;
  const isOther = BOOT_SECTOR_NAMES.some(
    ([at, name]) => first.toString("latin1", at, at + name.length) === name,
  );
  return !isFat && !isOther;
}

function entriesOf({ first }: ImageBytes): readonly Buffer[] {
  return [0, 1, 2, 3].map((index) => {
    const start = ENTRIES_AT + index * ENTRY_BYTES;
    return first.subarray(start, start + ENTRY_BYTES);
  });
}

function isProtective(entry: Buffer): boolean {
  return entry[4] === PROTECTIVE;
}

function examineTable(image: ImageBytes): Examination {
  const entries = entriesOf(image);
  return {
    virtualSizeBytes: image.sizeBytes,
    checks: { mbr: tableProblem(entries) },
  };
}

function tableProblem(entries: readonly Buffer[]): string | undefined {
  const flag = entries.map((entry) => entry[0] ?? 0).find((each) => each !== 0 && each !== 0x80);
  if (flag !== undefined) return `its mbr has the boot flag 0x${flag.toString(16)}`;
  const used = entries.filter((entry) => entry[4] !== 0);
  if (used.length === 0) return "its mbr defines no partition";
  if (!entries.some(isProtective)) return undefined;
  const [protective] = entries;
  if (protective === undefined || !isProtective(protective) || used.length > 1) {
    return "the mbr before its gpt defines other partitions";
  }
  const startsRight = protective.subarray(1, 4).equals(Buffer.from([0, 2, 0]));
  if (startsRight && protective.readUInt32LE(8) === 1) return undefined;
  return "the mbr before its gpt does not start at the second sector";
}
