import { cutOff, type Detector, type Finding } from "./detector.ts";
import type { ImageBytes } from "./image-bytes.ts";
import { bootSectorOf, SECTOR_BYTES } from "./boot-sector.ts";
import { gptAtStart, hasGptMark } from "./gpt-header.ts";
import { standardsOf } from "./udf.ts";

// ISO 9660 leaves sixteen sectors of 2 KiB to the system; then come volume descriptors of a sector,
// each with its type in the first byte and its standard's name after that.
const DESCRIPTORS_AT = 32 * 1024;
const DESCRIPTOR_BYTES = 2048;
const STANDARD = "CD001";
const PRIMARY = 1;

// Offsets in a primary volume descriptor of ISO 9660, the little-endian halves of its both-endian
// numbers.
const VOLUME_BLOCKS_AT = 80;
const BLOCK_SIZE_AT = 128;

// Writers put padding after the data because drives read ahead. Copies of a disc leave it out.
const PADDING_BYTES = 150 * 2048;

/** An optical disc of ISO 9660, with or without UDF. */
export const iso: Detector = {
  format: "iso",
  matches: (image) => standardsOf(image).includes(STANDARD),
  // A hybrid also boots from a USB stick. Its partition tables describe the disc to other firmware;
  // they are not used when it is attached as an iso. A bridge is also a UDF volume of the same
  // files.
  covers: () => ["gpt", "mbr", "udf"],
  examine: async (image) => {
    const volumeBytes = volumeBytesOf(image);
    if (volumeBytes === null) return { virtualSizeBytes: null, checks: { complete: undefined } };
    const complete =
      completeProblem(image, volumeBytes) ?? (await appendedProblem(image, volumeBytes));
    return { virtualSizeBytes: volumeBytes, checks: { complete } };
  },
};

function volumeBytesOf({ first }: ImageBytes): number | null {
  for (let at = DESCRIPTORS_AT; at + DESCRIPTOR_BYTES <= first.length; at += DESCRIPTOR_BYTES) {
    const isOurs = first.toString("latin1", at + 1, at + 6) === STANDARD;
    if (!isOurs) return null;
    if (first[at] !== PRIMARY) continue;
    return first.readUInt32LE(at + VOLUME_BLOCKS_AT) * first.readUInt16LE(at + BLOCK_SIZE_AT);
  }
  return null;
}

function completeProblem(
  { sizeBytes, last }: ImageBytes,
  volumeBytes: number,
): Finding | undefined {
  const missingBytes = volumeBytes - sizeBytes;
  if (missingBytes <= 0) return undefined;
  // Either all of the padding is missing, or a part of it; then the image ends with zeros.
  const isInPadding = missingBytes < PADDING_BYTES && last.every((byte) => byte === 0);
  if (isInPadding || missingBytes === PADDING_BYTES) return undefined;
  return cutOff(`its volume ends at byte ${volumeBytes}, but the image ends at byte ${sizeBytes}`);
}

/**
 * The finding of a partition of a hybrid that is cut off. Only partitions after the volume count,
 * such as the one that UEFI boots from: a partition that begins inside the volume describes the
 * volume itself, and is often rounded up to whole cylinders.
 */
async function appendedProblem(
  image: ImageBytes,
  volumeBytes: number,
): Promise<Finding | undefined> {
  const appended = (bootSectorOf(image) ?? [])
    .filter(({ isUsed, isProtective }) => isUsed && !isProtective)
    .map(({ firstSector, sectors }) => ({
      start: BigInt(firstSector) * BigInt(SECTOR_BYTES),
      end: BigInt(firstSector + sectors) * BigInt(SECTOR_BYTES),
    }));
  const gpt = hasGptMark(image) ? await gptAtStart(image) : undefined;
  if (gpt !== undefined) appended.push({ start: gpt.startBytes, end: gpt.endBytes });
  const missing = appended.find(
    ({ start, end }) => start >= BigInt(volumeBytes) && !image.holds(0, end),
  );
  if (missing === undefined) return undefined;
  return cutOff(
    `its partition after the volume ends at byte ${missing.end}, but the image ends at byte ${image.sizeBytes}`,
  );
}
