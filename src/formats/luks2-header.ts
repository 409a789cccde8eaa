import { createHash } from "node:crypto";
import { z } from "zod";
import { BrokenImage, type ImageBytes } from "./image-bytes.ts";

// The LUKS2 on-disk format, section 2: a binary header, big-endian, then JSON that ends with a zero
// byte. A second copy follows.
const FIRST_MAGIC = Buffer.from("LUKS\xba\xbe", "latin1");
const SECOND_MAGIC = Buffer.from("SKUL\xba\xbe", "latin1");
const SIZE_AT = 8;
const SEQUENCE_AT = 16;
const ALGORITHM = { at: 72, bytes: 32 };
const POSITION_AT = 256;
const CHECKSUM = { at: 448, bytes: 64 };
const BINARY_BYTES = 4096;

/**
 * The sizes in bytes that a header can have, JSON included. The second copy begins where the first
 * ends.
 */
const SIZES = [16, 32, 64, 128, 256, 512, 1024, 2048, 4096].map((kib) => kib * 1024);

/** The checksums that cryptsetup can write. By default it writes sha256. */
const ALGORITHMS = /^sha(?:1|224|256|384|512)$/;

// JSON has no integers of 64 bits: offsets and sizes are decimal strings.
const bytes = z
  .string()
  .regex(/^\d{1,20}$/)
  .transform(BigInt);
const hashing = z.object({ iterations: z.number().optional() });

const metadata = z.object({
  keyslots: z.record(
    z.string(),
    z.object({ area: z.object({ offset: bytes, size: bytes }), kdf: hashing.optional() }),
  ),
  segments: z.record(
    z.string(),
    z.object({
      offset: bytes,
      size: z.union([z.literal("dynamic"), bytes]),
      sector_size: z.union([512, 1024, 2048, 4096].map((each) => z.literal(each))).default(512),
      integrity: z.unknown().optional(),
      flags: z.array(z.string()).default([]),
    }),
  ),
  digests: z.record(z.string(), hashing),
});

/** The parts of a LUKS2 header that the verdict needs. Offsets and sizes are in bytes. */
export interface Luks2Header extends z.infer<typeof metadata> {
  /** The size of one copy, JSON included. */
  readonly copyBytes: number;
}

interface Copy {
  readonly sequence: bigint;
  readonly bytes: Buffer;
}

/**
 * Reads the header of a LUKS2 container as cryptsetup does: it has two copies, and the newer one
 * with a right checksum counts.
 *
 * @throws BrokenImage when the file ends inside the first copy, when the checksums of both copies
 *   are wrong, or when the JSON is invalid
 */
export async function readLuks2Header(image: ImageBytes): Promise<Luks2Header> {
  const binary = await image.read("luks2 header", 0, BINARY_BYTES);
  const stated = binary.readBigUInt64BE(SIZE_AT);
  if (SIZES.includes(Number(stated))) {
    // Read first: a file that ends inside the copy is reported as cut off, not by its checksum.
    await image.read("luks2 header", 0, Number(stated));
  }
  const first = await copyAt(image, 0, FIRST_MAGIC);
  // A damaged first copy does not show where the second one begins.
  const places = first === undefined ? SIZES : [first.bytes.length];
  const copies = first === undefined ? [] : [first];
  for (const place of places) {
    const second = await copyAt(image, place, SECOND_MAGIC);
    if (second !== undefined) copies.push(second);
  }
  const [newest, other] = copies;
  if (newest === undefined) {
    throw new BrokenImage("the checksums of both copies of its luks2 header are wrong");
  }
  return parsed(other !== undefined && other.sequence > newest.sequence ? other : newest);
}

async function copyAt(
  image: ImageBytes,
  position: number,
  magic: Buffer,
): Promise<Copy | undefined> {
  if (!image.holds(position, BINARY_BYTES)) return undefined;
  const binary = await image.read("luks2 header", position, BINARY_BYTES);
  const copyBytes = Number(binary.readBigUInt64BE(SIZE_AT));
  const isOne =
    binary.subarray(0, magic.length).equals(magic) &&
    binary.readBigUInt64BE(POSITION_AT) === BigInt(position) &&
    SIZES.includes(copyBytes) &&
    (position === 0 || position === copyBytes) &&
    image.holds(position, copyBytes);
  if (!isOne) return undefined;
  const copy = await image.read("luks2 header", position, copyBytes);
  if (!hasRightChecksum(copy)) return undefined;
  return { sequence: copy.readBigUInt64BE(SEQUENCE_AT), bytes: copy };
}

function hasRightChecksum(copy: Buffer): boolean {
  const algorithm = untilZero(copy.subarray(ALGORITHM.at, ALGORITHM.at + ALGORITHM.bytes));
  if (!ALGORITHMS.test(algorithm)) return false;
  const summed = Buffer.from(copy);
  summed.fill(0, CHECKSUM.at, CHECKSUM.at + CHECKSUM.bytes);
  const digest = createHash(algorithm).update(summed).digest();
  return digest.equals(copy.subarray(CHECKSUM.at, CHECKSUM.at + digest.length));
}

function parsed(copy: Copy): Luks2Header {
  let json: unknown;
  try {
    json = JSON.parse(untilZero(copy.bytes.subarray(BINARY_BYTES)));
  } catch {
    throw new BrokenImage("the JSON of its luks2 header cannot be read");
  }
  const { data, error } = metadata.safeParse(json);
  if (data !== undefined) return { ...data, copyBytes: copy.bytes.length };
  const place = error.issues[0]?.path.join(".") ?? "";
  throw new BrokenImage(`the JSON of its luks2 header is invalid at "${place}"`);
}

function untilZero(text: Buffer): string {
  const end = text.indexOf(0);
  return text.toString("utf8", 0, end < 0 ? text.length : end);
}
