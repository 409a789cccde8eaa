import type { Detector, Examination } from "./detector.ts";
import type { ImageBytes } from "./image-bytes.ts";

const MAGIC = Buffer.from("LUKS\xba\xbe", "latin1");

// The LUKS on-disk formats, versions 1 and 2; big-endian.
const VERSION_AT = 6;
const HEADER_SIZE_AT = 8;
const PAYLOAD_SECTOR_AT = 104;
const DIGEST_ITERATIONS_AT = 164;
const SLOTS = { at: 208, count: 8, bytes: 48, active: 0x00ac71f3, iterationsAt: 4 };
const HEADER_BYTES = 592;

// Those who try a passphrase pay for them; Nova's bound.
const MOST_ITERATIONS = 12_000_000;

/** An encrypted disk, of which only the header can be judged. */
export const luks: Detector = {
  format: "luks",
  matches: ({ first }) => first.subarray(0, MAGIC.length).equals(MAGIC),
  examine: async (image) => {
    const version = (await image.read("luks header", VERSION_AT, 2)).readUInt16BE();
    if (version === 1) return examine1(image);
    if (version === 2) return examine2(image);
    return { virtualSizeBytes: null, checks: { version: `it is a luks of version ${version}` } };
  },
};

async function examine1(image: ImageBytes): Promise<Examination> {
  const header = await image.read("luks header", 0, HEADER_BYTES);
  const payloadAt = BigInt(header.readUInt32BE(PAYLOAD_SECTOR_AT)) * 512n;
  const isCutOff = payloadAt > BigInt(image.sizeBytes);
  return {
    virtualSizeBytes: isCutOff ? null : BigInt(image.sizeBytes) - payloadAt,
    checks: {
      encryption: { reason: "it is encrypted by luks1", encryption: "luks1" },
      complete: isCutOff ? "its luks payload is cut off" : undefined,
      iterations: iterationsProblem(header),
    },
  };
}

async function examine2(image: ImageBytes): Promise<Examination> {
  const sizes = await image.read("luks header", HEADER_SIZE_AT, 8);
  // Two copies of it stand before the data.
  const isCutOff = !image.holds(0, sizes.readBigUInt64BE() * 2n);
  return {
    virtualSizeBytes: null,
    checks: {
      encryption: { reason: "it is encrypted by luks2", encryption: "luks2" },
      complete: isCutOff ? "its luks header is cut off" : undefined,
    },
  };
}

function iterationsProblem(header: Buffer): string | undefined {
  const ofSlots = Array.from({ length: SLOTS.count }, (_, index) => SLOTS.at + index * SLOTS.bytes)
    .filter((at) => header.readUInt32BE(at) === SLOTS.active)
    .map((at) => header.readUInt32BE(at + SLOTS.iterationsAt));
  const most = Math.max(header.readUInt32BE(DIGEST_ITERATIONS_AT), ...ofSlots);
  if (most <= MOST_ITERATIONS) return undefined;
  return `its luks header wants ${most} iterations, and ${MOST_ITERATIONS} are allowed`;
}
