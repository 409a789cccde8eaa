import type { Detector } from "./detector.ts";
import type { ImageBytes } from "./image-bytes.ts";

// ISO 9660 and ECMA-167 (UDF) leave sixteen sectors of 2 KiB to the system; then come volume descriptors, each with its
// type in the first byte and its standard's name after that.
const DESCRIPTOR_AT = 32 * 1024;
// UDF alone begins with an extended area, in which its own descriptor stands.
const STANDARDS = ["CD001", "NSR02", "NSR03", "BEA01"];
const PRIMARY = 1;

// Offsets in a primary volume descriptor of ISO 9660, the little-endian halves of its both-endian numbers.
const VOLUME_BLOCKS_AT = DESCRIPTOR_AT + 80;
const BLOCK_SIZE_AT = DESCRIPTOR_AT + 128;

/** An optical disc: ISO 9660, or UDF without it. */
export const iso: Detector = {
  format: "iso",
  matches: (image) => STANDARDS.includes(standardOf(image)),
  // A hybrid boots from a stick too. Its tables describe the disc to other firmware, each in a way of its own, and as an iso
  // it is never read by them.
  covers: () => ["gpt", "mbr"],
  examine: (image) => {
    const statedBytes = volumeBytes(image);
    return {
      virtualSizeBytes: statedBytes,
      checks: {
        complete:
          statedBytes !== null && statedBytes > image.sizeBytes
            ? `its volume of ${statedBytes} bytes is cut off after ${image.sizeBytes}`
            : undefined,
      },
    };
  },
};

function standardOf({ first }: ImageBytes): string {
  return first.toString("latin1", DESCRIPTOR_AT + 1, DESCRIPTOR_AT + 6);
}

function volumeBytes(image: ImageBytes): number | null {
  const { first } = image;
  const isPrimary = standardOf(image) === "CD001" && first[DESCRIPTOR_AT] === PRIMARY;
  if (!isPrimary || first.length < BLOCK_SIZE_AT + 2) return null;
  return first.readUInt32LE(VOLUME_BLOCKS_AT) * first.readUInt16LE(BLOCK_SIZE_AT);
}
