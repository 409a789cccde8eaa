import type { ImageBytes } from "./image-bytes.ts";

// A master boot record: code, four entries of 16 bytes from 446 on, and a mark.
export const SECTOR_BYTES = 512;
const ENTRIES_AT = 446;
const ENTRY_BYTES = 16;
const MARK_AT = 510;
const MARK = 0xaa55;
const PROTECTIVE = 0xee;

// The boot sector of a file system and the header of a Linux kernel end with the same mark. These
// other marks identify them.
const FATS_AT = 0x10;
const MEDIA_AT = 0x15;
const FIXED_DISK = 0xf8;
const NAMES: readonly (readonly [position: number, name: string])[] = [
  [3, "NTFS    "],
  [3, "EXFAT   "],
  [3, "-FVE-FS-"],
  [54, "FAT"],
  [82, "FAT32"],
  [0x202, "HdrS"],
];

/**
 * An entry of a partition table of the older kind. Its addresses by cylinder, head and sector are
 * not read: no program uses them.
 */
export interface MbrEntry {
  /** 1 to 4. */
  readonly number: number;
  readonly bootFlag: number;
  readonly type: number;
  readonly firstSector: number;
  readonly sectors: number;
  /** True if it stands for a GPT. */
  readonly isProtective: boolean;
  /** True if it defines a partition. */
  readonly isUsed: boolean;
}

/**
 * The partition entries in the first sector of an image; undefined if the sector has no mark of a
 * boot sector, or is the start of a known file system.
 */
export function bootSectorOf({ first }: ImageBytes): readonly MbrEntry[] | undefined {
  if (first.length < SECTOR_BYTES || first.readUInt16LE(MARK_AT) !== MARK) return undefined;
  const isFat = first[FATS_AT] === 2 && first[MEDIA_AT] === FIXED_DISK;
  const isOther = NAMES.some(
    ([at, name]) => first.toString("latin1", at, at + name.length) === name,
  );
  return isFat || isOther ? undefined : entriesOf(first);
}

function entriesOf(first: Buffer): readonly MbrEntry[] {
  return [1, 2, 3, 4].map((number) => {
    const start = ENTRIES_AT + (number - 1) * ENTRY_BYTES;
    const entry = first.subarray(start, start + ENTRY_BYTES);
    const type = entry[4] ?? 0;
    const sectors = entry.readUInt32LE(12);
    return {
      number,
      bootFlag: entry[0] ?? 0,
      type,
      firstSector: entry.readUInt32LE(8),
      sectors,
      isProtective: type === PROTECTIVE,
      isUsed: type !== 0 && sectors > 0,
    };
  });
}

/**
 * The reason why a boot sector does not hold a partition table, by the rule of Linux
 * (block/partitions/msdos.c); undefined when it holds one.
 */
export function noTableProblem(entries: readonly MbrEntry[]): string | undefined {
  const odd = entries.find(({ bootFlag }) => bootFlag !== 0 && bootFlag !== 0x80);
  if (odd !== undefined) {
    return `its boot sector does not hold a partition table: an entry has the boot flag 0x${odd.bootFlag.toString(16)}, not 0x0 or 0x80`;
  }
  const isEmpty = !entries.some(({ isUsed }) => isUsed);
  return isEmpty ? "its boot sector holds a partition table without a partition" : undefined;
}
