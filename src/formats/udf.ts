import type { Detector } from "./detector.ts";
import { cutOff, type Finding } from "./detector.ts";
import { wholeSectors, type ImageBytes } from "./image-bytes.ts";

// ECMA-167: after sixteen sectors of 2 KiB for the system there are descriptors of the standards
// that the volume follows.
const DESCRIPTORS_AT = 32 * 1024;
const DESCRIPTOR_BYTES = [2048, 4096];
const MOST_DESCRIPTORS = 8;
const STANDARDS = ["NSR02", "NSR03"];

// The anchor in block 256 states the place of the volume's descriptors. Hard disks and discs have
// blocks of different sizes.
const BLOCK_SIZES = [2048, 512, 4096, 1024];
const ANCHOR_BLOCK = 256;
const ANCHOR_TAG = 2;
const PARTITION_TAG = 5;
const SEQUENCE = { lengthAt: 16, blockAt: 20, mostBlocks: 32 };
const PARTITION = { startAt: 188, lengthAt: 192 };

/**
 * A UDF volume: on a disc, or on a hard disk as Windows, macOS and mkudffs write it. It can be
 * attached as either, so that it may be declared as raw or iso. A disc that is also ISO 9660 (a
 * bridge) is an iso.
 */
export const udf: Detector = {
  format: "udf",
  matches: (image) => standardsOf(image).some((name) => STANDARDS.includes(name)),
  // A hard disk also has a boot sector that describes the volume.
  covers: () => ["gpt", "mbr"],
  examine: async (image) => ({
    virtualSizeBytes: wholeSectors(image.sizeBytes),
    checks: { complete: await partitionProblem(image) },
  }),
};

/** The names of the standards in the descriptors of a volume, such as CD001, BEA01, NSR02. */
export function standardsOf({ first }: ImageBytes): readonly string[] {
  return DESCRIPTOR_BYTES.flatMap((bytes) =>
    Array.from({ length: MOST_DESCRIPTORS }, (_, index) => DESCRIPTORS_AT + index * bytes).map(
      (at) => first.toString("latin1", at + 1, at + 6),
    ),
  ).filter((name) => /^[A-Z]{2,3}\d{2,3}$/.test(name));
}

async function partitionProblem(image: ImageBytes): Promise<Finding | undefined> {
  for (const blockBytes of BLOCK_SIZES) {
    const anchorAt = ANCHOR_BLOCK * blockBytes;
    if (!image.holds(anchorAt, 512)) continue;
    const anchor = await image.read("udf anchor", anchorAt, 512);
    const isAnchor =
      anchor.readUInt16LE(0) === ANCHOR_TAG && anchor.readUInt32LE(12) === ANCHOR_BLOCK;
    if (!isAnchor) continue;
    return endProblem(image, blockBytes, anchor);
  }
  return cutOff("its udf anchor is missing");
}

async function endProblem(
  image: ImageBytes,
  blockBytes: number,
  anchor: Buffer,
): Promise<Finding | undefined> {
  const position = anchor.readUInt32LE(SEQUENCE.blockAt) * blockBytes;
  const blocks = Math.min(
    Math.ceil(anchor.readUInt32LE(SEQUENCE.lengthAt) / blockBytes),
    SEQUENCE.mostBlocks,
  );
  const sequence = await image.read("udf volume descriptors", position, blocks * blockBytes);
  for (let at = 0; at + 512 <= sequence.length; at += blockBytes) {
    if (sequence.readUInt16LE(at) !== PARTITION_TAG) continue;
    const start = sequence.readUInt32LE(at + PARTITION.startAt);
    const endBytes = (start + sequence.readUInt32LE(at + PARTITION.lengthAt)) * blockBytes;
    if (image.holds(0, endBytes)) return undefined;
    return cutOff(
      `its udf partition ends at byte ${endBytes}, but the image ends at byte ${image.sizeBytes}`,
    );
  }
  return undefined;
}
