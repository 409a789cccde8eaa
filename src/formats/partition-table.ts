import { bootSectorOf, noTableProblem, SECTOR_BYTES, type MbrEntry } from "./boot-sector.ts";
import { cutOff, type Detector, type Examination, type Finding } from "./detector.ts";
import { fileSystemAt } from "./file-system.ts";
import { gptAt, gptAtStart, hasGptAt, hasGptMark } from "./gpt-header.ts";
import { wholeSectors, type ImageBytes } from "./image-bytes.ts";

/** A disk with a GUID partition table behind a protective master boot record. */
export const gpt: Detector = {
  format: "gpt",
  matches: (image) => {
    const entries = bootSectorOf(image);
    if (entries?.some(({ isProtective }) => isProtective) !== true) return false;
    return hasGptMark(image) || noTableProblem(entries) === undefined;
  },
  examine: async (image) => ({
    virtualSizeBytes: wholeSectors(image.sizeBytes),
    checks: { mbr: protectiveProblem(bootSectorOf(image) ?? []), ...(await gptChecks(image)) },
  }),
};

/** A disk with a partition table of the older kind. */
export const mbr: Detector = {
  format: "mbr",
  matches: (image) => {
    const entries = bootSectorOf(image);
    if (entries === undefined || noTableProblem(entries) !== undefined) return false;
    return !entries.some(({ isProtective }) => isProtective);
  },
  examine: async (image) => ({
    virtualSizeBytes: wholeSectors(image.sizeBytes),
    checks: await mbrChecks(image, bootSectorOf(image) ?? []),
  }),
};

/**
 * The finding of an unusual record before a GPT. Firmware and systems follow the GPT, but some
 * follow other partitions in the record.
 */
function protectiveProblem(entries: readonly MbrEntry[]): string | undefined {
  const others = entries.filter(({ isUsed, isProtective }) => isUsed && !isProtective);
  if (others.length > 0) return "the mbr before its gpt defines other partitions";
  const protective = entries.find(({ isProtective }) => isProtective);
  if (protective?.firstSector === 1) return undefined;
  return "the protective partition in the mbr before its gpt does not start at the second sector";
}

async function gptChecks(image: ImageBytes): Promise<Examination["checks"]> {
  const start = await gptAtStart(image);
  const sectorBytes = start?.sectorBytes ?? SECTOR_BYTES;
  const atEnd = BigInt(image.sizeBytes - sectorBytes);
  if (start !== undefined && start.problem === undefined) {
    return {
      gpt: await copyProblem(image, start),
      complete: endProblem(image, start.endBytes),
    };
  }
  // Systems then follow the copy at the end of the disk.
  const copy = await gptAt(image, atEnd, sectorBytes);
  const isSound = copy !== undefined && copy.problem === undefined;
  return {
    gpt: start?.problem ?? "its gpt has no header in the second sector",
    complete: isSound ? endProblem(image, copy.endBytes) : undefined,
  };
}

/** The finding of the other header. A disk that was enlarged has it before its end. */
async function copyProblem(
  image: ImageBytes,
  { otherAt, sectorBytes }: { readonly otherAt: bigint; readonly sectorBytes: number },
): Promise<string | undefined> {
  if (!image.holds(otherAt, sectorBytes)) {
    return `the copy of its gpt is at byte ${String(otherAt)}, but the image ends at byte ${image.sizeBytes}`;
  }
  if (!(await hasGptAt(image, otherAt))) {
    return `the copy of its gpt is missing at byte ${String(otherAt)}`;
  }
  const isAtEnd = otherAt + BigInt(sectorBytes) === BigInt(image.sizeBytes);
  return isAtEnd ? undefined : "the copy of its gpt is not in the last sector";
}

function endProblem(image: ImageBytes, endBytes: bigint): Finding | undefined {
  if (image.holds(0, endBytes)) return undefined;
  return cutOff(
    `its last partition ends at byte ${String(endBytes)}, but the image ends at byte ${image.sizeBytes}`,
  );
}

/**
 * The findings of partitions that end after the image: unusual if the file system in the partition
 * is complete, else the image is cut off.
 */
async function mbrChecks(
  image: ImageBytes,
  entries: readonly MbrEntry[],
): Promise<Examination["checks"]> {
  let problem: string | undefined;
  for (const { number, firstSector, sectors, isUsed } of entries) {
    const start = firstSector * SECTOR_BYTES;
    const end = start + sectors * SECTOR_BYTES;
    if (!isUsed || image.holds(0, end)) continue;
    const reason = `its partition ${number} ends at byte ${end}, but the image ends at byte ${image.sizeBytes}`;
    const held = await fileSystemAt(image, start);
    if (held === undefined || !image.holds(start, held.sizeBytes))
      return { mbr: undefined, complete: cutOff(reason) };
    problem = reason;
  }
  return { mbr: problem, complete: undefined };
}
